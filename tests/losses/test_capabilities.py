"""What the file of a loss says that it takes is what a trial finds out, and a run goes by it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dml.assembly import build_objective
from dml.config import ConfigError, TrainConfig, settle
from dml.losses import Objective, lists_tuples
from tests.losses.cases import DIM, configured, names, takes
from tests.losses.trials import compares_with_references, takes_mined_tuples
from tests.noise import noise

Compose = Callable[..., TrainConfig]


@pytest.mark.parametrize("name", names("loss"))
def test_a_loss_takes_what_its_file_says(name: str) -> None:
    loss = configured("loss", name, dim=DIM).float()
    found = {"references"} if compares_with_references(loss, DIM) else set()
    assert takes(name) == found | ({"tuples"} if takes_mined_tuples(loss, DIM) else set())


def test_a_loss_that_draws_its_triplets_takes_both() -> None:
    loss = configured("loss", "triplet")
    loss.triplets_per_anchor = 1
    assert compares_with_references(loss, DIM) and takes_mined_tuples(loss, DIM)


class Own(nn.Module):
    """Takes everything and looks at the vectors alone."""

    def forward(
        self, vectors: Tensor, labels: Tensor, indices_tuple: object = None, **references: Tensor
    ) -> Tensor:
        return vectors.sum()


def objective(cfg: Any, **declared: object) -> Objective:
    """What a configuration with the loss above makes of what its file declares."""
    cfg.loss = {"_target_": "tests.losses.test_capabilities.Own", **declared}
    return build_objective(settle(cfg, num_classes=12), noise(12, 5))


def test_the_trials_tell_a_loss_that_passes_over_what_it_is_given() -> None:
    assert not compares_with_references(Own(), DIM) and not takes_mined_tuples(Own(), DIM)


@pytest.mark.parametrize(
    ("choice", "what"), [("miner=batch_hard", "tuples"), ("memory.batches=2", "references")]
)
def test_a_loss_of_ones_own_says_what_it_takes_or_is_told_how(
    choice: str, what: str, compose_smoke: Compose
) -> None:
    built = objective(compose_smoke(choice), _takes_=[what])
    assert (built.miner is not None, built.memory is not None) == (what == "tuples", what == "references")
    with pytest.raises(ConfigError, match=rf"Own .*; if it does, .* add \+loss\._takes_=\[{what}\]$"):
        objective(compose_smoke(choice))
    with pytest.raises(ConfigError, match=r"Own .* or (miner=none|memory.batches=0)$"):
        objective(compose_smoke(choice), _takes_=[])


def test_a_loss_of_ones_own_that_says_nothing_trains_alone(compose_smoke: Compose) -> None:
    built = objective(compose_smoke())
    assert built.miner is None and built.memory is None


@pytest.mark.parametrize("declared", ["tuples", ["triplets"], 3, None])
def test_a_declaration_that_is_none_is_refused(declared: object, compose_smoke: Compose) -> None:
    with pytest.raises(
        ConfigError, match=r"^loss\._takes_=.*accepted: a list of tuples, references, or both"
    ):
        objective(compose_smoke("memory.batches=2"), _takes_=declared)


def test_the_parameters_of_a_loss_are_left_as_they_are() -> None:
    loss = configured("loss", "p2s_grad").float()
    before = loss.weight.detach().clone()
    compares_with_references(loss, DIM), takes_mined_tuples(loss, DIM)
    assert torch.equal(loss.weight, before)


@pytest.mark.parametrize("dim", [2, 128])
@pytest.mark.parametrize("name", names("miner"))
def test_every_miner_lists_something(name: str, dim: int) -> None:
    assert name == "none" or lists_tuples(configured("miner", name).float(), dim)
