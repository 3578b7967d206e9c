"""What is logged of a pooling, against definitions written out image by image, and when a run is warned."""

import math
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dml.config import TrainConfig
from dml.training import Trainer
from dml.training.pooling_statistics import collapse_warnings, pooling_statistics, prototype_use
from dml.types import Pooled

VECTORS = torch.zeros(2, 3)
Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def shares(rows: int, columns: int, seed: int, sharpness: float) -> torch.Tensor:
    scores = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (sharpness * scores).softmax(1)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 99), st.floats(0, 20))
def test_statistics_are_those_of_the_definitions(
    images: int, places: int, seed: int, sharpness: float
) -> None:
    weights, attributes = shares(images, places, seed, sharpness), shares(images, places + 1, seed, sharpness)
    found = pooling_statistics(Pooled(VECTORS, attributes, weights))
    rows = weights.tolist()
    spread = statistics.fmean(statistics.pstdev(row) / statistics.fmean(row) for row in rows)
    locations = statistics.fmean(1 / sum(w * w for w in row) / places for row in rows)
    entropies = [-math.fsum(w * math.log(w) for w in row if w > 0) for row in rows]
    alike = statistics.fmean(math.exp(entropy) / places for entropy in entropies)
    use = [statistics.fmean(column) for column in zip(*attributes.tolist(), strict=True)]
    expected = [spread, locations, alike, max(use), 1 / sum(share * share for share in use)]
    assert [value.item() for value in found.values()] == pytest.approx(expected, abs=1e-12)
    assert prototype_use(attributes).tolist() == pytest.approx(use)


def test_statistics_know_the_extremes() -> None:
    uniform = pooling_statistics(Pooled(VECTORS, torch.full((2, 4), 0.25), torch.full((2, 49), 1 / 49)))
    single = pooling_statistics(Pooled(VECTORS, torch.eye(4)[[1, 1]], torch.eye(8)[:2]))
    assert [value.item() for value in uniform.values()] == pytest.approx([0, 1, 1, 1 / 4, 4], abs=1e-6)
    assert [value.item() for value in single.values()] == pytest.approx([math.sqrt(7), 1 / 8, 1 / 8, 1, 1])
    assert pooling_statistics(Pooled(VECTORS)) == {}


def test_weights_that_hardly_vary_are_called_average_pooling() -> None:
    for spread, warned in ((0.019, True), (0.021, False)):
        weights, attributes = torch.tensor([[1 - spread, 1 + spread]] * 2) / 2, torch.full((2, 2), 0.5)
        said = collapse_warnings(Pooled(VECTORS, attributes, weights))
        assert ("1.90% around uniform" in said.get("weights/spread", "")) == warned
        assert collapse_warnings(Pooled(VECTORS, None, weights)) == {}  # not GSP


def test_weights_that_are_uniform_by_design_are_no_collapse() -> None:
    assert collapse_warnings(Pooled(VECTORS, None, torch.full((2, 49), 1 / 49))) == {}
    assert collapse_warnings(Pooled(VECTORS)) == {}


def test_a_prototype_that_takes_all_is_named_but_not_an_only_one() -> None:
    said = collapse_warnings(Pooled(VECTORS, torch.tensor([[0.92, 0.08], [0.9, 0.1]])))
    assert "one of 2 prototypes has 91.0%" in said["prototypes/largest_share"]
    assert collapse_warnings(Pooled(VECTORS, torch.tensor([[0.9, 0.1], [0.88, 0.12]]))) == {}
    assert collapse_warnings(Pooled(VECTORS, torch.ones(2, 1))) == {}


class Silent:
    """A logger that writes nothing."""

    def __getattr__(self, event: str) -> Callable[..., None]:
        return lambda *values: None


def fit(trainer: Trainer) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.fit([Silent()])
    return [str(warning.message) for warning in said]


def test_a_run_in_which_gsp_became_average_pooling_says_so_once(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    (said,) = fit(assemble(compose_smoke("pooling.sharpness=0.01", "trainer.eval_every=2"), tmp_path))
    assert said.startswith("step 2: the weights") and "pooling.sharpness" in said


def test_a_run_is_not_warned_before_the_warm_up_has_ended(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    late = compose_smoke("pooling.sharpness=0.01", "trainer.frozen_backbone_steps=3", "trainer.eval_every=3")
    (said,) = fit(assemble(late, tmp_path))
    assert said.startswith("step 6:")


@pytest.mark.parametrize(
    "overrides", [["pooling=gap"], ["pooling.transport_ratio=1"], ["pooling=gsp"], ["pooling=otp"]]
)
def test_a_run_that_does_what_it_was_asked_for_is_quiet(
    overrides: list[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert fit(assemble(compose_smoke(*overrides), tmp_path)) == []
