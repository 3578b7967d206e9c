"""Partial optimal transport from locations to prototypes, solved exactly, and the pooling it defines.

    min over π, ρ ≥ 0   Σ c_ij π_ij + (1/γ)·(Σ π log π + Σ ρ log ρ)
    subject to          ρ_i + Σ_j π_ij = 1/N   and   Σ_ij π_ij = μ

With a_i = logsumexp_j(−γ c_ij) it is one scalar equation per image: find θ with mean_i σ(a_i + θ) = μ. Then

    w_i = σ(a_i + θ),   π_ij = (w_i / N)·softmax_j(−γ c_ij),   ρ_i = (1 − w_i) / N

`prototype_cost` and `partial_transport` say this plainly; `transport_pool` is the same, fused, for training.
Everything is computed in float32 or better, inside autocast too.

Source: Gürbüz, Şener, Alatan, "Generalized Sum Pooling for Metric Learning", ICCV 2023.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from dml.errors import InputError
from dml.functional import products
from dml.functional.gate import solve_gate
from dml.modes import at_least_float32, full_precision

__all__ = [
    "TransportPlan",
    "calibrated_gate",
    "partial_transport",
    "project_to_ball",
    "prototype_cost",
    "transport_pool",
]

SLOPE_FLOOR = 1e-30
"""Least Σ w(1−w) that is divided by: with all gates fully open or shut it is 0, and so is the gradient."""

COINCIDENT = 8
"""Squared distances up to this many roundings of 1 are 0: below, cancellation decides value and direction."""


class TransportPlan(NamedTuple):
    """Where the mass of each location goes.

    plan:     (B, N, M) mass π_ij moved from location i to prototype j; sums to the ratio per image.
    residual: (B, N) mass ρ_i that stays behind; ``residual + plan.sum(2) = 1/N``.
    gate:     (B, N) share w_i of the location's mass that is moved, in [0, 1]; its mean is the ratio.
    """

    plan: Tensor
    residual: Tensor
    gate: Tensor


def project_to_ball(vectors: Tensor) -> Tensor:
    """Scale the last axis into the unit ball: ``v / max(1, ‖v‖)``; vectors inside are left alone."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors.div(norm.clamp_min(1.0))


def prototype_cost(features: Tensor, prototypes: Tensor) -> Tensor:
    """Distances of local features to prototypes on the unit ball, from products instead of differences.

        c_ij = ‖f̂_i − ω̂_j‖ = sqrt(‖f̂_i‖² + ‖ω̂_j‖² − 2⟨f̂_i, ω̂_j⟩),   v̂ = v / max(1, ‖v‖)

    features: (B, N, D), prototypes: (M, D); returns (B, N, M) in [0, 2]. The gradient at distance 0 is 0.
    """
    with full_precision(features):
        f, p = project_to_ball(at_least_float32(features)), project_to_ball(at_least_float32(prototypes))
        squared = f.square().sum(-1, keepdim=True) + p.square().sum(-1) - 2 * f @ p.T
        coincident = squared <= COINCIDENT * torch.finfo(squared.dtype).eps
        distance = squared.masked_fill(coincident, 1.0).sqrt()  # no root of 0 for autograd to divide by
        return distance.masked_fill(coincident, 0.0)


def partial_transport(cost: Tensor, *, ratio: float | Tensor, sharpness: float | Tensor) -> TransportPlan:
    """Solve the transport problem exactly; the gradients of cost, ratio and sharpness are exact too.

    cost: (B, N, M). ratio: μ in (0, 1], a number or a tensor () or (B,); 1 keeps everything (GAP).
    sharpness: γ > 0, the inverse of the entropic regularisation, likewise.
    Raises InputError on a cost that is not a floating (B, N, M), and on a ratio or sharpness out of range.
    """
    if cost.ndim != 3 or 0 in cost.shape[1:] or not cost.is_floating_point():
        raise InputError(
            f"cost has shape {tuple(cost.shape)} and type {cost.dtype}; expected floating point (batch, "
            "locations, prototypes). Add the missing axis, or convert with cost.float()."
        )
    with full_precision(cost):
        cost = at_least_float32(cost)
        logits = -_checked_sharpness(sharpness, cost) * cost
        gate = calibrated_gate(logits.logsumexp(-1), ratio)
        count = cost.shape[1]
        plan = (gate / count).unsqueeze(-1) * logits.softmax(-1)
        return TransportPlan(plan, (1 - gate) / count, gate)


def calibrated_gate(scores: Tensor, ratio: float | Tensor) -> Tensor:
    """Sigmoid gates with one bias per image, such that their mean is the ratio.

        w_i = σ(a_i + θ)   with θ such that   mean_i w_i = μ

    scores: a, (B, N); ratio: μ in (0, 1], a number or a tensor () or (B,). Returns (B, N).
    Gradient by the implicit function theorem: ∂θ/∂a_i = −w_i(1−w_i) / Σ_k w_k(1−w_k).
    Raises InputError on a ratio out of range (a tensor on an accelerator is not read back for that).
    """
    scores = at_least_float32(scores)
    gate: Tensor = _CalibratedGate.apply(scores, _ratio_column(ratio, scores))
    return gate


