"""Miners as their files in configs/ describe them, held against loops written from their rules."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dml.losses import triplet_margin_miner
from dml.randomness import torch_seed
from tests.losses.cases import LABELS, Pairs, configured, names, unit

MINERS = [name for name in names("miner") if name != "none"]
PAST = [0, 1, 2, 3, 4] * 2 + [0]
Tuples = set[tuple[int, ...]]
Rule = Callable[
    [Tensor, Tensor, Pairs], tuple[Tuples, ...]
]  # batch, references, pairs: triplets, or two sets of pairs


def multi_similarity(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    s = x @ r.T
    positives, negatives = set(), set()
    for i in range(pairs.size):
        if pairs.positives[i] and pairs.negatives[i]:
            hardest = s[i, pairs.negatives[i]].max(), s[i, pairs.positives[i]].min()
            positives |= {(i, j) for j in pairs.positives[i] if s[i, j] < hardest[0] + 0.1}
            negatives |= {(i, j) for j in pairs.negatives[i] if s[i, j] > hardest[1] - 0.1}
    return positives, negatives


def batch_hard(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    d, triplets = torch.cdist(x, r), set()
    for i in range(pairs.size):
        if pairs.positives[i] and pairs.negatives[i]:
            far = max(pairs.positives[i], key=lambda j: d[i, j].item())
            near = min(pairs.negatives[i], key=lambda j: d[i, j].item())
            triplets.add((i, far, near))
    return (triplets,)


def batch_easy_hard(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    d, positives, negatives = torch.cdist(x, r), set(), set()
    for i in range(pairs.size):
        near = min(pairs.positives[i], key=lambda j: d[i, j].item(), default=None)
        beyond = [j for j in pairs.negatives[i] if near is not None and d[i, j] > d[i, near]]
        if beyond:
            positives.add((i, near))
            negatives.add((i, min(beyond, key=lambda j: d[i, j].item())))
    return positives, negatives


def triplet_margin(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    squared = torch.cdist(x, r) ** 2
    gap = {(i, p, n): squared[i, n] - squared[i, p] for i, p, n in pairs.triplets()}
    return ({triplet for triplet, value in gap.items() if 0 < value <= 0.2},)


def pair_margin(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    d = torch.cdist(x, r)
    far = {(i, j) for i, j in pairs.positive_pairs() if d[i, j] > 0.2}
    return far, {(i, j) for i, j in pairs.negative_pairs() if d[i, j] < 0.8}


def angular(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    def angle(i: int, p: int, n: int) -> float:
        tangent = (x[i] - r[p]).norm() / (2 * (r[n] - (x[i] + r[p]) / 2).norm())
        return math.degrees(math.atan(tangent))

    return ({triplet for triplet in pairs.triplets() if angle(*triplet) > 20},)


def hdc(x: Tensor, r: Tensor, pairs: Pairs) -> tuple[Tuples, ...]:
    d = torch.cdist(x, r)
    far = sorted(pairs.positive_pairs(), key=lambda pair: -d[pair].item())
    near = sorted(pairs.negative_pairs(), key=lambda pair: d[pair].item())
    return tuple(set(some[: math.ceil(len(some) / 2)]) for some in (far, near))


RULES: dict[str, Rule] = {
    "angular": angular,
    "batch_easy_hard": batch_easy_hard,
    "batch_hard": batch_hard,
    "hdc": hdc,
    "multi_similarity": multi_similarity,
    "pair_margin": pair_margin,
    "triplet_margin": triplet_margin,
}
RANDOM = ("distance_weighted", "uniform_histogram")


def tuples(mined: tuple[Tensor, ...]) -> tuple[Tuples, ...]:
    if len(mined) == 3:
        return (set(zip(*(part.tolist() for part in mined), strict=True)),)
    return tuple(set(zip(*(part.tolist() for part in mined[k : k + 2]), strict=True)) for k in (0, 2))


def sorted_distances(found: tuple[Tuples, ...], d: Tensor) -> list[list[float]]:
    return [sorted(round(d[pair].item(), 9) for pair in some) for some in found]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_it_lists_what_its_rule_says(name: str, memory: bool) -> None:
    x, labels = unit(len(LABELS), 4), torch.tensor(LABELS)
    past = (unit(len(PAST), 5), torch.tensor(PAST)) if memory else (x, labels)
    expected = RULES[name](x, past[0], Pairs(LABELS, past[1].tolist(), same=not memory))
    references = {"ref_emb": past[0], "ref_labels": past[1]} if memory else {}
    found = tuples(configured("miner", name)(x, labels, **references))
    assert all(expected)
    if name == "hdc":  # of (i, j) and (j, i), equally far, the share may hold either
        d = torch.cdist(x, past[0])
        assert sorted_distances(found, d) == sorted_distances(expected, d)
    else:
        assert found == expected


def assert_labelled(mined: tuple[Tensor, ...], labels: Tensor, past: Tensor) -> None:
    """Positives are of the class of their image, negatives are not."""
    pairs = (mined[:2], (mined[0], mined[2])) if len(mined) == 3 else (mined[:2], mined[2:])
    for (anchors, others), alike in zip(pairs, (True, False), strict=True):
        assert (past[others] == labels[anchors]).eq(alike).all()


@pytest.mark.parametrize("name", MINERS)
def test_no_image_meets_itself_but_in_a_memory_every_past_one_may_be_met(name: str) -> None:
    x, labels = unit(len(LABELS), 4), torch.tensor(LABELS)
    miner = configured("miner", name)
    within, against = miner(x, labels), miner(x, labels, ref_emb=unit(11, 5), ref_labels=torch.tensor(PAST))
    assert all(map(len, within + against))
    assert_labelled(within, labels, labels)
    assert_labelled(against, labels, torch.tensor(PAST))
    assert (within[0] != within[1]).all() and against[-1].max() >= len(LABELS)


@pytest.mark.parametrize("name", RANDOM)
def test_a_random_miner_draws_from_the_seed_of_the_step(name: str) -> None:
    x, labels, miner = unit(30, 4), torch.arange(30) % 5, configured("miner", name)
    drawn = []
    for step in (0, 0, 1):
        with torch_seed(0, "objective", step):
            drawn.append(torch.cat(miner(x, labels)))
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])


def test_distance_weighted_draws_negatives_with_the_inverse_of_their_density() -> None:
    negatives, dim = unit(4, 1), 5
    x = torch.cat(
        [negatives[:1].repeat(1001, 1), negatives[1:]]
    )  # an anchor over and over, and three negatives
    labels = torch.tensor([0] * 1001 + [1, 2, 3])
    with torch_seed(0):
        _, _, drawn = configured("miner", "distance_weighted")(x, labels)
    drawn = drawn[drawn > 1000]
    counts = torch.bincount(drawn - 1001, minlength=3) / len(drawn)
    d = (negatives[1:] - negatives[0]).norm(dim=1).clamp(min=0.5)
    weight = d ** (2 - dim) * (1 - d**2 / 4) ** ((3 - dim) / 2) * (d < 1.4)
    torch.testing.assert_close(counts.double(), weight / weight.sum(), rtol=0.03, atol=0.005)


def test_uniform_histogram_takes_ten_pairs_from_each_interval_that_has_one() -> None:
    x, labels = unit(12, 4), torch.arange(12) // 4
    a1, p, a2, n = configured("miner", "uniform_histogram")(x, labels)
    for anchors, others, pairs in ((a1, p, labels[:, None] == labels), (a2, n, labels[:, None] != labels)):
        every = torch.cdist(x, x)[pairs & ~torch.eye(12, dtype=torch.bool)]
        edges = torch.linspace(every.min().item(), every.max().item(), 101, dtype=x.dtype)
        counts = torch.histogram(torch.cdist(x, x)[anchors, others], edges).hist
        assert counts.eq(10).sum() > 8 and not (counts % 10).any()


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3], [2, 2, 2, 2], [0]], ids=["no positive", "one class", "one image"]
)
@pytest.mark.parametrize("name", MINERS)
def test_what_is_not_there_is_not_listed_and_no_error(name: str, labels: list[int]) -> None:
    mined = configured("miner", name)(unit(len(labels), 0), torch.tensor(labels))
    there = Pairs(labels, labels, same=True)
    assert not len(mined[1]) or any(there.positives)
    assert not len(mined[-1]) or any(there.negatives)


@pytest.mark.parametrize("name", MINERS)
def test_a_collapsed_model_is_mined_without_error(name: str) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert_labelled(configured("miner", name)(unit(1, 0).repeat(4, 1), labels), labels, labels)


def test_every_miner_has_a_test() -> None:
    assert {*RULES, *RANDOM} == set(MINERS)


def test_a_type_of_triplets_that_does_not_exist_and_a_negative_margin_are_refused() -> None:
    distance = configured("miner", "triplet_margin").distance
    with pytest.raises(ValueError, match="type_of_triplets=semi-hard; accepted: all, easy, hard, semihard"):
        triplet_margin_miner(margin=0.2, type_of_triplets="semi-hard", distance=distance)
    with pytest.raises(ValueError, match=r"miner.margin=-0.1: give 0 or more"):
        triplet_margin_miner(margin=-0.1, type_of_triplets="all", distance=distance)
