"""What a model looks at, against the definitions, for maps and tokens; and that looking changes nothing."""

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dml.assembly import open_loggers
from dml.config import TrainConfig
from dml.contracts import FollowedRun
from dml.loggers import TensorBoardLogger
from dml.model import EmbeddingModel
from dml.pooling import GeneralizedSumPooling, GlobalAverageMaxPooling, GlobalAveragePooling
from dml.run_folder import RunFolder
from dml.training import StepLogger, Trainer, read_steps
from dml.types import Normalisation
from dml.weight_maps import (
    MARGIN,
    NoGridError,
    NoWeightsError,
    WeightMaps,
    drawn_maps,
    weight_maps,
)
from tests.noise import noise

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]
IMAGES = torch.randint(0, 256, (3, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Patches(nn.Module):
    """The mean colour of each patch of 4 × 4 as a map, or as tokens, of which `dropped` are left out."""

    out_channels, normalisation = 3, Normalisation((128.0,) * 3, (64.0,) * 3)

    def __init__(self, *, tokens: bool = False, dropped: int = 0) -> None:
        super().__init__()
        self.tokens, self.dropped = tokens, dropped

    def forward(self, images: Tensor) -> Tensor:
        patches = nn.functional.avg_pool2d(images, 4)
        return patches.flatten(2).mT[:, self.dropped :] if self.tokens else patches


def model_with(pooling: nn.Module, backbone: nn.Module | None = None) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(backbone or Patches(), pooling, embedding_dim=3, preprocess=lambda image: image)


def gsp(**changes: float) -> GeneralizedSumPooling:
    settings = {"num_prototypes": 4, "transport_ratio": 0.3, "sharpness": 5.0, "lloyd_iterations": 1}
    torch.manual_seed(1)
    return GeneralizedSumPooling(3, **{**settings, **changes})


def test_maps_are_multiples_of_the_uniform_weight_in_the_place_of_their_patch() -> None:
    model = model_with(gsp())
    pooled, maps = model(IMAGES), weight_maps(model, IMAGES, strongest=2)
    assert maps.weights.shape == (3, 2, 3) and maps.prototype_maps.shape == (3, 2, 2, 3)
    for image, row, column in itertools.product(range(3), range(2), range(3)):
        assert maps.weights[image, row, column] == pytest.approx(
            6 * pooled.weights[image, 3 * row + column].item()
        )
    torch.testing.assert_close(maps.weights.mean((1, 2)), torch.ones(3))
    torch.testing.assert_close(maps.prototype_maps.mean((2, 3)), torch.ones(3, 2))


def test_the_strongest_prototypes_are_those_of_the_attributes_with_their_maps() -> None:
    model = model_with(gsp())
    attributes, maps = model(IMAGES).attributes, weight_maps(model, IMAGES, strongest=2)
    plan = model.pooling.plan(model.features(IMAGES)).plan
    for image in range(3):
        order = sorted(range(4), key=lambda j: -attributes[image, j].item())[:2]
        assert maps.prototypes[image].tolist() == order
        for place, j in enumerate(order):
            assert maps.attributes[image, place] == pytest.approx(attributes[image, j].item())
            expected = 6 * plan[image, :, j] / plan[image, :, j].sum()
            torch.testing.assert_close(maps.prototype_maps[image, place].flatten(), expected)


def test_no_more_prototypes_are_shown_than_there_are_and_none_without_a_plan() -> None:
    assert weight_maps(model_with(gsp()), IMAGES, strongest=9).prototypes.shape == (3, 4)
    average = weight_maps(model_with(GlobalAveragePooling(3)), IMAGES, strongest=9)
    assert average.prototype_maps.shape == (3, 0, 2, 3) and average.weights.allclose(torch.ones(3, 2, 3))


def test_tokens_of_a_square_image_give_the_maps_of_the_map() -> None:
    square = IMAGES[..., :8]
    map_, tokens = (
        weight_maps(model_with(gsp(), Patches(tokens=t)), square, strongest=2) for t in (False, True)
    )
    for one, other in zip(map_, tokens, strict=True):
        torch.testing.assert_close(one, other)


def test_locations_without_a_place_or_a_weight_are_refused() -> None:
    with pytest.raises(NoGridError, match="gives 3 tokens, which is no square number"):
        weight_maps(model_with(gsp(), Patches(tokens=True, dropped=1)), IMAGES[..., :8], strongest=1)
    with pytest.raises(NoWeightsError, match="GlobalAverageMaxPooling gives its locations no weights"):
        weight_maps(model_with(GlobalAverageMaxPooling(3)), IMAGES, strongest=1)


def test_looking_leaves_the_mode_of_every_part_alone() -> None:
    model = model_with(gsp()).train()
    model.backbone.eval()
    weight_maps(model, IMAGES, strongest=1)
    assert [part.training for part in (model, model.backbone, model.pooling)] == [True, False, True]


def test_a_picture_has_a_column_for_each_image_and_a_row_for_each_map() -> None:
    maps = weight_maps(model_with(gsp()), IMAGES, strongest=2)
    picture = drawn_maps(maps, side=100)
    assert picture.pixels.shape == (3, 4 * (8 + 2 * MARGIN), 3 * (12 + 2 * MARGIN))
    assert picture.pixels[:, MARGIN : 8 + MARGIN, MARGIN : 12 + MARGIN].equal(IMAGES[0])
    assert picture.departures["weights"] == pytest.approx((maps.weights - 1).abs().max().item())
    assert picture.departures["prototypes"] == pytest.approx((maps.prototype_maps - 1).abs().max().item())
    assert drawn_maps(maps, side=6).pixels.shape == (3, 4 * (4 + 2 * MARGIN), 3 * (6 + 2 * MARGIN))


def test_a_picture_of_average_pooling_has_no_colour_and_no_prototypes() -> None:
    maps: WeightMaps = weight_maps(model_with(GlobalAveragePooling(3)), IMAGES, strongest=2)
    picture = drawn_maps(maps, side=100)
    tinted = picture.pixels[:, 8 + 2 * MARGIN :]
    assert picture.departures.keys() == {"weights"} and tinted[0].equal(tinted[2])


def pictures(folder: Path) -> list[int]:
    """The steps at which TensorBoard has a picture."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    return [event.step for event in events.Images("attention")] if events.Tags()["images"] else []


def test_tensorboard_shows_what_the_pooling_looks_at_at_each_validation(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke()
    with open_loggers(cfg, RunFolder(tmp_path), start=0, watched=noise(6, 4)) as loggers:
        assemble(cfg, tmp_path / "checkpoints").fit(loggers)
    assert pictures(tmp_path / "tensorboard") == [0, 3, 6]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = {"attention/departure/weights", "attention/departure/prototypes", "prototypes/largest_share"}
    assert expected <= set(events.Tags()["scalars"])
    everything = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"histograms": 0}).Reload()
    use = everything.Histograms("prototypes/use")
    assert [event.step for event in use] == [0, 3, 6] and len(use[0].histogram_value.bucket) == 64
    assert sum(use[0].histogram_value.bucket) == pytest.approx(1)


@pytest.mark.parametrize("backbone", [Patches(), Patches(tokens=True, dropped=1)])
def test_tensorboard_shows_nothing_where_there_is_nothing_to_see(backbone: nn.Module, tmp_path: Path) -> None:
    pooling = gsp() if backbone.tokens else GlobalAverageMaxPooling(3)
    logger = TensorBoardLogger(FollowedRun(tmp_path, 0, {}, lambda: IMAGES))
    logger.validation(0, {}, model_with(pooling, backbone))
    logger.close()
    assert pictures(tmp_path / "tensorboard") == []


def test_a_run_has_the_same_numbers_with_and_without_pictures(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    numbers = {}
    for name, images in (("with", IMAGES), ("without", None)):
        trainer = assemble(compose_smoke(), tmp_path / name)
        torch.manual_seed(3)
        events = TensorBoardLogger(
            FollowedRun(tmp_path / f"{name}_events", 0, {}, lambda images=images: images)
        )
        with closing(StepLogger(tmp_path / f"{name}.csv", start=0)) as steps, closing(events):
            trainer.fit([steps, events])
        numbers[name] = (read_steps(tmp_path / f"{name}.csv"), torch.rand(1), trainer.kept.figure)
    assert len(pictures(tmp_path / "with_events" / "tensorboard")) == 3
    assert not pictures(tmp_path / "without_events" / "tensorboard")
    assert numbers["with"] == numbers["without"] and len(numbers["with"][0]) == 6


def test_a_prototype_that_receives_nothing_has_an_empty_map() -> None:
    model = model_with(gsp(sharpness=1e6))
    maps = weight_maps(model, IMAGES, strongest=4)
    assert maps.prototype_maps.isfinite().all() and (maps.prototype_maps.sum((2, 3)) == 0).any()
