"""Losses on rankings from pytorch-metric-learning, held against loops written from the formulas of their papers."""

import torch
from torch import Tensor

from tests.losses.cases import LABELS, Pairs, configured, mean, unit

PAIRS = Pairs(LABELS, LABELS, same=True)


def fast_ap(x: Tensor) -> Tensor:
    """Average precision from histograms of squared distances with 11 nodes between 0 and 4."""

    def histogram(distances: list[Tensor]) -> Tensor:
        nodes = torch.linspace(0, 4, 11, dtype=x.dtype)
        return sum(((1 - (d - nodes).abs() / 0.4).relu() for d in distances), torch.zeros_like(nodes))

    costs = []
    for i in range(len(x)):
        if PAIRS.positives[i]:
            near, rest = (
                histogram([((x[i] - x[j]) ** 2).sum() for j in some[i]])
                for some in (PAIRS.positives, PAIRS.negatives)
            )
            among_positives, among_all = near.cumsum(0), (near + rest).cumsum(0)
            terms = [near[b] * among_positives[b] / among_all[b] for b in range(11) if near[b] > 0]
            costs.append(1 - sum(terms) / len(PAIRS.positives[i]))
    return mean(costs)


def pnp_with_the_query_among_its_positives(x: Tensor) -> Tensor:
    s, costs = x @ x.T, []
    for i in range(len(x)):
        if PAIRS.positives[i]:
            ahead = [
                sum(torch.sigmoid((s[i, n] - s[i, p]) / 0.01) for n in PAIRS.negatives[i])
                for p in [i, *PAIRS.positives[i]]
            ]
            costs.append(1 - mean([1 / (1 + count) ** 4 for count in ahead]))
    return mean(costs)


FORMULAS = {"fast_ap": fast_ap, "pnp": pnp_with_the_query_among_its_positives}


def test_they_equal_the_formulas_query_by_query() -> None:
    for name, formula in FORMULAS.items():
        for seed in range(3):
            x = unit(len(LABELS), seed).requires_grad_()
            loss, expected = configured("loss", name)(x, torch.tensor(LABELS)), formula(x)
            torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
            gradients = [torch.autograd.grad(value, x)[0] for value in (loss, expected)]
            tangent = [g - (g * x).sum(dim=1, keepdim=True) * x for g in gradients]
            torch.testing.assert_close(*tangent, rtol=1e-5, atol=1e-9)
