"""Embeddings of past batches, as references for the pairs of the present one."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dml.errors import InputError

__all__ = ["CrossBatchMemory"]

NO_IMAGE = -1


class CrossBatchMemory(nn.Module):
    """A ring of the last embeddings and their labels; the newest overwrite the oldest.

    It holds what was remembered in earlier steps only, and no gradient reaches it. So no embedding meets itself, but an
    image meets what it was embedded as in earlier steps, unless that is left out. Pointer, fill and step travel in the
    state dict.

    Args:
        capacity: rows.
        embedding_dim: D.
        start_step: so many steps nothing is remembered: embeddings drift fast at the start.
        own_images: False: a batch is not compared with earlier embeddings of the images that are in it.

    Raises:
        InputError: a capacity below 1, or a negative start.

    Source: Wang, Zhang, Huang, Scott, "Cross-Batch Memory for Embedding Learning", CVPR 2020.
    """

    def __init__(
        self, capacity: int, embedding_dim: int, *, start_step: int, own_images: bool = True
    ) -> None:
        super().__init__()
        if capacity < 1:
            raise InputError(f"a memory of {capacity} embeddings is none: give memory.batches of at least 1")
        if start_step < 0:
            raise InputError(f"memory.start_step={start_step}: give 0 or more steps")
        self.register_buffer("ring_vectors", torch.zeros(capacity, embedding_dim))
        self.register_buffer("ring_labels", torch.zeros(capacity, dtype=torch.int64))
        self.own_images = own_images
        if not own_images:  # without it the state is that of runs from before there was a choice
            self.register_buffer("ring_images", torch.full((capacity,), NO_IMAGE))
        self.start_step, self.pointer, self.fill, self.step = start_step, 0, 0, 0

    @property
    def vectors(self) -> Tensor:
        """What is remembered, (fill, D)."""
        return cast(Tensor, self.ring_vectors)[: self.fill]

    @property
    def labels(self) -> Tensor:
        """Labels of what is remembered, (fill,)."""
        return cast(Tensor, self.ring_labels)[: self.fill]

    def references(self, images: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors (R, D) and labels (R,) that a batch is compared with.

        images: (B,) the rows of the images of the batch in their data set; needed to leave their own out.
        """
        if self.own_images:
            return self.vectors, self.labels
        assert images is not None
        others = ~torch.isin(cast(Tensor, self.ring_images)[: self.fill], images)
        return self.vectors[others], self.labels[others]

    @torch.no_grad()
    def remember(self, vectors: Tensor, labels: Tensor, images: Tensor | None = None) -> None:
        """Take in the batch of a step, (B, D), (B,) and (B,), after its backward pass."""
        self.step += 1
        if self.step <= self.start_step:
            return
        capacity = len(cast(Tensor, self.ring_labels))
        vectors, labels = vectors[-capacity:], labels[-capacity:]
        rows = (self.pointer + torch.arange(len(labels), device=labels.device)) % capacity
        cast(Tensor, self.ring_vectors)[rows] = vectors.detach().to(cast(Tensor, self.ring_vectors))
        cast(Tensor, self.ring_labels)[rows] = labels
        if not self.own_images:
            assert images is not None
            cast(Tensor, self.ring_images)[rows] = images[-capacity:]
        self.pointer = (self.pointer + len(labels)) % capacity
        self.fill = min(self.fill + len(labels), capacity)

    @torch.no_grad()
    def relabel(self, labels: Tensor) -> None:
        """Give what is remembered of each class its new label, (classes,) int64; what has none, -1, is forgotten.

        The images have other rows then, so what is remembered counts as that of other images.
        """
        if not self.own_images:
            cast(Tensor, self.ring_images).fill_(NO_IMAGE)
        found = labels.to(self.labels.device)[self.labels]
        full = self.fill == len(cast(Tensor, self.ring_labels))
        if bool((found >= 0).all()):
            cast(Tensor, self.ring_labels)[: self.fill] = found
            return
        oldest_first = torch.arange(self.fill, device=found.device).roll(-self.pointer if full else 0)
        kept = oldest_first[found[oldest_first] >= 0]
        self.fill = self.pointer = len(kept)  # below the capacity: something was forgotten
        cast(Tensor, self.ring_vectors)[: self.fill] = cast(Tensor, self.ring_vectors)[kept]
        cast(Tensor, self.ring_labels)[: self.fill] = found[kept]

    def get_extra_state(self) -> dict[str, int]:
        return {"pointer": self.pointer, "fill": self.fill, "step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.pointer, self.fill, self.step = state["pointer"], state["fill"], state["step"]
