"""The local features among which prototypes start: those of the first batches, or a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from dml.config import TrainerOptions
from dml.contracts import ChoosesStart, FitsSharpness, HasPrototypes
from dml.distributed import gather_numbers, gather_rows, rank
from dml.model import EmbeddingModel
from dml.randomness import torch_generator
from dml.training.optimization import use_batch_statistics
from dml.types import Batch

__all__ = ["initialise_prototypes", "prototype_features"]

Embed = Callable[[Tensor], Tensor]


@torch.no_grad()
def initialise_prototypes(
    model: EmbeddingModel,
    batches: Callable[[int, int], Iterable[Batch]],
    options: TrainerOptions,
    *,
    seed: int,
    device: torch.device,
) -> None:
    """Hand the local features of the first batches to a pooling that has prototypes to place, or a sharpness to fit.

    The sharpness is fitted to whole images: to those of the first batch alone if the features are not of whole images.
    The model is left in evaluation mode.

    Args:
        batches: gives the share of this process of the training batches of the steps from start to stop.
    """
    pooling = model.pooling
    if not isinstance(pooling, HasPrototypes):
        return
    model.eval()
    if not options.frozen_batchnorm:
        use_batch_statistics(model)  # the running ones say nothing yet about a network that starts anew
    running = {name: buffer.clone() for name, buffer in model.named_buffers()}
    count, limit = options.initialisation_batches, options.initialisation_locations
    features = prototype_features(
        lambda images: _starting_points(model, images.to(device)),
        batches(0, count),
        limit=None if limit is None else limit // count,
        seed=seed,
        micro_batch=options.micro_batch,
    )
    images = features
    fitted = pooling if isinstance(pooling, FitsSharpness) and pooling.fits_sharpness else None
    if (
        fitted is not None and features.ndim == 3 and features.shape[1] == 1
    ):  # locations drawn from images, or their means
        images = prototype_features(
            lambda images: model.features(images.to(device)),
            batches(0, 1),
            limit=None,
            seed=seed,
            micro_batch=options.micro_batch,
        )
    model.load_state_dict(running, strict=False)
    pooling.initialise_prototypes(features, generator=torch_generator(seed, "prototypes"))
    if fitted is not None:
        fitted.fit_sharpness(images)


def _starting_points(model: EmbeddingModel, images: Tensor) -> Tensor:
    """Local features, or where prototypes start from pooled ones the mean of an image."""
    features = model.features(images)
    if not (isinstance(model.pooling, ChoosesStart) and model.pooling.prototype_start == "pooled"):
        return features
    locations = features.flatten(2) if features.ndim == 4 else features.mT
    return locations.mean(2).unsqueeze(1)


def prototype_features(
    embed: Embed, batches: Iterable[Batch], *, limit: int | None, seed: int, micro_batch: int | None
) -> Tensor:
    """Local features of the images of all processes, the same in every process.

    Of a batch with more than ``limit`` locations only that many are kept, spread over its images as evenly as whole
    numbers allow. Which ones is a function of (seed, batch, position), so neither the number of processes nor the
    micro-batch has a say. They are chosen before they are gathered: a process holds what is kept, twice while it is
    joined, and the features of one micro-batch.

    Args:
        embed: images (B, 3, H, W) to a map (B, D, H', W') or tokens (B, N, D).
        batches: the share of this process of each batch.
        limit: locations kept of each batch; None keeps all.
        micro_batch: images to embed at a time; None for all.

    Returns:
        (images, D, H', W') or (images, N, D) if every batch is within the limit, else what is kept as (n, 1, D).
    """
    kept = [
        _of_batch(embed, batch.images, limit, (seed, "prototype features", number), micro_batch)
        for number, batch in enumerate(batches)
    ]
    if all(features.ndim > 2 for features in kept):
        return torch.cat(kept)
    return torch.cat([_tokens(features).flatten(0, -2) for features in kept]).unsqueeze(1)


def _of_batch(
    embed: Embed, images: Tensor, limit: int | None, key: tuple[int | str, ...], micro_batch: int | None
) -> Tensor:
    """All features of a batch; if it is beyond the limit, those kept, (limit, D)."""
    sizes = gather_numbers(len(images))[:, 0].tolist()
    starts = [0, *accumulate(sizes)]  # of the share of each process
    position, total, parts = starts[rank()], starts[-1], list[Tensor]()
    for cut in torch.split(images, micro_batch or len(images)):
        features = embed(cut)
        if limit is not None and total * _tokens(features).shape[1] > limit:
            before = [(position + i) * limit // total for i in range(len(cut) + 1)]
            features = _draw(_tokens(features), before, position, key)
        parts.append(features)
        position += len(cut)
    own = torch.cat(parts)
    if own.ndim == 2 and limit is not None:
        sizes = [end * limit // total - start * limit // total for start, end in pairwise(starts)]
    return gather_rows(own, sizes)


def _draw(tokens: Tensor, before: list[int], position: int, key: tuple[int | str, ...]) -> Tensor:
    """Of image i of (B, N, D), the first one at a position, ``before[i + 1] - before[i]`` locations: (n, D)."""
    images, places = list[int](), list[Tensor]()
    for image, (start, stop) in enumerate(pairwise(before)):
        order = torch.randperm(tokens.shape[1], generator=torch_generator(*key, position + image))
        images += [image] * (stop - start)
        places.append(order[: stop - start])
    return tokens[torch.tensor(images, dtype=torch.int64), torch.cat(places)]


def _tokens(features: Tensor) -> Tensor:
    """A map (B, D, H, W) as tokens (B, N, D); the rest as it is."""
    return features.flatten(2).mT if features.ndim == 4 else features
