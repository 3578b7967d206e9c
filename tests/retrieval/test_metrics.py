"""Retrieval metrics against a slow oracle, and one test for each rule that rankings break elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch import Tensor
from torch.nn.functional import normalize

from dml.retrieval import average_precisions, query_scores, ranking, retrieval_metrics, within
from tests.retrieval.embeddings import clustered, coarse, search_by_small_blocks

BACKENDS = ("faiss", "torch")
NAMES = ("recall@1", "recall@2", "recall@4", "recall@8", "r_precision", "map@r")


def oracle(query, labels, gallery=None, gallery_labels=None, recall_at=(1, 2, 4, 8)):
    """Every query, every rank, in plain loops; of equal similarities the wrong item comes first."""
    same = gallery is None
    gallery, gallery_labels = (query, labels) if same else (gallery, gallery_labels)
    sums, queries = dict.fromkeys([*(f"recall@{k}" for k in recall_at), "r_precision", "map@r"], 0.0), 0
    for q in range(len(query)):
        items = [
            (
                -float(np.dot(query[q].astype(np.float64), gallery[g].astype(np.float64))),
                labels[q] == gallery_labels[g],
            )
            for g in range(len(gallery))
            if not (same and g == q)
        ]
        right = [correct for _, correct in sorted(items)]
        total = sum(right)
        if total == 0:
            continue
        queries += 1
        for k in recall_at:
            sums[f"recall@{k}"] += any(right[:k])
        sums["r_precision"] += sum(right[:total]) / total
        sums["map@r"] += sum(sum(right[: i + 1]) / (i + 1) for i in range(total) if right[i]) / total
    means = {name: value / queries for name, value in sums.items()}
    return {**means, "queries": queries, "gallery": len(gallery), "left_out": len(query) - queries}


def on_axis(*axes: int) -> Tensor:
    return torch.eye(4)[list(axes)]


def collapsed_metrics(*args, **kwargs) -> dict[str, float]:
    with pytest.warns(UserWarning, match="nearly collapsed"):
        return retrieval_metrics(*args, **kwargs)


@pytest.fixture(params=["lists", "whole gallery", "blocks", "blocks, trimmed"])
def path(request, monkeypatch):
    """Small galleries are ranked whole; here they are searched as large ones are, and by blocks of a few items."""
    if request.param != "whole gallery":
        monkeypatch.setattr(ranking, "DEEP", 1)
    if request.param.startswith("blocks"):
        search_by_small_blocks(monkeypatch)
    if request.param == "blocks, trimmed":
        monkeypatch.setattr(within, "KEPT", 500)


# --- the numbers -------------------------------------------------------------------------------------------


def test_a_ranking_counted_by_hand():
    angles = torch.tensor([0.0, 0.1, 0.3, 0.6])  # from 0: right, wrong, right
    query = torch.stack([angles.cos(), angles.sin()], dim=1)
    result = retrieval_metrics(
        query[:1], torch.tensor([7]), query[1:], torch.tensor([7, 1, 7]), recall_at=(1, 2)
    )
    assert (result["recall@1"], result["r_precision"], result["map@r"]) == (1.0, 0.5, 0.5)
    assert (result["queries"], result["gallery"], result["left_out"]) == (1, 3, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [clustered, coarse])
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_a_set_searched_in_itself_agrees_with_the_oracle(make, classes, backend, path):
    x, y = make(90, classes)
    assert dict(retrieval_metrics(x, y, backend=backend)) == pytest.approx(
        oracle(x.numpy(), y.numpy()), abs=1e-12
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [clustered, coarse])
def test_query_and_gallery_of_different_sizes_agree_with_the_oracle(make, backend, path):
    (x, y), (gx, gy) = make(40, 12, seed=1), make(70, 12, seed=2)
    expected = oracle(x.numpy(), y.numpy(), gx.numpy(), gy.numpy())
    assert dict(retrieval_metrics(x, y, gx, gy, backend=backend)) == pytest.approx(expected, abs=1e-12)


def test_classes_of_very_different_sizes_agree_with_the_oracle():
    x, y = clustered(700, 60)
    y[:250] = 0
    assert dict(retrieval_metrics(x, y, chunk_size=64)) == pytest.approx(
        oracle(x.numpy(), y.numpy()), abs=1e-12
    )


def test_it_agrees_with_pytorch_metric_learning_where_nothing_ties():
    x, y = clustered(600, 30, dim=32)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    theirs, ours = calculator.get_accuracy(x, y), retrieval_metrics(x, y)
    assert ours["recall@1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


def test_the_result_has_the_names_of_metrics_json():
    result = retrieval_metrics(*clustered(50, 5), recall_at=(1, 10))
    assert list(result) == ["recall@1", "recall@10", "r_precision", "map@r", "queries", "gallery", "left_out"]
    assert json.loads(json.dumps(result)) == result


def test_numpy_arrays_give_the_numbers_of_tensors():
    x, y = clustered(60, 5)
    array = x.numpy().copy()
    array.setflags(write=False)
    assert retrieval_metrics(array, y.numpy().astype(np.uint16)) == retrieval_metrics(x, y)


def test_slices_with_steps_give_the_numbers_of_copies():
    x, y = clustered(120, 5)
    assert retrieval_metrics(x[::2], y[::2]) == retrieval_metrics(x[::2].clone(), y[::2].clone())


# --- the rules ---------------------------------------------------------------------------------------------


def test_one_search_serves_all_metrics(monkeypatch):
    calls = []
    search = ranking.BACKENDS["torch"]
    monkeypatch.setitem(ranking.BACKENDS, "torch", lambda q, g, k: calls.append(k) or search(q, g, k))
    x, y = clustered(2000, 200, noise=0.3)
    retrieval_metrics(x, y, backend="torch", recall_at=(1, 5))
    assert calls == [int(y.bincount().max()) + ranking.SPARE]  # R + 1, less the own entry


def test_the_own_entry_is_removed_by_index_when_a_duplicate_has_another_label(path):
    x = on_axis(0, 0, 1, 1)  # each image has one duplicate, of the wrong class
    result = retrieval_metrics(x, torch.tensor([1, 2, 1, 2]), recall_at=(1,))
    assert (result["recall@1"], result["r_precision"], result["map@r"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_collapsed_model_scores_zero(backend, path):
    x, y = on_axis(0).repeat(80, 1), torch.arange(80) % 8
    result = collapsed_metrics(x, y, backend=backend)
    assert [result[name] for name in NAMES] == [0.0] * 6


def test_a_collapsed_large_set_scores_zero():
    x = normalize(torch.randn(1, 64, generator=torch.Generator().manual_seed(0)), dim=1).repeat(3000, 1)
    result = collapsed_metrics(x, torch.arange(3000) % 300)
    assert [result[name] for name in NAMES] == [0.0] * 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_equality_at_the_last_place_is_resolved_against_the_model(backend):
    gallery, labels = on_axis(0).repeat(1000, 1), torch.zeros(1000, dtype=torch.int64)
    labels[500] = 1  # ties with everything, also with what no list of candidates holds
    result = collapsed_metrics(
        on_axis(0), torch.tensor([0]), gallery, labels, recall_at=(1,), backend=backend
    )
    assert result["recall@1"] == 0.0
    result = collapsed_metrics(
        on_axis(0), torch.tensor([1]), gallery, labels, recall_at=(999,), backend=backend
    )
    assert result["recall@999"] == 0.0


def test_equal_similarities_of_different_vectors_tie(path):
    gallery = torch.tensor([[0.6, 0.8], [0.6, -0.8]])
    result = retrieval_metrics(
        torch.eye(2)[:1], torch.tensor([1]), gallery, torch.tensor([1, 0]), recall_at=(1, 2)
    )
    assert (result["recall@1"], result["recall@2"]) == (0.0, 1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_difference_too_small_for_the_float32_search_still_decides(backend, path):
    x, _ = clustered(300, 2, dim=256)
    gallery = x[:1].repeat(40, 1)
    gallery[:, 0] -= torch.arange(40) * 2.0**-24  # similarities 4e-9 apart, the right ones nearest
    labels = (torch.arange(40) >= 10).long() + 5
    expected = oracle(x[:1].numpy(), [5], gallery.numpy(), labels.numpy())
    result = collapsed_metrics(x[:1], torch.tensor([5]), gallery, labels, backend=backend)
    assert dict(result) == pytest.approx(expected, abs=1e-12)


def test_queries_without_a_correct_item_are_left_out_and_counted(path):
    x, y = clustered(60, 5)
    y[:7] = torch.arange(100, 107)
    result = retrieval_metrics(x, y)
    assert (result["queries"], result["left_out"], result["gallery"]) == (53, 7, 60)
    assert dict(result) == pytest.approx(oracle(x.numpy(), y.numpy()), abs=1e-12)


def test_large_labels_are_not_merged():
    x = on_axis(0, 0, 1, 1)
    labels = torch.tensor([2**24, 2**24 + 1, 2**24, 2**24 + 1])  # one number in float32
    assert retrieval_metrics(x, labels, recall_at=(1,))["recall@1"] == 0.0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_may_have_any_integer_type(dtype):
    x, y = clustered(60, 5)
    assert retrieval_metrics(x, y.to(dtype)) == retrieval_metrics(x, y)


def test_a_separate_gallery_keeps_the_item_with_the_index_of_the_query(path):
    x, y = clustered(50, 50, dim=64)
    assert retrieval_metrics(x, y, x, y)["recall@1"] == 1.0


def test_bfloat16_embeddings_are_searched_in_float32():
    x, y = clustered(300, 20)
    half = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = retrieval_metrics(half, y, backend="torch")
    assert result == retrieval_metrics(half.float(), y)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(BACKENDS),
    st.integers(1, 800),
    st.booleans(),
    st.sampled_from([2, 90]),
)
def test_gallery_order_chunk_size_and_backend_change_no_bit(seed, backend, chunk_size, ties, classes):
    (x, y), (gx, gy) = ((coarse if ties else clustered)(count, classes, seed=seed) for count in (200, 700))
    order = torch.randperm(700, generator=torch.Generator().manual_seed(seed))
    result = retrieval_metrics(x, y, gx[order], gy[order], backend=backend, chunk_size=chunk_size)
    assert dict(result) == dict(retrieval_metrics(x, y, gx, gy))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_wrong_items_in_the_gallery_never_raise_anything(seed, near):
    (x, y), (gx, gy) = clustered(60, 6, seed=seed), clustered(90, 6, seed=seed)
    distractors = x if near else -normalize(x.mean(dim=0, keepdim=True), dim=1)
    more = torch.cat([gx, distractors]), torch.cat([gy, torch.full((len(distractors),), 99)])
    before, after = retrieval_metrics(x, y, gx, gy), retrieval_metrics(x, y, *more)
    assert all(after[name] <= before[name] for name in NAMES)
    assert not near or after["recall@1"] == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_metrics_are_ordered_as_their_definitions_imply(seed):
    result = retrieval_metrics(*clustered(200, 20, seed=seed))
    recalls = [value for name, value in result.items() if name.startswith("recall@")]
    assert recalls == sorted(recalls) and 0 <= result["map@r"] <= result["r_precision"] <= 1


PEAK = """
import resource, sys, torch
from dml.retrieval import retrieval_metrics
count, classes, dim = map(int, sys.argv[1:4])
generator = torch.Generator().manual_seed(0)
labels = torch.randint(classes, (count,), generator=generator)
x = torch.randn(classes, dim, generator=generator)[labels].add_(torch.randn(count, dim, generator=generator))
x /= x.norm(dim=1, keepdim=True)
if sys.argv[4] == "collapsed":
    x[:] = x[0]
