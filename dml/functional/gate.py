"""Sigmoid gates with one bias per image, such that their mean is a given ratio: find θ with mean_i σ(a_i + θ) = μ.

Two searches for the same root. `_newton` looks at its progress after each step and stops early, which is cheap on a
CPU; to look at it on an accelerator would be to wait for it. `_sections` never looks: how much it does follows from
the type alone, and is enough for all scores and ratios.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["solve_gate"]

NEWTON_STEPS = 40
"""Random problems needed up to 5 for sharpness 5 and 21 for 1e4; in float64 7 and 30. Contrived ones need more."""

SECTIONS = 32
"""Parts into which a round of `_sections` cuts its interval: 2 rounds in float32, 3 in float64."""


def solve_gate(scores: Tensor, ratio: Tensor, *, may_wait: bool) -> Tensor:
    """Gates σ(a_i + θ), (B, N), of scores a, (B, N), with the mean μ of each image, (B or 1, 1) in (0, 1].

    may_wait: values may be read back, so that the search stops once it is there.
    """
    full = ratio >= 1  # has no finite bias; it is put in at the end
    target = ratio.masked_fill(full, 0.5)
    gate = _newton(scores, target) if may_wait else _sections(scores, target)
    return gate.masked_fill(full, 1.0)


def _newton(scores: Tensor, target: Tensor) -> Tensor:
    """Newton on logit(mean w) = logit(μ), bisecting whenever a step would leave the bracket.

    The logits themselves are moved, not a bias: those near 0, which decide, then keep all their digits
    however large the scores are. The bracket is kept relative to the current point. What is not there after
    NEWTON_STEPS goes to `_sections`, unless only rounding is missing.
    """
    goal, tolerance = torch.logit(target), 4 * torch.finfo(scores.dtype).eps * target
    logits = scores - scores.mean(1, keepdim=True) + goal
    low, high = goal - logits.amax(1, keepdim=True), goal - logits.amin(1, keepdim=True)
    for taken in range(NEWTON_STEPS):
        gate = logits.sigmoid()
        mean = gate.mean(1, keepdim=True)
        if taken and bool(((mean - target).abs() <= tolerance).all()):
            return gate
        gap = goal - torch.logit(mean)
        rising = gap > 0
        low, high = low * ~rising, high * rising
        step = gap * mean * (1 - mean) / (mean - gate.square().mean(1, keepdim=True))
        step = torch.where(step.clamp(low, high) == step, step, low.lerp(high, 0.5))
        logits, low, high = logits + step, low - step, high - step
    lost = (mean - target).abs() > 16 * tolerance
    return torch.where(lost, _sections(scores, target), gate) if bool(lost.any()) else gate


def _sections(scores: Tensor, target: Tensor) -> Tensor:
    """Cut an interval that holds τ = −θ into SECTIONS again and again, then Newton; nothing is read back.

    With sorted scores s_1 ≥ … ≥ s_N, f(τ) = Σ_i σ(s_i − τ) falls, and f(τ) = Nμ is wanted. Let t be so large that
    σ(−t) is the least positive number of the type; e⁻ᵗ is taken for 0 beside a rounding, ε.

    1. *The interval, whatever the range of the scores.* f(s_k + t) ≤ k − 1 + N e⁻ᵗ, since only the scores above s_k
       count more than e⁻ᵗ; so τ ≤ s_k + t for k = ⌊Nμ(1 − 2ε)⌋ + 1. Likewise f(s_m − t) ≥ m(1 − e⁻ᵗ), so τ ≥ s_m − t
       for m = ⌊Nμ(1 + 2ε)⌋ + 1; where that would be N + 1, m = N will do, since logit μ < t. Mostly m = k. Else Nμ
       is a whole number but for rounding, m = k + 1, and no score lies between s_m and s_k. If these are more than
       2t apart, the gates of either side are all open or all shut seen from the other, so the upper side can be
       moved down until they are 2t apart, without changing a gate. Then τ lies within [s_m − t, s_m + 3t].
    2. *Rounds.* f at the SECTIONS − 1 inner edges tells in which section τ lies, so the width 4t, 416 in float32 and
       2,978 in float64, is divided by SECTIONS a round.
    3. *Newton.* The slope φ of f has |φ'| ≤ φ, as σ'' = σ'(1 − 2σ), so over a distance s it changes by a factor within
       e^±s. A step from an error e therefore leaves at most e^|e| − 1 − |e|, and is at most e^|e| − 1 long. From half
       of the last section it takes 3 steps to a rounding in float32 and 4 in float64. A step is held to that length,
       because where all gates are open or shut a rounding divided by a slope of almost 0 goes anywhere.

    Errors of τ are then within ε, or move the mean by less than its own rounding.
    """
    info, count = torch.finfo(scores.dtype), scores.shape[1]
    reach = -math.log(info.smallest_normal * info.eps)
    upper, lower = _ranked(
        scores, [target * (count * (1 + slack)) for slack in (-2 * info.eps, 2 * info.eps)]
    )
    gap = (upper - lower).clamp_max(2 * reach)
    # a difference of neighbouring numbers is exact, so the scores that decide keep their digits however large they are
    logits = torch.where(scores >= upper, scores - upper + gap, scores - lower)
    low, width = torch.full_like(lower, -reach), 4 * reach
    inner = torch.arange(1, SECTIONS, device=scores.device)
    while width > 0.5:
        width /= SECTIONS
        edges = torch.add(low, inner, alpha=width)  # (B, SECTIONS − 1)
        means = (logits.unsqueeze(1) - edges.unsqueeze(2)).sigmoid_().mean(2)
        low = torch.add(low, (means > target).sum(1, keepdim=True), alpha=width)
    error = width / 2
    logits = logits - (low + error)
    while error > info.eps:
        gate, longest = logits.sigmoid(), math.expm1(error)
        slope = torch.addcmul(gate, gate, gate, value=-1).mean(1, keepdim=True)
        step = (gate.mean(1, keepdim=True) - target) / slope.clamp_min(info.smallest_normal)
        logits, error = logits - step.clamp(-longest, longest), longest - error
    return logits.sigmoid()


def _ranked(scores: Tensor, places: list[Tensor]) -> list[Tensor]:
    """The scores (B, 1) at places (B or 1, 1), counted from 0 and from above; places are rounded down."""
    ordered = scores.sort(1, descending=True).values
    last = scores.shape[1] - 1
    return [ordered.gather(1, at.long().clamp_max(last).expand(scores.shape[0], 1)) for at in places]
