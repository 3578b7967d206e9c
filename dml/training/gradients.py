"""The gradient of the loss of the whole batch, however the batch is shared out and cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from dml.distributed import gather_rows, rank, sum_gradients
from dml.losses import Losses, Objective
from dml.model import EmbeddingModel
from dml.randomness import torch_seed
from dml.training.draws import layers_that_draw, spot_shared_inputs
from dml.training.dropout import draw_dropout_by_image
from dml.training.optimization import batchnorm_layers
from dml.types import Batch, Pooled

__all__ = ["BatchGradient"]

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class BatchGradient:
    """Fills ``.grad`` of model and objective with the gradient of the loss of the global batch.

    The loss sees the embeddings of all processes, in the order of the global batch. With micro-batches there are
    two passes: all images are embedded without graph, the loss gives the gradient of each embedding, and the
    images are embedded once more, a micro-batch at a time, to carry it on. Dropout and any other noise of the model
    is a function of (seed, step, position), so it is the same in both passes and in every cut.

    Args:
        micro_batch: images in the model at a time; None for all that this process holds.
        precision: fp32, bf16 or fp16, of the model; the objective stays in float32.
        compile: run the model through torch.compile.

    ``scaler`` scales the loss in fp16, and does nothing else. A part of the model that does not learn is passed without
    graph, and one that learns nothing at all is not embedded a second time.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        objective: Objective,
        *,
        device: torch.device,
        seed: int,
        micro_batch: int | None,
        precision: str,
        compile: bool,
    ) -> None:
        self._model, self._objective = model, objective
        self._device, self._seed, self._micro_batch = device, seed, micro_batch
        self._precision = DTYPES[precision]
        self._noise = draw_dropout_by_image(model, seed)
        self._embed = torch.compile(model) if compile else model
        self.scaler = GradScaler(device.type, enabled=precision == "fp16")
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def __call__(
        self, batch: Batch, step: int, sizes: Sequence[int]
    ) -> tuple[Losses, Pooled, Tensor, Tensor]:
        """Losses, pooled images, labels and indices of the global batch; gradients are added to ``.grad``.

        Args:
            batch: the share of this process.
            step: the number of the step, from 0.
            sizes: the number of images of each process.
        """
        if self.scaler.is_enabled():
            self._statistics = [(buffer, buffer.clone()) for buffer in self._running_statistics()]
        start = sum(sizes[: rank()])
        cuts = self._cuts(len(batch.labels))
        if len(cuts) == 1:
            given = self._pool(batch.images, cuts[0], step, start)
        else:
            with torch.no_grad():
                parts = [self._pool(batch.images, cut, step, start) for cut in cuts]
            given = _map(lambda *rows: torch.cat(rows).requires_grad_(), *parts)
        everyone = _map(lambda rows: gather_rows(rows, sizes), given)
        labels = gather_rows(batch.labels.to(self._device, non_blocking=True), sizes)
        indices = gather_rows(batch.indices.to(self._device, non_blocking=True), sizes)
        with torch_seed(self._seed, "objective", step):
            losses = self._objective(everyone, labels, indices)
        self.scaler.scale(losses.total).backward()
        if len(cuts) > 1 and any(p.requires_grad for p in self._model.parameters()):
            for cut in cuts:
                self._carry_on(self._pool(batch.images, cut, step, start), given, cut)
        sum_gradients(parts=self._model, replicas=self._objective)
        return losses, everyone, labels, indices

    def learn_draws(self, images: Tensor, *, cut: bool) -> list[str]:
        """Try the model before it trains, so that each dropout knows what it drops.

        images: (2, 3, H, W).
        cut: the model will see a batch in parts. Then the layers are returned that must not be there, because what they
        draw depends on the cut: see `layers_that_draw`.
        """
        images = images.to(self._device)
        spot_shared_inputs(self._model, self._noise, images)
        self._noise.at(0, range(len(images)))
        return layers_that_draw(self._model, images) if cut else []

    def step(self, optimizer: Optimizer) -> bool:
        """One step of the optimizer; False if the gradient overflowed in half precision, which leaves no trace.

        Only there it reads from the device: the scaler has to know whether to step, and the caller too.
        """
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= before:
            return True
        for buffer, as_it_was in self._statistics:
            buffer.copy_(as_it_was)
        return False

    def _running_statistics(self) -> Iterator[Tensor]:
        return (b for layer in batchnorm_layers(self._model) if layer.training for b in layer.buffers())

    def _cuts(self, count: int) -> list[slice]:
        size = min(self._micro_batch or count, count)
        return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]

    def _pool(self, images: Tensor, cut: slice, step: int, start: int) -> Pooled:
        self._noise.at(step, range(start + cut.start, start + cut.stop))
        with torch_seed(self._seed, "model", step, start + cut.start), self._autocast():
            pooled: Pooled = self._embed(images[cut].to(self._device, non_blocking=True))
        return pooled

    def _autocast(self) -> AbstractContextManager[object]:
        """A context for each pass: its cache must not carry casts without graph into the pass with graph."""
        if self._precision is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._precision)

    def _carry_on(self, pooled: Pooled, given: Pooled, cut: slice) -> None:
        """Back-propagate what the loss said about the images of a micro-batch."""
        reached = [
            (again, leaf.grad[cut])
            for again, leaf in _pairs(pooled, given)
            if leaf.grad is not None and again.requires_grad
        ]
        torch.autograd.backward([again for again, _ in reached], [gradient for _, gradient in reached])


def _map(function: Callable[..., Tensor], *pooled: Pooled) -> Pooled:
    """Apply to vectors, attributes and weights, those that there are."""
    vectors, attributes, weights = (
        None if fields[0] is None else function(*fields) for fields in zip(*pooled, strict=True)
    )
    assert vectors is not None
    return Pooled(vectors, attributes, weights)


def _pairs(one: Pooled, other: Pooled) -> list[tuple[Tensor, Tensor]]:
    return [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
