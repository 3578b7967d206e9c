"""Losses against learned proxies, held against loops written from the formulas of their papers."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dml.losses import ProxyNCALoss
from tests.losses.cases import LABELS, configured, log_sum, mean, unit

CLASSES = 4
Formula = Callable[[Tensor, nn.Module], Tensor]


def proxies(loss: nn.Module) -> Tensor:
    """(classes, proxies of each, D), each of length 1."""
    (weights,) = loss.parameters()
    rows = weights if hasattr(loss, "proxies") else weights.T
    return F.normalize(rows, dim=1).unflatten(0, (CLASSES, -1))


def cross_entropy(logits: Callable[[int, int], Tensor]) -> Tensor:
    """Of the logits of image and class, the mean over the batch."""
    costs = []
    for i, label in enumerate(LABELS):
        scores = torch.stack([logits(i, c) for c in range(CLASSES)])
        costs.append(scores.logsumexp(0) - scores[label])
    return mean(costs)


def normalized_softmax(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return cross_entropy(lambda i, c: x[i] @ w[c] / 0.05)


def cosface(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return cross_entropy(lambda i, c: 64 * (x[i] @ w[c] - 0.35 * (LABELS[i] == c)))


def with_additive_angle(cosine: Tensor) -> Tensor:
    angle, margin = torch.acos(cosine), math.radians(28.6)
    return torch.cos(angle + margin) if angle + margin <= math.pi else cosine - margin * math.sin(margin)


def arcface(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return cross_entropy(
        lambda i, c: 64 * (with_additive_angle(x[i] @ w[c]) if LABELS[i] == c else x[i] @ w[c])
    )


def subcenter_arcface(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)

    def logit(i: int, c: int) -> Tensor:
        nearest = torch.stack([x[i] @ w[c, k] for k in range(3)]).max()
        return 64 * (with_additive_angle(nearest) if LABELS[i] == c else nearest)

    return cross_entropy(logit)


def with_multiplied_angle(cosine: Tensor) -> Tensor:
    angle = torch.acos(cosine)
    k = int(angle.item() // (math.pi / 4))
    return (-1) ** k * torch.cos(4 * angle) - 2 * k


def sphereface_with_scale_in_place_of_the_length_of_the_embedding(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return cross_entropy(
        lambda i, c: 64 * (with_multiplied_angle(x[i] @ w[c]) if LABELS[i] == c else x[i] @ w[c])
    )


def large_margin_softmax(x: Tensor, loss: nn.Module) -> Tensor:
    w, length = proxies(loss)[:, 0], next(loss.parameters()).norm(dim=0)
    return cross_entropy(
        lambda i, c: length[c] * (with_multiplied_angle(x[i] @ w[c]) if LABELS[i] == c else x[i] @ w[c])
    )


def p2s_grad_as_a_mean_over_the_classes(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return mean(
        [(x[i] @ w[c] - float(LABELS[i] == c)) ** 2 for i in range(len(LABELS)) for c in range(CLASSES)]
    )


def proxy_anchor(x: Tensor, loss: nn.Module) -> Tensor:
    s = x @ proxies(loss)[:, 0].T
    attraction, repulsion = [], []
    for c in range(CLASSES):
        positives = [-32 * (s[i, c] - 0.1) for i in range(len(LABELS)) if LABELS[i] == c]
        negatives = [32 * (s[i, c] + 0.1) for i in range(len(LABELS)) if LABELS[i] != c]
        attraction += [log_sum(positives)] if positives else []
        repulsion.append(log_sum(negatives))
    return mean(attraction) + mean(repulsion)


def proxy_nca(x: Tensor, loss: nn.Module) -> Tensor:
    w, costs = proxies(loss)[:, 0], []
    for i, label in enumerate(LABELS):
        near = [(-9 * ((x[i] - w[c]) ** 2).sum()).exp() for c in range(CLASSES)]
        costs.append(-torch.log(near[label] / sum(near[c] for c in range(CLASSES) if c != label)))
    return mean(costs)


def proxy_nca_pp(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)[:, 0]
    return cross_entropy(lambda i, c: -((x[i] - w[c]) ** 2).sum() / 0.11)


def soft_triple(x: Tensor, loss: nn.Module) -> Tensor:
    w = proxies(loss)

    def logit(i: int, c: int) -> Tensor:
        s = torch.stack([x[i] @ w[c, k] for k in range(10)])
        return 20 * ((s / 0.1).softmax(0) @ s - 0.01 * (LABELS[i] == c))

    distances = [
        torch.sqrt(2 - 2 * w[c, s] @ w[c, t])
        for c in range(CLASSES)
        for s in range(10)
        for t in range(s + 1, 10)
    ]
    return cross_entropy(logit) + 0.2 * sum(distances) / (CLASSES * 10 * 9)


FORMULAS: dict[str, Formula] = {
    "arcface": arcface,
    "cosface": cosface,
    "large_margin_softmax": large_margin_softmax,
    "normalized_softmax": normalized_softmax,
    "p2s_grad": p2s_grad_as_a_mean_over_the_classes,
    "proxy_anchor": proxy_anchor,
    "proxy_nca": proxy_nca,
    "proxy_nca_pp": proxy_nca_pp,
    "soft_triple": soft_triple,
    "sphereface": sphereface_with_scale_in_place_of_the_length_of_the_embedding,
    "subcenter_arcface": subcenter_arcface,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FORMULAS)
def test_it_equals_the_formula_image_by_image(name: str, seed: int) -> None:
    x, loss = unit(len(LABELS), seed).requires_grad_(), configured("loss", name, num_classes=CLASSES)
    value, expected = loss(x, torch.tensor(LABELS)).squeeze(), FORMULAS[name](x, loss)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(v, loss.parameters()) for v in (value, expected))
    # P2SGrad sets the lengths of its proxies anew before each use, so the part along them means nothing.
    (weights,) = loss.parameters()
    proxy = F.normalize(weights, dim=int(hasattr(loss, "proxies"))) if name == "p2s_grad" else 0 * weights
    across = [g - proxy * (g * proxy).sum(dim=0) for g in (gradient, wanted)]
    torch.testing.assert_close(*across, rtol=1e-5, atol=1e-9)


def test_the_gradients_of_proxy_nca_are_exact() -> None:
    loss, labels = configured("loss", "proxy_nca"), torch.tensor(LABELS)

    def function(x: Tensor, proxies: Tensor) -> Tensor:
        return torch.func.functional_call(loss, {"proxies": proxies}, (x, labels))

    inputs = (unit(len(LABELS), 0).requires_grad_(), loss.proxies.detach().requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)


def test_proxy_nca_refuses_a_single_class_and_a_scale_out_of_range() -> None:
    with pytest.raises(ValueError, match="at least two classes, this set has 1"):
        ProxyNCALoss(1, 3, scale=9.0)
    with pytest.raises(ValueError, match=r"scale=0.0 must be above 0"):
        ProxyNCALoss(3, 3, scale=0.0)
