import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.errors import InputError
from dml.index import pairs as module
from dml.index.pairs import rates_at, similar_pairs, thresholds_of
from tests.index.clusters import clusters


def oracle(vectors, labels, thresholds, counts):  # type: ignore[no-untyped-def]
    """Rates pair by pair; a class that counts twice is there twice, and its copies are no pair of two classes."""
    exact = vectors.astype(float) @ vectors.astype(float).T
    recall, false_match = [], []
    for threshold in thresholds:
        sums = np.zeros(4)
        for i in range(len(labels)):
            for j in range(i + 1, len(labels)):
                a, b = labels[i], labels[j]
                weight = counts[a] if a == b else counts[a] * counts[b]
                place = 0 if a == b else 2
                sums[place] += weight * (exact[i, j] >= threshold)
                sums[place + 1] += weight
        recall.append(sums[0] / sums[1])
        false_match.append(sums[2] / sums[3])
    return np.array(recall), np.array(false_match)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), most=st.sampled_from([60, 10**6]), rows=st.sampled_from([1, 7, 512]))
def test_rates_are_those_of_counting_each_pair(seed: int, most: int, rows: int) -> None:
    vectors, labels = clusters(6, 4, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        pairs = similar_pairs(vectors, labels, most=most)
    assert pairs.complete == (most > 1000) and len(pairs.other) <= most and pairs.others == 15 * 16
    thresholds = np.sort(np.random.default_rng(seed).uniform(-1, 1, 9))
    counts = np.random.default_rng(seed).integers(0, 3, 6).astype(float) + np.eye(6)[0] + np.eye(6)[1]
    found = rates_at(pairs, thresholds_of(pairs, thresholds), counts)
    recall, false_match = oracle(vectors, labels, thresholds, counts)
    np.testing.assert_allclose(found.recall, recall, atol=1e-12)
    known = ~np.isnan(found.false_match)
    np.testing.assert_allclose(found.false_match[known], false_match[known], atol=1e-12)
    assert known.all() == pairs.complete or (thresholds >= pairs.other[-1]).all()


def test_precision_depends_on_how_rare_right_pairs_are() -> None:
    rates = module.Rates(np.array([0.5, 0.2, 0.0]), np.array([0.01, 0.0, 0.0]))
    assert rates.precision(0.5).tolist() == pytest.approx([50 / 51, 1, 1])
    assert rates.precision(0.001)[0] == pytest.approx(0.0005 / (0.0005 + 0.999 * 0.01))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_one_class_or_no_pair_is_refused(labels: list[int]) -> None:
    vectors, _ = clusters(3, 1)
    with pytest.raises(InputError, match=r"3 images of \d classes have no pair of one class or none of two"):
        similar_pairs(vectors, np.array(labels))