def transport_pool(
    features: Tensor, prototypes: Tensor, *, ratio: float | Tensor, sharpness: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pool by the transport plan, in one pass: same result as `partial_transport` of `prototype_cost`.

        vector = Σ_i s_i f_i,   attributes_j = Σ_i π_ij / μ,   s_i = w_i / (N μ)

    features: (B, D, N), channels first as a feature map lies in memory; prototypes: (M, D). ratio, sharpness: as there.
    Returns vectors (B, D), attributes (B, M) and shares s (B, N); rows of the latter two sum to 1.
    Gradients are first order only. Raises InputError on a ratio or sharpness out of range.
    """
    with full_precision(features):
        f, p = at_least_float32(features), at_least_float32(prototypes)
        column = _ratio_column(ratio, f)
        gamma = _checked_sharpness(sharpness, f)
        pooled: tuple[Tensor, Tensor, Tensor] = _TransportPool.apply(f, p, column, gamma)
        return pooled


class _CalibratedGate(torch.autograd.Function):
    """Gates from scores (B, N) and ratio (B or 1, 1); see `calibrated_gate`."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, ratio: Tensor) -> Tensor:
        gate = solve_gate(scores, ratio, may_wait=products.eager_cpu(scores))
        ctx.save_for_backward(gate)
        ctx.ratio_shape = ratio.shape
        return gate

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (gate,) = ctx.saved_tensors
        grad_scores, grad_ratio = _gate_gradient(gate, grads[0])
        return grad_scores, grad_ratio.sum_to_size(ctx.ratio_shape)


def _gate_gradient(gate: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of the gates by scores (B, N) and by the ratio (B, 1)."""
    slope = gate * (1 - gate)
    by_bias = (grad * slope).sum(1, keepdim=True) / slope.sum(1, keepdim=True).clamp_min(SLOPE_FLOOR)
    return slope * (grad - by_bias), gate.shape[1] * by_bias


class _TransportPool(torch.autograd.Function):
    """See `transport_pool`. Keeps the (B, N, M) distances and softmax, and no copy of large features."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, prototypes: Tensor, ratio: Tensor, sharpness: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        tokens = products.tokens(features)  # (B, N, D)
        lengths = torch.linalg.vector_norm(tokens, dim=2, keepdim=True)  # (B, N, 1)
        scale, inside = lengths.clamp_min(1.0).reciprocal(), lengths.clamp_max(1.0)  # f̂ = scale·f, ‖f̂‖
        projected = project_to_ball(prototypes)
        norms = projected.square().sum(1)
        distance = products.rows_by(projected, tokens)  # (B, N, M)
        torch.addcmul(norms, distance, -2 * scale, out=distance).add_(inside.square())
        threshold(distance, COINCIDENT * torch.finfo(distance.dtype).eps, 0.0, inplace=True).sqrt_()
        nearest = distance.amin(-1, keepdim=True)
        soft = (distance - nearest).mul_(-sharpness).exp_()  # a softmax that gives away its normaliser
        total = soft.sum(-1, keepdim=True)
        soft.div_(total)
        # sharpness: a number, (1, 1, 1) or (B, 1, 1)
        scores = (total.log() - sharpness * nearest).squeeze(-1)
        gate = solve_gate(scores, ratio, may_wait=products.eager_cpu(scores))
        shares = gate / (gate.shape[1] * ratio)
        rows = shares.unsqueeze(1)
        vectors, attributes = torch.bmm(rows, tokens).squeeze(1), torch.bmm(rows, soft).squeeze(1)
        saved = (tokens, prototypes, ratio, projected, norms, scale, distance, soft, gate, shares)
        own = (sharpness,) if isinstance(sharpness, Tensor) else ()
        ctx.save_for_backward(*saved, *own)
        ctx.sharpness = None if own else sharpness
        return vectors, attributes, shares

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, prototypes, ratio, projected, norms, scale, distance, soft, gate, shares, *own = (
            ctx.saved_tensors
        )
        sharpness = own[0] if own else ctx.sharpness
        by_vector, by_attribute, by_share = grads
        with full_precision(tokens):
            # shares -> gates -> scores. Rows on the left: matrix times column is 3 to 10 times slower on a CPU
            by_soft = torch.bmm(by_attribute.unsqueeze(1), soft.mT).squeeze(1)  # Σ_j p_ij ∂/∂z_j, (B, N)
            by_share = by_share + torch.bmm(by_vector.unsqueeze(1), tokens.mT).squeeze(1) + by_soft
            by_score, by_ratio = _gate_gradient(gate, by_share / (gate.shape[1] * ratio))
            # scores and attributes -> distances: −g_ij = γ p_ij (∂/∂a_i + s_i (∂/∂z_j − Σ_k p_ik ∂/∂z_k))
            steep = sharpness * scale
            offset = steep * (by_score - shares * by_soft).unsqueeze(-1)
            push = torch.addcmul(offset, steep * shares.unsqueeze(-1), by_attribute.unsqueeze(1))
            push.mul_(soft)  # −scale_i g_ij, (B, N, M)
            buffer = push * distance
            moment = buffer.sum(-1, keepdim=True)  # −Σ_j g_ij c_ij
            # distances -> unit ball: h_ij = g_ij / c_ij pulls f̂_i and ω̂_j along their difference
            push.div_(torch.ops.aten.threshold.out(distance, 0.0, math.inf, out=buffer))
            by_features = by_prototypes = by_column = by_sharpness = None
            if ctx.needs_input_grad[3]:  # γ and c come as γc alone, so γ ∂/∂γ = Σ_ij c_ij ∂/∂c_ij
                by_sharpness = (-moment / (scale * sharpness)).sum_to_size(sharpness.shape)
            if ctx.needs_input_grad[0]:
                by_length = push.sum(-1, keepdim=True)
                radial = (by_length - (push @ norms).unsqueeze(-1) + moment) / 2  # −⟨f̂, ∂/∂f̂⟩ where ‖f̂‖ = 1
                by_tokens = products.rows_by(projected.T, push)
                by_tokens.addcmul_(tokens, scale * (torch.where(scale < 1, radial, 0.0) - by_length))
                by_features = by_tokens.addcmul_(shares.unsqueeze(-1), by_vector.unsqueeze(1)).mT
            if ctx.needs_input_grad[1]:
                onto = projected * (push.flatten(0, 1).T @ scale.reciprocal().flatten()).unsqueeze(-1)
                by_projected = products.summed_products(push, tokens) - onto
                by_prototypes = _ball_gradient(prototypes, projected, by_projected)
            if ctx.needs_input_grad[2]:
                by_ratio = by_ratio - (by_share * shares).sum(1, keepdim=True) / ratio
                by_column = by_ratio.sum_to_size(ratio.shape)
        return by_features, by_prototypes, by_column, by_sharpness


def _ball_gradient(vectors: Tensor, projected: Tensor, grad: Tensor) -> Tensor:
    """Gradient through `project_to_ball`: outside of the ball, only the tangential part, scaled."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    radial = torch.where(norm > 1, (projected * grad).sum(-1, keepdim=True), 0.0)
    return (grad - projected * radial).div(norm.clamp_min(1.0))


def _checked_sharpness(sharpness: float | Tensor, like: Tensor) -> float | Tensor:
    """A number as it is, a tensor as (1, 1, 1) or (B, 1, 1), checked where that does not wait for an accelerator."""
    if isinstance(sharpness, Tensor):
        if sharpness.ndim > 1 or (sharpness.ndim == 1 and sharpness.shape[0] not in (1, like.shape[0])):
            raise InputError(
                f"sharpness has shape {tuple(sharpness.shape)} for a batch of {like.shape[0]}; expected one number, "
                "or one per image. Index or expand it to that shape."
            )
        valid = not products.eager_cpu(sharpness) or bool(((sharpness > 0) & (sharpness < math.inf)).all())
    else:
        valid = 0 < sharpness < math.inf
    if not valid:
        raise InputError(
            f"sharpness is {sharpness}; expected a finite number above 0. The paper uses 5 with pair losses "
            "and 0.5 with proxy losses; for plain averaging use global average pooling or ratio=1."
        )
    return sharpness.to(like).reshape(-1, 1, 1) if isinstance(sharpness, Tensor) else sharpness


def _ratio_column(ratio: float | Tensor, like: Tensor) -> Tensor:
    """The ratio as (B, 1) or (1, 1), checked where that does not wait for an accelerator."""
    if isinstance(ratio, Tensor):
        if ratio.ndim > 1 or (ratio.ndim == 1 and ratio.shape[0] not in (1, like.shape[0])):
            raise InputError(
                f"ratio has shape {tuple(ratio.shape)} for a batch of {like.shape[0]}; expected one number, "
                "or one per image. Index or expand it to that shape."
            )
        valid = not products.eager_cpu(ratio) or bool(((ratio > 0) & (ratio <= 1)).all())
        column = ratio.to(like).reshape(-1, 1)
    else:
        valid = 0 < ratio <= 1
        column = like.new_full((1, 1), ratio)
    if not valid:
        raise InputError(
            f"ratio is {ratio}; expected above 0 and at most 1, the share of mass that is transported. "
            "Use 1 for plain averaging; keep a learned ratio inside with a sigmoid."
        )
    return column
