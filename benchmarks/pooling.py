# long: the published layer, which is compared with, stands beside ours
"""Speed and memory of generalized sum pooling, next to the layer as published.

    python benchmarks/pooling.py              # the whole table, about two minutes on 2 cores
    python benchmarks/pooling.py --rounds 9   # quicker, wider intervals

"published" has the operations of the authors' PyTorch layer, written anew, on maps (B, ., H, W): a normalised copy
of the features, distances by torch.cdist, 100 rounds of the fixed point

    ρ_i ← 1 / (N (1 + t Σ_j exp(−γ c_ij))),     t ← μ / Σ_ij exp(−γ c_ij) ρ_i

without gradient, plan and residual in one tensor with its closed-form gradient, and the mean of the weighted map.
"tuned" is the same iteration with everything around it done better: distances from a matrix product, no joint
tensor, a matrix product for the pooled vector.

Times are forward + backward, all variants in turn within each round; the ratio is the median over rounds with
its 95 % interval (order statistics). Other programs only ever add time, and to two threads that wait for each
other they add it many times over: on a busy machine read the ratio of the fastest rounds, printed next to it,
or use --threads 1. Every size has a process of its own: what one leaves in the allocator changes the times of
the next.

Memory is the peak of resident memory of a process of its own during one forward + backward, beyond what it held
before, inputs included in what it held; the gradient of the features counts. A first pass at the same size has
loaded libraries and compiled kernels. malloc is told to map every large block separately, so that freed memory
is really returned.

Kernels are those that an accelerator would start, on which nothing may be read back: the path of an accelerator is
forced, on the CPU, and its operators are counted by torch.profiler.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
import torchvision
from kernels import kernels_of
from measure import interleave, interval, peak_in_new_process, peak_of
from torch import Tensor, nn

from dml.functional import products
from dml.functional.transport import calibrated_gate, transport_pool

SIZES = (
    (112, 512, 49, 64),
    (32, 128, 49, 128),
    (112, 512, 196, 128),
)  # batch, channels, locations, prototypes
RATIO, SHARPNESS, ROUNDS = 0.3, 5.0, 100
Layer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class MaskedBall(torch.autograd.Function):
    """Projection on the unit ball by masks, with its closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        length = vectors.square().sum(-1, keepdim=True).sqrt()
        outside = (length > 1).float()
        divisor = outside * length + (1 - outside)
        projected = vectors / divisor
        ctx.save_for_backward(projected, outside, divisor)
        return projected

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        projected, outside, divisor = ctx.saved_tensors
        radial = projected * outside
        return (grads[0] - (radial * grads[0]).sum(-1, keepdim=True) * radial) / divisor


class JointPlan(torch.autograd.Function):
    """Residual and plan (B, 1 + M, H, W) by 100 rounds from the cost (B, M, H, W), and their closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor) -> Tensor:
        kernel = torch.exp(-SHARPNESS * cost)
        total, share = kernel.sum(1, keepdim=True), 1 / cost[0, 0].numel()
        scale = torch.full_like(total[:, :, :1, :1], RATIO)
        for _ in range(ROUNDS + 1):
            residual = share / (1 + scale * total)
            scale = RATIO / (residual * total).sum((2, 3), keepdim=True)
        joint = torch.cat([residual, scale * kernel * residual], dim=1)
        ctx.save_for_backward(joint)
        return joint

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (joint,) = ctx.saved_tensors
        count, residual, product = joint[0, 0].numel(), joint[:, :1], joint * grads[0]
        rows = product.sum(1, keepdim=True)
        eta = (product[:, :1] - count * rows * residual).sum((2, 3), keepdim=True)
        slope = 1 - RATIO - count * residual.square().sum((2, 3), keepdim=True)
        return -SHARPNESS * (product - count * (rows - eta / slope * residual) * joint)[:, 1:]


class FixedPointPlan(torch.autograd.Function):
    """Plan (B, N, M) and residual (B, N) by 100 rounds, and their closed-form gradient."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor) -> tuple[Tensor, Tensor]:
        kernel = torch.exp(-SHARPNESS * cost)
        plan, residual = rounds(kernel)
        ctx.save_for_backward(plan, residual)
        return plan, residual

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        plan, residual = ctx.saved_tensors
        count, by_plan, by_residual = plan.shape[1], plan * grads[0], residual * grads[1]
        q = by_residual + by_plan.sum(-1)
        eta = (by_residual - count * residual * q).sum(1, keepdim=True)
        slope = 1 - RATIO - count * residual.square().sum(1, keepdim=True)
        return -SHARPNESS * (by_plan - (count * (q - eta / slope * residual)).unsqueeze(-1) * plan)


