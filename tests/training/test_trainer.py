import copy
import errno
import resource
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import torch

from dml.config import TrainConfig
from dml.training import (
    Logger,
    NonFiniteLossError,
    StepLogger,
    Trainer,
    batchnorm_layers,
    checkpoint,
    read_steps,
)
from dml.training.best_checkpoint import BestCheckpoint
from tests.execution.test_kills import assert_equal

Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def snapshot(trainer: Trainer) -> dict[str, list[torch.Tensor]]:
    return {g["name"]: [p.detach().clone() for p in g["params"]] for g in trainer.optimizer.param_groups}


@pytest.mark.parametrize(
    ("loss", "roles"),
    [
        ("contrastive", {"backbone", "head", "prototypes", "class_codes"}),
        ("proxy_anchor", {"proxies", "class_codes"}),
    ],
)
def test_every_kind_of_parameter_is_trained(
    loss: str, roles: set[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(f"loss={loss}"), tmp_path)
    before = snapshot(trainer)
    trainer.fit([])
    for role, parameters in snapshot(trainer).items():
        assert not any(a.equal(b) for a, b in zip(before[role], parameters, strict=True)), role
    assert roles <= set(before)


@pytest.mark.parametrize("role", ["backbone", "head", "prototypes", "class_codes", "proxies"])
def test_a_multiplier_of_zero_leaves_a_kind_of_parameter_alone_and_only_that(
    role: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("loss=proxy_anchor", f"learning_rates.{role}=0"), tmp_path)
    before = {name: parameters for name, parameters in snapshot(trainer).items() if name != "prototypes"}
    trainer.fit([])
    after = snapshot(trainer)
    resting = {
        name for name in before if all(a.equal(b) for a, b in zip(before[name], after[name], strict=True))
    }
    assert resting == {role} - {"prototypes"}


def test_prototypes_start_from_local_features_in_the_same_parameter(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.max_steps=0"), tmp_path)
    prototypes = trainer.model.pooling.prototypes
    before = prototypes.detach().clone()
    trainer.fit([])
    assert trainer.model.pooling.prototypes is prototypes and not prototypes.equal(before)
    assert any(p is prototypes for group in trainer.optimizer.param_groups for p in group["params"])


def test_prototypes_of_a_network_that_starts_anew_see_batch_statistics_and_leave_the_running_ones(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    features = {}
    for frozen in (True, False):
        trainer = assemble(
            compose_smoke("trainer.max_steps=0", f"trainer.frozen_batchnorm={frozen}"), tmp_path
        )
        pooling, before = trainer.model.pooling, [b.clone() for b in trainer.model.buffers()]
        pooling.initialise_prototypes = lambda seen, *, generator, frozen=frozen: features.update(
            {frozen: seen}
        )
        trainer._initialise_prototypes()
        assert all(a.equal(b) for a, b in zip(before, trainer.model.buffers(), strict=True))
    assert features[False].std() > 1.5 * features[True].std()  # running statistics of 0 and 1 leave it small


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(
        compose_smoke("optimizer.lr=1e30", "scheduler=constant", "trainer.gradient_clip=null"), tmp_path
    )
    with pytest.raises(
        NonFiniteLossError, match=r"at step \d+ the (metric|zero_shot) loss is (nan|inf).*optimizer.lr"
    ):
        trainer.fit([])
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_the_backbone_rests_in_its_frozen_steps(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.frozen_backbone_steps=100"), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit([])
    moved = {name for name, p in trainer.model.named_parameters() if not p.equal(before[name])}
    assert moved == {"projection.weight", "pooling.prototypes"}


def in_model(trainer: Trainer, seen: list[tuple[int, bool]]) -> None:
    """Take down, at each step, whether the backbone is passed with a graph."""
    trainer.model.backbone.register_forward_hook(
        lambda module, images, features: (
            seen.append((trainer.step, features.requires_grad)) if module.training else None
        )
    )


def test_no_gradient_goes_through_a_backbone_that_rests_and_the_resumed_run_is_the_same(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_smoke("trainer.frozen_backbone_steps=2", "trainer.max_steps=4", "trainer.eval_every=1")
    whole, seen = assemble(cfg, tmp_path / "whole"), []
    in_model(whole, seen)
    whole.fit([])
    assert seen == [(0, False), (1, False), (2, True), (3, True)]
    assemble(cfg, tmp_path / "part").fit([], until=1)
    resumed = assemble(cfg, tmp_path / "part")
    resumed.resume()
    resumed.fit([])
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name


def test_a_role_without_a_rate_has_no_gradient_and_does_not_count_in_its_norm(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    norms, seen = [], []
    for rate in ("0", "0.1"):
        cfg = compose_smoke(f"learning_rates.backbone={rate}", "trainer.gradient_clip=null")
        trainer = assemble(cfg, tmp_path)
        in_model(trainer, seen)
        with closing(StepLogger(tmp_path / "steps.csv", start=0)) as logger:
            trainer.fit([logger], until=1)
        norms.append(read_steps(tmp_path / "steps.csv")[1][1])
        gradients = [
            p.grad for g in trainer.optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        assert norms[-1] == pytest.approx(torch.stack([g.norm() for g in gradients]).norm().item())
    assert seen == [(0, False), (0, True)] and norms[0] < norms[1]


def test_frozen_steps_in_which_nothing_learns_are_refused(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    rates = (f"learning_rates.{role}=0" for role in ("head", "prototypes", "class_codes"))
    with pytest.raises(
        ValueError, match=r"frozen_backbone_steps=1: the backbone rests, and nothing else learns"
    ):
        assemble(compose_smoke(*rates, "trainer.frozen_backbone_steps=1"), tmp_path)


@pytest.mark.parametrize(("before", "after"), [("0", "0.1"), ("0.1", "0")])
def test_a_role_can_begin_or_cease_to_learn_when_a_run_is_resumed(
    before: str, after: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    overrides = ("optimizer=adamw", "trainer.eval_every=2", "scheduler=constant")
    assemble(compose_smoke(*overrides, f"learning_rates.backbone={before}"), tmp_path).fit([], until=2)
    trainer = assemble(compose_smoke(*overrides, f"learning_rates.backbone={after}"), tmp_path)
    trainer.resume()
    (group,) = (group for group in trainer.optimizer.param_groups if group["name"] == "backbone")
    group["lr"] = group["initial_lr"] = 0.1 * float(after)
    start = [p.detach().clone() for p in group["params"]]
    trainer.fit([])
    assert [p.equal(q) for p, q in zip(start, group["params"], strict=True)] == [after == "0"] * len(start)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batchnorm_keeps_statistics_and_parameters(
    frozen: bool, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(f"trainer.frozen_batchnorm={frozen}"), tmp_path)
    layer = trainer.model.backbone.layers[0][1]
    before = [layer.weight.detach().clone(), layer.running_mean.clone()]
    trainer.fit([])
    assert [layer.weight.equal(before[0]), layer.running_mean.equal(before[1])] == [frozen, frozen]


def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.gradient_clip=0.001", "trainer.max_steps=1"), tmp_path)
    trainer.fit([])
    gradients = [p.grad for g in trainer.optimizer.param_groups for p in g["params"] if p.grad is not None]
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(0.001, rel=1e-3)


def test_a_resumed_trainer_ends_with_the_weights_of_one_that_went_through(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    whole = assemble(compose_smoke("optimizer=adamw"), tmp_path / "whole")
    whole.fit([])
    part = assemble(compose_smoke("optimizer=adamw"), tmp_path / "part")
    batches = part.batches
    part.batches = lambda start, stop: batches(start, min(stop, 4))  # ends as if it had been killed
    part.fit([])
    resumed = assemble(compose_smoke("optimizer=adamw"), tmp_path / "part")
    resumed.resume()
    assert resumed.step == 3
    resumed.fit([])
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name
    assert resumed.kept.figure == whole.kept.figure


def test_the_best_checkpoint_is_the_first_with_the_largest_figure(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1"), tmp_path)
    values = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.2, 0.25])
    trainer.validate = lambda model: {"map@r": next(values)}
    trainer.fit([])
    assert trainer.kept.figure == {"step": 1, "value": 0.3}
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 1


def test_patience_ends_the_run_after_so_many_validations_without_a_better_figure(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1", "trainer.patience=2"), tmp_path)
    values = iter([0.1, 0.3, 0.2, 0.3, 0.9, 0.9, 0.9])
    trainer.validate = lambda model: {"map@r": next(values)}
    trainer.fit([])
    assert trainer.step == 3 and trainer.kept.figure == {"step": 1, "value": 0.3}
    resumed = assemble(compose_smoke("trainer.eval_every=1", "trainer.patience=2"), tmp_path)
    resumed.resume()
    resumed.fit([])
    assert resumed.step == 3


def test_rates_fall_when_the_figure_stays(compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    overrides = ["trainer.eval_every=1", "scheduler=plateau", "scheduler.patience=1", "scheduler.factor=0.5"]
    trainer = assemble(compose_smoke(*overrides), tmp_path)
    rate = trainer.optimizer.param_groups[0]["lr"]
    values = iter([0.1, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2])  # waits for one validation, lowers at the second
    trainer.validate = lambda model: {"map@r": next(values)}
    trainer.fit([])
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate / 4)


def test_the_running_mean_of_the_weights_is_what_is_validated_and_kept(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(
        compose_smoke("trainer.ema=0.75", "trainer.eval_every=1", "trainer.max_steps=4"), tmp_path
    )
    trainer._initialise_prototypes = lambda: None
    validated, weights = [], []
    weight = trainer.model.projection.weight

    def validate(model: torch.nn.Module) -> dict[str, float]:
        validated.append(model.projection.weight.detach().clone())
        weights.append(weight.detach().clone())
        return {"map@r": len(validated)}

    trainer.validate = validate
    trainer.fit([])
    mean = weights[1]
    assert validated[0].equal(weights[0]) and validated[1].equal(weights[1])
    for step in (2, 3, 4):
        mean = 0.75 * mean + 0.25 * weights[step]
        torch.testing.assert_close(validated[step], mean)
    kept = torch.load(tmp_path / "best.pt", weights_only=True)["model"]["projection.weight"]
    assert kept.equal(validated[4]) and not kept.equal(weights[4])


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1", "trainer.max_steps=4"), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rooms = iter(
        [limits[0], 5_000, 5_000, limits[0], limits[0]]
    )  # bytes that a file may have at each validation

    def validate(model: torch.nn.Module) -> dict[str, float]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (next(rooms), limits[1]))
        return {"map@r": -trainer.step}

    trainer.validate, kept = validate, []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            trainer.fit(
                [Watcher(lambda: kept.append(torch.load(tmp_path / "last.pt", weights_only=True)["step"]))]
            )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    messages = [str(warning.message) for warning in said]
    assert [m.split(" could")[0] for m in messages] == ["last.pt of step 1", "last.pt of step 2"]
    assert all("File too large" in m and "make room" in m for m in messages)
    assert kept == [0, 0, 0, 3] and torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 4
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt"}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of checkpoints that a disk does not take."""
    refused: set[str] = set()
    save = checkpoint.save_checkpoint

    def save_what_fits(path: Path, state: Mapping[str, object]) -> None:
        if path.name in refused:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, state)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save_what_fits)
    return refused


@pytest.mark.filterwarnings("ignore:(best|last).pt of step:UserWarning")
def test_a_disk_that_takes_no_checkpoint_ends_the_run_with_the_cause_and_the_way_on(
    full_disk: set[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    full_disk.add("best.pt")
    cfg = compose_smoke("trainer.eval_every=1", "trainer.max_steps=2")
    trainer = assemble(cfg, tmp_path)
    said = r"best\.pt could not be saved \(.*No space left on device.*make room.*resume="
    with pytest.raises(OSError, match=said):
        trainer.fit([])
    full_disk.clear()
    again = assemble(cfg, tmp_path)
    again.resume()
    again.fit([])  # has nothing left to do but to validate and save
    assert (
        torch.load(tmp_path / "best.pt", weights_only=True)["step"]
        == again.step
        == again.kept.figure["step"]
        == 2
    )


@pytest.mark.filterwarnings("ignore:best.pt of step:UserWarning")
def test_best_is_what_is_on_the_disk(
    full_disk: set[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1", "trainer.max_steps=3"), tmp_path)
    figures = {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.4}  # at step 1 the disk is full

    def validate(model: torch.nn.Module) -> dict[str, float]:
        full_disk.clear() if trainer.step != 1 else full_disk.add("best.pt")
        return {"map@r": figures[trainer.step]}

    trainer.validate = validate
    trainer.fit([])
    assert trainer.kept.figure == {"step": 2, "value": 0.5}
    assert torch.load(tmp_path / "best.pt", weights_only=True)["step"] == 2


@pytest.mark.filterwarnings("ignore:best.pt of step:UserWarning")
def test_where_the_newest_is_reported_an_older_one_is_not(
    full_disk: set[str], compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.eval_every=1", "trainer.max_steps=2"), tmp_path)
    trainer.kept = BestCheckpoint(trainer.run, select_by="map@r", val_chooses=False)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        if trainer.step:
            full_disk.add("best.pt")
        return {"map@r": 0.5}

    trainer.validate = validate
    with pytest.raises(OSError, match=r"best\.pt could not be saved"):
        trainer.fit([])


class Watcher(Logger):
    """A logger that looks at the start of each step."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def step(self, step: int, loss: float, gradient_norm: float) -> None:
        self.look()


def test_a_log_that_cannot_be_written_is_named_and_the_run_goes_on(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    def full() -> None:
        raise OSError("no space left on device")

    trainer = assemble(compose_smoke("trainer.max_steps=2"), tmp_path)
    with pytest.warns(UserWarning, match=r"the log of step \d could not be written \(no space left") as said:
        trainer.fit([Watcher(full)])
    assert trainer.step == 2 and len(said) == 1


def test_a_logger_with_a_defect_is_named_and_the_run_goes_on(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.max_steps=2"), tmp_path)
    with pytest.warns(
        UserWarning, match=r"Watcher failed \(ZeroDivisionError.*goes on without the log of step"
    ):
        trainer.fit([Watcher(lambda: 1 / 0)])
    assert trainer.step == 2


def test_a_one_cycle_run_cannot_be_resumed_over_another_length(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assemble(compose_smoke(), tmp_path).fit([])
    longer = assemble(compose_smoke("trainer.max_steps=9"), tmp_path)
    with pytest.raises(ValueError, match=r"max_steps=9.*drawn over 6 steps"):
        longer.resume()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_resumes(
    precision: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke(f"trainer.precision={precision}"), tmp_path)
    trainer.fit([])
    again = assemble(compose_smoke(f"trainer.precision={precision}"), tmp_path)
    again.resume()
    assert again.gradient.scaler.state_dict() == trainer.gradient.scaler.state_dict()


def test_a_gradient_that_overflows_in_half_precision_skips_the_step_without_a_trace(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    options = ("trainer.precision=fp16", "trainer.ema=0.5", "trainer.frozen_batchnorm=false")
    memory = ("memory.batches=2", "memory.start_step=0", "memory.own_images=false")
    trainer = assemble(compose_smoke(*options, *memory), tmp_path)
    trainer.gradient.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer._initialise_prototypes = lambda: None
    parts = (trainer.model, trainer.objective, trainer.average, trainer.scheduler)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    trainer.fit([], until=1)
    assert trainer.gradient.scaler.get_scale() == 2.0**126
    for part, state in zip(parts, before, strict=True):
        assert_equal(part.state_dict(), state, type(part).__name__)
    trainer.gradient.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    trainer.resumed = True
    trainer.fit([], until=2)
    for part, state in zip(parts, before, strict=True):
        with pytest.raises(AssertionError):
            assert_equal(part.state_dict(), state, type(part).__name__)


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [((), True), (("trainer.frozen_batchnorm=false",), False), (("trainer.max_steps=6",), False)],
    ids=["frozen", "not frozen", "a rehearsal"],
)
def test_frozen_batchnorm_that_never_saw_an_image_is_spoken_of_once(
    overrides: tuple[str, ...], warned: bool, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.max_steps=200", *overrides), tmp_path)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer.fit([], until=2)
    said = [str(w.message) for w in found if "no statistics" in str(w.message)]
    assert len(said) == warned and all("trainer.frozen_batchnorm=false" in text for text in said)


def test_frozen_batchnorm_with_statistics_is_not_spoken_of(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    trainer = assemble(compose_smoke("trainer.max_steps=200", "pooling=gap"), tmp_path)
    for layer in batchnorm_layers(trainer.model.backbone):
        layer.running_mean.sub_(0.1)
    trainer.fit([], until=1)