retrieval_metrics(x[:600].clone(), labels[:600])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
retrieval_metrics(x, labels)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


def peak_mib(count: int, classes: int, dim: int, kind: str = "clustered") -> float:
    """Rise of the peak memory of a fresh process while it evaluates, beyond the embeddings, in MiB."""
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(count), str(classes), str(dim), kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize(("classes", "kind"), [(2000, "clustered"), (4, "clustered"), (2000, "collapsed")])
def test_memory_does_not_grow_with_the_square_of_the_set(classes, kind):
    assert (
        peak_mib(12_000, classes, 32, kind) < 400
    )  # all similarities would be 550 MiB, their ranks 1,100 more


@pytest.mark.slow
def test_the_largest_benchmark_stays_below_a_gibibyte_and_a_half():
    assert peak_mib(60_502, 11_316, 512) < 1536


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_embedding_that_is_not_finite_is_refused_by_set_and_row(value):
    x, y = clustered(50, 5)
    bad = x.clone()
    bad[[17, 30], 3] = value
    with pytest.raises(ValueError, match=f"Row 17 of the query embeddings holds {value}"):
        retrieval_metrics(bad, y)
    with pytest.raises(ValueError, match=f"Row 17 of the gallery embeddings holds {value}"):
        retrieval_metrics(x, y, bad, y)