def rounds(kernel: Tensor) -> tuple[Tensor, Tensor]:
    count, total = kernel.shape[1], kernel.sum(-1)
    scale = kernel.new_ones(kernel.shape[0], 1)
    for _ in range(ROUNDS):
        residual = 1 / (count * (1 + scale * total))
        scale = RATIO / (total * residual).sum(1, keepdim=True)
    return (residual * scale).unsqueeze(-1) * kernel, residual


def published(features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    side = math.isqrt(features.shape[2])
    feature_map = features.unflatten(2, (side, side))  # (B, D, H, W)
    tokens = MaskedBall.apply(feature_map.permute(0, 2, 3, 1)).flatten(1, 2)
    cost = torch.cdist(MaskedBall.apply(prototypes), tokens).unflatten(2, (side, side))
    joint = JointPlan.apply(cost)
    weights = (1 - features.shape[2] * joint[:, :1]) / RATIO
    vectors = nn.functional.adaptive_avg_pool2d(weights * feature_map, 1).flatten(1)
    return vectors, (joint[:, 1:] / RATIO).sum((2, 3))


def tuned(features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    tokens = features.mT
    f, p = ball(tokens), ball(prototypes)
    squared = f.square().sum(-1, keepdim=True) + p.square().sum(-1) - f @ (2 * p.T)
    cost = squared.clamp_min(1e-12).sqrt()
    plan, residual = FixedPointPlan.apply(cost)
    shares = (1 / tokens.shape[1] - residual) / RATIO
    return torch.bmm(features, shares.unsqueeze(-1)).squeeze(-1), plan.sum(1) / RATIO


def ball(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(1.0)


def ours(features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    vectors, attributes, _ = transport_pool(features, prototypes, ratio=RATIO, sharpness=SHARPNESS)
    return vectors, attributes


def gap(features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(2), prototypes.sum(1)


LAYERS: dict[str, Layer] = {
    "published": published,
    "tuned": tuned,
    "ours": ours,
    "gap": gap,
}


def make_inputs(batch: int, channels: int, locations: int, prototypes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, channels, locations, generator=generator) / math.sqrt(channels)
    centres = torch.randn(prototypes, channels, generator=generator) / math.sqrt(channels)
    return features.requires_grad_(), centres.requires_grad_()


def step(layer: Layer, features: Tensor, prototypes: Tensor) -> float:
    """Milliseconds of one forward + backward."""
    features.grad = prototypes.grad = None
    start = time.perf_counter()
    vectors, attributes = layer(features, prototypes)
    torch.autograd.backward([vectors, attributes], [vectors.detach(), attributes.detach()])
    return (time.perf_counter() - start) * 1e3


def measure_memory(layer: str, size: tuple[int, ...]) -> float:
    features, prototypes = make_inputs(*size)
    step(LAYERS[layer], features, prototypes)  # libraries and threads allocate on first use
    features.grad = prototypes.grad = None
    return peak_of(lambda: step(LAYERS[layer], features, prototypes))


def time_layers(size: tuple[int, ...], repeats: int, threads: int) -> dict[str, list[float]]:
    torch.set_num_threads(threads)
    inputs = make_inputs(*size)
    return interleave({name: partial(step, f, *inputs) for name, f in LAYERS.items()}, repeats)


def compare_layers(repeats: int, threads: int) -> None:
    print(
        "batch, channels, locations, prototypes | ms: "
        + " / ".join(LAYERS)
        + " | ratio [95 %] | of fastest | MiB | of published"
    )
    for size in SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            times = process.submit(time_layers, size, repeats, threads).result()
        ratios = {
            name: interval([slow / fast for slow, fast in zip(times[name], times["ours"], strict=True)])
            for name in ("published", "tuned")
        }
        memory = {name: peak_in_new_process(__file__, name, *size) for name in ("published", "tuned", "ours")}
        print(
            f"{size} | " + " / ".join(f"{statistics.median(t):.1f}" for t in times.values()),
            "; ".join("{:.2f} [{:.2f}, {:.2f}]".format(*r) for r in ratios.values()),
            " / ".join(f"{min(times[name]) / min(times['ours']):.2f}" for name in ratios),
            " / ".join(f"{m:.0f}" for m in memory.values()),
            f"{memory['ours'] / memory['published']:.2f}",
            sep=" | ",
            flush=True,
        )


def share_of_resnet(repeats: int, batch: int = 8) -> None:
    """Share of the pooling in a training step of ResNet-50 at 224 with a 1×1 map to 512 channels."""
    trunk = nn.Sequential(
        *list(torchvision.models.resnet50().children())[:-2], nn.Conv2d(2048, 512, 1, bias=False)
    )
    images, (features, prototypes) = torch.randn(batch, 3, 224, 224), make_inputs(batch, 512, 49, 64)

    def whole() -> float:
        start = time.perf_counter()
        vectors, attributes = ours(trunk(images).flatten(2), prototypes)
        torch.autograd.backward([vectors, attributes], [vectors.detach(), attributes.detach()])
        return (time.perf_counter() - start) * 1e3

    steps = {
        "step": whole,
        "ours": lambda: step(ours, features, prototypes),
        "gap": lambda: step(gap, features, prototypes),
    }
    times = interleave(steps, repeats)
    gross = interval([100 * a / b for a, b in zip(times["ours"], times["step"], strict=True)])
    net = interval(
        [100 * (a - g) / b for a, g, b in zip(times["ours"], times["gap"], times["step"], strict=True)]
    )
    print(f"ResNet-50 step, batch {batch}: {statistics.median(times['step']):.0f} ms, of which the layer")
    print(
        "  {:.2f} % [{:.2f}, {:.2f}]; ".format(*gross) + "beyond GAP {:.2f} % [{:.2f}, {:.2f}]".format(*net)
    )


def count_kernels(sharpness: float) -> tuple[Counter[str], Counter[str]]:
    """Kernels of `transport_pool` on an accelerator, forward and backward."""
    inputs, outputs = make_inputs(2, 16, 49, 8), list[Tensor]()
    eager, products.eager_cpu = products.eager_cpu, lambda tensor: False
    try:
        forward = kernels_of(
            lambda: outputs.extend(transport_pool(*inputs, ratio=RATIO, sharpness=sharpness))
        )
        gradients = [torch.ones_like(output) for output in outputs]
        return forward, kernels_of(lambda: torch.autograd.backward(outputs, gradients))
    finally:
        products.eager_cpu = eager


def show_kernels() -> None:
    for sharpness in (SHARPNESS, 100.0):
        forward, backward = count_kernels(sharpness)
        print(
            f"kernels on an accelerator at sharpness {sharpness:g}: "
            f"{forward.total()} forward, {backward.total()} backward"
        )


def check_baseline() -> None:
    """Both layers must agree before they are compared: gates to 1e-5, gradients to 1e-4 of their size."""
    features, prototypes = make_inputs(2, 16, 9, 4)
    results = []
    for layer in (published, tuned, ours):
        step(layer, features, prototypes)
        results.append(torch.cat([features.grad.flatten(), prototypes.grad.flatten()]))
    for other in results[:2]:
        torch.testing.assert_close(other, results[2], rtol=1e-3, atol=1e-6)
    assert calibrated_gate(torch.zeros(1, 4), 0.5).mean() == 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=21, help="repetitions of every measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-of", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        layer, *size = options.memory_of
        print(measure_memory(layer, tuple(map(int, size))))
        return
    check_baseline()
    show_kernels()
    compare_layers(options.rounds, options.threads)
    share_of_resnet(max(5, options.rounds // 3))


if __name__ == "__main__":
    main()
