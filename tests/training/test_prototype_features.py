"""Prototypes start from a bounded number of local features, the same however the batches are shared out and cut."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dml.config import ConfigError, TrainConfig
from dml.randomness import torch_generator
from dml.training import Trainer, prototype_features
from dml.types import Batch

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
SIZES = (6, 7, 7)  # the images of a batch that each of 3 processes has
LOCATIONS = 9


def batches(*, share: slice = slice(None)) -> Iterator[Batch]:
    """Two batches of 20 images, of which every value tells batch, image and channel."""
    for number in range(2):
        values = torch.arange(20.0)[share, None, None, None] + 100 * number + torch.zeros(1, 3, 3, 3)
        yield Batch(values, torch.zeros(len(values)), torch.zeros(len(values)))


def embed(images: Tensor) -> Tensor:
    """A map (B, 2, 3, 3) that tells in channel 0 the image and in channel 1 the location."""
    places = torch.arange(float(LOCATIONS)).view(1, 1, 3, 3).expand(len(images), 1, 3, 3)
    return torch.cat([images[:, :1], places], 1)


def drawn(
    limit: int | None, *, micro_batch: int | None = None, share: slice = slice(None), seed: int = 0
) -> Tensor:
    return prototype_features.prototype_features(
        embed, batches(share=share), limit=limit, seed=seed, micro_batch=micro_batch
    )


@pytest.mark.parametrize("limit", [None, 20 * LOCATIONS])
def test_within_the_limit_all_features_are_handed_over_as_they_are(limit: int | None) -> None:
    assert drawn(limit, micro_batch=7).equal(torch.cat([embed(batch.images) for batch in batches()]))


@pytest.mark.parametrize("limit", [1, 7, 20, 30, 20 * LOCATIONS - 1])
def test_beyond_it_as_many_are_kept_as_it_says_evenly_from_all_images_and_none_twice(limit: int) -> None:
    rows = drawn(limit).squeeze(1)
    assert rows.shape == (2 * limit, 2) and len(rows.unique(dim=0)) == 2 * limit
    per_image = rows[:, 0].unique(return_counts=True)[1]
    assert per_image.max() - (per_image.min() if limit >= 20 else 0) <= 1


def test_what_is_kept_is_a_function_of_seed_batch_and_position() -> None:
    first, second = drawn(60).squeeze(1)[:, 1].chunk(2)
    assert not first.equal(second) and not drawn(60, seed=1).equal(drawn(60))
    assert set(first.tolist()) == set(range(LOCATIONS))


@pytest.mark.parametrize("micro_batch", [1, 6, 19])
def test_micro_batches_keep_the_same(micro_batch: int) -> None:
    assert drawn(47, micro_batch=micro_batch).equal(drawn(47))


@pytest.mark.parametrize("limit", [1, 47, None])
def test_processes_keep_the_same_and_agree_on_how_much_each_has(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, told, start = list[Tensor](), list[list[int]](), 0
    monkeypatch.setattr(prototype_features, "gather_numbers", lambda count: torch.tensor(SIZES).unsqueeze(1))
    monkeypatch.setattr(prototype_features, "gather_rows", lambda rows, sizes: told.append(sizes) or rows)
    for rank, size in enumerate(SIZES):
        monkeypatch.setattr(prototype_features, "rank", lambda rank=rank: rank)
        own.append(drawn(limit, share=slice(start, start + size), micro_batch=4))
        start += size
    monkeypatch.undo()
    halves = [features.split([sizes[rank] for sizes in told[:2]]) for rank, features in enumerate(own)]
    assert torch.cat([part for batch in zip(*halves, strict=True) for part in batch]).equal(drawn(limit))


def test_a_process_holds_what_is_kept_and_the_features_of_one_micro_batch() -> None:
    seen, alive = list[weakref.ref[Tensor]](), list[int]()

    def watched(images: Tensor) -> Tensor:
        alive.append(sum(ref() is not None for ref in seen))
        features = embed(images)
        seen.append(weakref.ref(features))
        return features

    kept = prototype_features.prototype_features(watched, batches(), limit=30, seed=0, micro_batch=4)
    assert len(kept) == 60 and alive == [0] * 10
    assert kept.untyped_storage().nbytes() == 60 * 2 * 4  # no view of something larger


def test_a_run_starts_its_prototypes_from_as_many_locations_as_it_says(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer, seen = assemble(compose_smoke("trainer.initialisation_locations=64"), tmp_path), list[Tensor]()
    start = trainer.model.pooling.initialise_prototypes
    trainer.model.pooling.initialise_prototypes = lambda features, *, generator: (
        seen.append(features) or start(features, generator=generator)
    )
    trainer._initialise_prototypes()
    assert seen[0].shape[:2] == (64, 1)


@pytest.mark.parametrize("start", ["local", "pooled"])
def test_a_limit_that_is_not_reached_places_the_prototypes_where_all_features_do(
    start: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke(f"pooling.prototype_start={start}", "pooling.num_prototypes=4")
    trainer = assemble(cfg, tmp_path)
    trainer._initialise_prototypes()
    pooling, placed = trainer.model.pooling, trainer.model.pooling.prototypes.detach().clone()
    with torch.no_grad():
        maps = [
            trainer.model.features(b.images) for b in trainer.batches(0, cfg.trainer.initialisation_batches)
        ]
    pooling.initialise_prototypes(torch.cat(maps), generator=torch_generator(cfg.seed, "prototypes"))
    assert pooling.prototypes.equal(placed)


def test_fewer_locations_than_batches_are_refused(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"initialisation_locations=1 must be at least .*_batches=2"):
        assemble(compose_smoke("trainer.initialisation_locations=1"), tmp_path)