def test_the_length_of_an_embedding_does_not_count():
    x, y = clustered(50, 5)
    assert retrieval_metrics(x * torch.rand(50, 1).add(0.5), y) == retrieval_metrics(x, y)


def test_an_embedding_of_zeros_is_refused():
    x, y = clustered(50, 5)
    x[4] = 0
    with pytest.raises(ValueError, match="Row 4 of the query embeddings is all zeros"):
        retrieval_metrics(x, y)


def test_a_nearly_collapsed_model_is_a_warning_and_a_healthy_one_is_not():
    x, y = clustered(200, 10)
    collapsed_metrics(normalize(x + 40 * x[0], dim=1), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        retrieval_metrics(x, y)


@pytest.mark.parametrize(
    ("recall_at", "message"), [((), "one or more ranks"), ((0, 1), "at least 1"), ((1, 50), "only 49")]
)
def test_ranks_that_do_not_exist_are_refused(recall_at, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(*clustered(50, 5), recall_at=recall_at)


def test_the_last_rank_of_a_separate_gallery_is_its_size():
    x, y = clustered(50, 5)
    assert retrieval_metrics(x, y, x, y, recall_at=(50,))["recall@50"] == 1.0
    with pytest.raises(ValueError, match="recall@51, but a query has only 50"):
        retrieval_metrics(x, y, x, y, recall_at=(51,))


def test_an_empty_set_is_refused():
    x, y = clustered(50, 5)
    with pytest.raises(ValueError, match=r"gallery embeddings have shape \(0, 16\)"):
        retrieval_metrics(x, y, x[:0], y[:0])


def test_labels_of_another_length_are_refused():
    x, y = clustered(50, 5)
    with pytest.raises(ValueError, match=r"50 embeddings and labels of shape \(49,\)"):
        retrieval_metrics(x, y[:-1])


def test_sets_of_different_dimension_are_refused():
    x, y = clustered(50, 5)
    with pytest.raises(ValueError, match="16 dimensions and the gallery embeddings 8"):
        retrieval_metrics(x, y, normalize(x[:, :8], dim=1), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_that_are_not_integers_are_refused(dtype):
    x, y = clustered(50, 5)
    with pytest.raises(TypeError, match=f"query labels are {dtype}"):
        retrieval_metrics(x, y.to(dtype))


def test_integer_embeddings_are_refused():
    with pytest.raises(TypeError, match=r"query embeddings are torch\.int64"):
        retrieval_metrics(torch.eye(4).long(), torch.arange(4))


def test_an_unknown_backend_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'annoy': choose one of auto, faiss, torch"):
        retrieval_metrics(*clustered(50, 5), backend="annoy")


def test_a_chunk_size_below_one_is_refused():
    with pytest.raises(ValueError, match="chunk_size is 0"):
        retrieval_metrics(*clustered(50, 5), chunk_size=0)


def test_a_gallery_without_labels_and_labels_without_a_gallery_are_refused():
    x, y = clustered(50, 5)
    with pytest.raises(ValueError, match="gallery is given but gallery_labels is not"):
        retrieval_metrics(x, y, x)
    with pytest.raises(ValueError, match="gallery_labels is given but gallery is not"):
        retrieval_metrics(x, y, gallery_labels=y)


def test_a_set_without_any_correct_item_is_refused():
    x, _ = clustered(50, 5)
    with pytest.raises(ValueError, match="None of the 50 queries has a correct item"):
        retrieval_metrics(x, torch.arange(50))


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_average_precisions_are_what_the_mean_is_of(count, classes, roles, seed):
    vectors, labels = clustered(count, classes, seed=seed)
    vectors[1] = vectors[0]  # a tie
    gallery = clustered(12, classes, seed=seed + 1) if roles else (None, None)
    found = average_precisions(vectors, labels, *gallery)
    rest, rest_labels = (vectors, labels) if gallery[0] is None else gallery
    for q in range(count):
        others = [i for i in range(len(rest)) if roles or i != q]
        one = (vectors[[q]], labels[[q]], rest[others], rest_labels[others])
        if (rest_labels[others] == labels[q]).any():
            expected = oracle(*(part.numpy() for part in one))["map@r"]
            assert found[q].item() == pytest.approx(expected, abs=1e-12)
        else:
            assert found[q].isnan()


def test_what_queries_score_has_the_means_of_the_metrics():
    vectors, labels = clustered(60, 9, seed=3)
    labels[-1] = 99  # has nothing to find
    scores = query_scores(vectors, labels, recall_at=(1, 3))
    metrics = retrieval_metrics(vectors, labels, recall_at=(1, 3))
    assert list(scores) == ["recall@1", "recall@3", "r_precision", "map@r"]
    for name, values in scores.items():
        assert values[-1].isnan() and values[:-1].mean().item() == pytest.approx(metrics[name], abs=1e-12)
