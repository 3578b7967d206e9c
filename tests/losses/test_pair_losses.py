"""Losses on pairs and triplets of images, held against loops written from the formulas of their papers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.losses.cases import (
    LABELS,
    Pairs,
    configured,
    log_sum,
    mean,
    mean_of_active,
    takes,
    unit,
)

Formula = Callable[[Tensor, Tensor, Pairs], Tensor]  # batch, references, pairs between them


def contrastive(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    attraction = [(x[i] - r[j]).norm() for i, j in pairs.positive_pairs()]
    repulsion = [(0.5 - (x[i] - r[j]).norm()).relu() for i, j in pairs.negative_pairs()]
    return mean_of_active(attraction) + mean_of_active(repulsion)


def triplet(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    return mean_of_active(
        [((x[i] - r[p]).norm() - (x[i] - r[n]).norm() + 0.1).relu() for i, p, n in pairs.triplets()]
    )


def margin(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    costs = []
    for i, p, n in pairs.triplets():
        costs.append(((x[i] - r[p]).norm() - 1.2 + 0.2).relu())
        costs.append((1.2 - (x[i] - r[n]).norm() + 0.2).relu())
    return mean_of_active(costs)


def multi_similarity(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    s = x @ r.T
    return mean(
        [
            log_sum([-2 * (s[i, j] - 0.5) for j in pairs.positives[i]]) / 2
            + log_sum([40 * (s[i, j] - 0.5) for j in pairs.negatives[i]]) / 40
            for i in range(pairs.size)
        ]
    )


def circle(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    s, m, gamma = x @ r.T, 0.4, 80
    weighted = s.detach()  # the weights have no gradient
    costs = []
    for i in range(pairs.size):
        attraction = [
            (-gamma * (1 + m - weighted[i, j]).relu() * (s[i, j] - 1 + m)).exp() for j in pairs.positives[i]
        ]
        repulsion = [(gamma * (weighted[i, j] + m).relu() * (s[i, j] - m)).exp() for j in pairs.negatives[i]]
        if attraction and repulsion:
            costs.append(torch.log(1 + sum(attraction) * sum(repulsion)))
    return mean(costs)


def nt_xent(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    e = (x @ r.T / 0.07).exp()
    return mean(
        [-torch.log(e[i, p] / (e[i, p] + e[i, pairs.negatives[i]].sum())) for i, p in pairs.positive_pairs()]
    )


def sup_con(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    e = (x @ r.T / 0.1).exp()
    costs = []
    for i in range(pairs.size):
        if positives := pairs.positives[i]:
            everyone = e[i, positives + pairs.negatives[i]].sum()
            costs.append(mean([-torch.log(e[i, p] / everyone) for p in positives]))
    return mean(costs)


def angular(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    squared_tangent = math.tan(math.radians(45)) ** 2
    return mean(
        [
            log_sum(
                [
                    4 * squared_tangent * (x[i] + r[p]) @ r[n] - 2 * (1 + squared_tangent) * x[i] @ r[p]
                    for n in pairs.negatives[i]
                ]
            )
            for i, p in pairs.positive_pairs()
        ]
    )


def nca(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    costs = []
    for i in range(pairs.size):
        near = {j: (-((x[i] - r[j]) ** 2).sum()).exp() for j in pairs.positives[i] + pairs.negatives[i]}
        if pairs.positives[i]:
            costs.append(-torch.log(sum(near[j] for j in pairs.positives[i]) / sum(near.values())))
    return mean(costs)


def lifted_structure(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    costs = []
    for i, j in pairs.positive_pairs():
        repulsion = sum((1 - (x[a] - r[n]).norm()).exp() for a in (i, j) for n in pairs.negatives[a])
        costs.append((torch.log(repulsion) + (x[i] - r[j]).norm()).relu() ** 2 / 2)
    return mean(costs)


def generalized_lifted_structure_where_an_empty_sum_of_exponentials_counts_0(
    x: Tensor, r: Tensor, pairs: Pairs
) -> Tensor:
    def log_of_sum(terms: list[Tensor]) -> Tensor:
        return torch.log(sum(term.exp() for term in terms)) if terms else torch.zeros(())

    return mean(
        [
            (
                log_of_sum([(x[i] - r[j]).norm() for j in pairs.positives[i]])
                + log_of_sum([1 - (x[i] - r[j]).norm() for j in pairs.negatives[i]])
            ).relu()
            for i in range(pairs.size)
        ]
    )


def tuplet_margin(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    s = x @ r.T
    return mean(
        [
            log_sum(
                [
                    64 * (s[i, n] - torch.cos(torch.acos(s[i, p]) - math.radians(5.73)))
                    for n in pairs.negatives[i]
                ]
            )
            for i, p in pairs.positive_pairs()
        ]
    )


def intra_pair_variance(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    positive = torch.stack([x[i] @ r[j] for i, j in pairs.positive_pairs()])
    negative = torch.stack([x[i] @ r[j] for i, j in pairs.negative_pairs()])
    variance = (0.99 * positive.mean() - positive).relu().square().mean()
    variance = variance + (negative - 1.01 * negative.mean()).relu().square().mean()
    return tuplet_margin(x, r, pairs) + 0.5 * variance


def threshold_consistent_margin(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    low = [0.9 - x[i] @ r[j] for i, j in pairs.positive_pairs()]
    high = [x[i] @ r[j] - 0.5 for i, j in pairs.negative_pairs()]
    return multi_similarity(x, r, pairs) + mean_of_active(low) + mean_of_active(high)


def snr_contrastive(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    def ratio(i: int, j: int) -> Tensor:
        return (x[i] - r[j]).var() / x[i].var()

    attraction = [ratio(i, j) for i, j in pairs.positive_pairs()]
    repulsion = [(1 - ratio(i, j)).relu() for i, j in pairs.negative_pairs()]
    return mean_of_active(attraction) + mean_of_active(repulsion)


def n_pairs(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    first: dict[int, tuple[int, int]] = {}
    for i, p in pairs.positive_pairs():
        first.setdefault(LABELS[i], (i, p))
    logits = torch.stack([torch.stack([x[i] @ x[p] for _, p in first.values()]) for i, _ in first.values()])
    return -logits.log_softmax(dim=1).diagonal().mean()


def ranked_list_but_for_1e_5_in_the_sums_of_weights(x: Tensor, r: Tensor, pairs: Pairs) -> Tensor:
    costs = []
    for i in range(pairs.size):
        positives = [d for j in pairs.positives[i] if (d := (x[i] - x[j]).norm()) > 0.8]
        negatives = [d for j in pairs.negatives[i] if (d := (x[i] - x[j]).norm()) < 1.2]
        weights = torch.stack([5 * (1.2 - d) for d in negatives]).softmax(0) if negatives else []
        repulsion = [w * (1.2 - d) for w, d in zip(weights, negatives, strict=True)]
        costs.append(0.5 * mean([d - 0.8 for d in positives]) + 0.5 * sum(repulsion))
    return mean(costs)


FORMULAS: dict[str, Formula] = {
    "angular": angular,
    "circle": circle,
    "contrastive": contrastive,
    "generalized_lifted_structure": generalized_lifted_structure_where_an_empty_sum_of_exponentials_counts_0,
    "intra_pair_variance": intra_pair_variance,
    "lifted_structure": lifted_structure,
    "margin": margin,
    "multi_similarity": multi_similarity,
    "n_pairs": n_pairs,
    "nca": nca,
    "nt_xent": nt_xent,
    "ranked_list": ranked_list_but_for_1e_5_in_the_sums_of_weights,
    "snr_contrastive": snr_contrastive,
    "sup_con": sup_con,
    "threshold_consistent_margin": threshold_consistent_margin,
    "triplet": triplet,
    "tuplet_margin": tuplet_margin,
}
WITH_REFERENCES = [name for name in FORMULAS if "references" in takes(name)]


def assert_equal_with_gradient(loss: Tensor, expected: Tensor, x: Tensor, name: str) -> None:
    rtol = 1e-3 if name == "ranked_list" else 1e-7
    torch.testing.assert_close(loss, expected, rtol=rtol, atol=1e-9)
    gradient, wanted = (torch.autograd.grad(value, x)[0] for value in (loss, expected))
    # A distance may add a part along the vector, which the model's normalisation takes away again.
    tangent = [g - (g * x).sum(dim=1, keepdim=True) * x for g in (gradient, wanted)]
    torch.testing.assert_close(*tangent, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FORMULAS)
def test_it_equals_the_formula_pair_by_pair(name: str, seed: int) -> None:
    x = unit(len(LABELS), seed).requires_grad_()
    expected = FORMULAS[name](x, x, Pairs(LABELS, LABELS, same=True))
    assert expected > 0
    loss = configured("loss", name)(x, torch.tensor(LABELS))
    assert_equal_with_gradient(loss.squeeze(), expected, x, name)


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_against_a_memory_it_equals_the_formula_on_the_pairs_with_the_past(name: str) -> None:
    x, past, others = unit(len(LABELS), 1).requires_grad_(), unit(11, 2), [0, 1, 2, 3, 4] * 2 + [0]
    expected = FORMULAS[name](x, past, Pairs(LABELS, others, same=False))
    loss = configured("loss", name)(x, torch.tensor(LABELS), ref_emb=past, ref_labels=torch.tensor(others))
    assert_equal_with_gradient(loss.squeeze(), expected, x, name)


def test_references_are_taken_by_every_loss_that_says_so() -> None:
    without = {
        "intra_pair_variance",
        "lifted_structure",
        "n_pairs",
        "ranked_list",
        "threshold_consistent_margin",
    }
    assert set(WITH_REFERENCES) == set(FORMULAS) - without
