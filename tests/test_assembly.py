import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from dml.assembly import build_data, build_model, build_objective, environment_of
from dml.config import ConfigError, TrainConfig, config_differences, settle, to_plain
from dml.data import Splits
from dml.train import train
from dml.training import Trainer
from tests.noise import noise
from tests.pretend_device import pretend_gpus

CONFIGS = Path(__file__).parents[1] / "configs"
WITHOUT_WEIGHTS = ("small", "tiny")
Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampler.classes_per_batch=5000", "between 1 and"),
        ("evaluator.recall_at=[1,100000]", "recall_at has 100000"),
        ("protocol.fraction=0.001", "validation set would have"),
        ("paths.data=/nowhere", "/nowhere/emoji.*missing"),
        ("sampler.classes_per_batch=many", "accepted: int"),
        ("pooling.sharpness=-1", "sharpness"),
        ("zero_shot.weight=2", "zero_shot.weight=2"),
        ("embedding_dim=0", "embedding_dim=0"),
        ("trainer.eval_every=0", "trainer.eval_every=0"),
        ("trainer.select_by=accuracy", "accepted: recall@1"),
        ("trainer.device=tpu9", "accepted: auto, cpu"),
        ("transform.evaluation.resize=8", "at least as large"),
        ("trainer.gradient_clip=0", "gradient_clip=0.* null leaves"),
        ("trainer.frozen_backbone_steps=-1", "frozen_backbone_steps=-1"),
        ("learning_rates.head=-5", "learning_rates.head=-5"),
        ("loss.neg_margin=nan", "not a finite number"),
        ("evaluator.backend=foo", "choose one of auto, faiss, torch"),
        ("evaluator.batch_size=0", "batch_size=0"),
        ("evaluator.recall_at=[]", "one or more different ranks"),
        ("evaluator.recall_at=[1,1]", "one or more different ranks"),
        ("num_workers=-1", "num_workers=-1"),
        ("scheduler.final=0", "scheduler.final=0"),
        ("scheduler.warmup=1.5", "scheduler.warmup=1.5"),
        ("trainer.device=meta", "accepted: auto, cpu"),
        ("sampler.classes_per_batch=1", "at least two classes in a batch"),
        ("trainer.save_every=10", "save_every=10: give minutes or steps"),
        ("trainer.patience=0", "patience=0 must be at least 1; null switches it off"),
        ("trainer.micro_batch=0", "micro_batch=0 must be at least 1; null"),
        ("trainer.ema=1.5", r"ema=1.5 must lie in \(0, 1\)"),
        ("trainer.precision=fp8", "accepted: fp32, bf16, fp16"),
        ("memory.batches=-1", "memory.batches=-1 must be at least 0; 0 switches"),
        ("+miner.epsilon=0.1", "miner.epsilon is given, but miner=none has no such argument: choose a miner"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    override: str, message: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        train(compose_smoke(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_faiss_where_it_cannot_be_imported_is_refused_before_anything_is_written(
    compose_smoke: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        ConfigError, match=r"evaluator.backend=faiss: .*cannot be imported.*choose torch or auto"
    ):
        train(compose_smoke("evaluator.backend=faiss"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_searches_is_recorded_by_its_own_name_and_is_no_difference_between_runs(
    compose_smoke: Compose,
) -> None:
    configs = [compose_smoke(f"evaluator.backend={name}") for name in ("faiss", "torch", "auto")]
    assert [environment_of(cfg)["search_backend"] for cfg in configs] == ["faiss", "torch", "faiss"]
    with pretend_gpus():
        assert environment_of(configs[2])["search_backend"] == "torch"
    assert config_differences(to_plain(configs[0]), to_plain(configs[2])) == []


def test_a_memory_for_a_loss_without_pairs_is_refused(compose_smoke: Compose, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"memory.batches=2: .*ProxyAnchorLoss compares no pairs with a memory"
    ):
        train(compose_smoke("loss=proxy_anchor", "memory.batches=2"), tmp_path / "run")


@pytest.mark.parametrize("loss", ["lifted_structure", "threshold_consistent_margin", "ranked_list"])
def test_a_memory_for_a_loss_that_confuses_or_passes_over_references_is_refused(
    loss: str, compose_smoke: Compose
) -> None:
    with pytest.raises(ValueError, match=r"memory.batches=2: .* compares no pairs with a memory"):
        build_objective(
            settle(compose_smoke(f"loss={loss}", "memory.batches=2"), num_classes=12), noise(12, 5)
        )


@pytest.mark.parametrize("loss", ["proxy_anchor", "arcface", "smooth_ap", "fast_ap", "ranked_list", "nca"])
def test_a_miner_for_a_loss_that_takes_no_pairs_is_refused(loss: str, compose_smoke: Compose) -> None:
    with pytest.raises(ValueError, match=r"BatchHardMiner: .* not on pairs or triplets .*miner=none"):
        build_objective(
            settle(compose_smoke(f"loss={loss}", "miner=batch_hard"), num_classes=12), noise(12, 5)
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("miner.epsilon=abc", "miner.epsilon='abc' is of type str"),
        ("+miner.epsilom=1", "did you mean epsilon"),
        ("miner._target_=pytorch_metric_learning.miners.Nothing", "miner._target_=.* cannot be imported"),
    ],
)
def test_a_miner_that_is_misspelt_is_refused(override: str, message: str, compose_smoke: Compose) -> None:
    with pytest.raises(ValueError, match=message):
        build_objective(
            settle(compose_smoke("miner=multi_similarity", override), num_classes=12), noise(12, 5)
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["miner=hdc", "miner.filter_percentage=0"], "HDCMiner lists nothing.*configs/miner/"),
        (["miner=hdc", "miner.filter_percentage=1.5"], "HDCMiner fails with these numbers: .*out of range"),
        (["miner=angular", "miner.angle=100"], "AngularMiner lists nothing"),
        (["miner=uniform_histogram", "miner.num_bins=0"], "UniformHistogramMiner fails"),
        (["miner=triplet_margin", "miner.margin=0"], "triplet_margin_miner lists nothing"),
    ],
)
def test_numbers_with_which_a_miner_could_not_work_are_refused(
    overrides: list[str], message: str, compose_smoke: Compose
) -> None:
    with pytest.raises(ValueError, match=message):
        build_objective(settle(compose_smoke(*overrides), num_classes=12), noise(12, 5))


@pytest.mark.parametrize(
    ("override", "message"), [("scheduler.factor=2", "factor=2"), ("scheduler.patience=-1", "patience=-1")]
)
def test_a_plateau_out_of_range_is_refused(
    override: str, message: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(compose_smoke("scheduler=plateau", override), tmp_path / "run")


def test_gap_and_gsp_start_from_the_same_weights(compose_smoke: Compose) -> None:
    models = [build_model(compose_smoke(f"pooling={name}")) for name in ("gap", "gsp")]
    torch.testing.assert_close(models[0].projection.weight, models[1].projection.weight, rtol=0, atol=0)
    for one, other in zip(models[0].backbone.parameters(), models[1].backbone.parameters(), strict=True):
        assert one.equal(other)


def test_gap_switches_the_zero_shot_loss_off_and_insisting_is_refused(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert compose_smoke("pooling=gap").zero_shot.weight == 0
    cfg = compose_smoke("pooling=gap", "zero_shot.weight=0.1")
    with pytest.raises(ValueError, match=r"pooling=gsp.*zero_shot.weight=0"):
        assemble(cfg, tmp_path)


def test_the_saved_configuration_builds_the_same_model(compose_smoke: Compose) -> None:
    cfg = compose_smoke()
    copy = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    one, other = build_model(cfg).state_dict(), build_model(copy).state_dict()
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize("backbone", [file.stem for file in (CONFIGS / "backbone").glob("*.yaml")])
def test_a_model_whose_weights_come_from_a_checkpoint_reads_and_fetches_none(
    backbone: str, compose_smoke: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("weights were asked for")

    file = ["backbone.checkpoint=/nowhere/weights.pth"] if backbone == "timm" else []
    cfg = compose_smoke(f"backbone={backbone}", *file, "paths.data=/nowhere")
    for place in ("torch.load", "torch.hub.load_state_dict_from_url", "socket.socket.connect"):
        monkeypatch.setattr(place, refused)
    assert build_model(cfg, pretrained=False).projection.weight.isfinite().all()
    if backbone not in WITHOUT_WEIGHTS:
        with pytest.raises((OSError, RuntimeError, ConfigError), match=r"weights"):
            build_model(cfg)


def test_values_that_an_optimizer_refuses_are_said_with_their_key(
    compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"optimizer=torch.optim.AdamW: Invalid beta parameter"):
        assemble(compose_smoke("optimizer.betas=[2,3]"), tmp_path)


def test_a_key_that_the_plus_sign_smuggled_in_is_refused(compose_smoke: Compose, tmp_path: Path) -> None:
    for key in ("zero_shot.wieght", "sede", "transform.siez", "trainer.foo"):
        with pytest.raises(ValueError, match=rf"the configuration does not fit .*{key.split('.')[-1]}"):
            train(compose_smoke(f"+{key}=1"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_each_part_is_said_once_by_the_main_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compose_config: Compose
) -> None:
    train, test = noise(12, 2), noise(7, 3)
    monkeypatch.setattr(
        "dml.assembly.parts.build", lambda _: lambda _: Splits(train, train, test, val_chooses=False)
    )
    monkeypatch.setattr("dml.assembly.parts.read_data", lambda _: None)
    caplog.set_level("INFO", "dml")
    for is_main in (False, True):
        monkeypatch.setattr("dml.assembly.parts.is_main", lambda is_main=is_main: is_main)
        build_data(compose_config())
    assert caplog.messages == ["train: 12 classes, 24 images", "test: 7 classes, 21 images"]


@pytest.mark.parametrize(("ranks", "most"), [("[1]", 5), ("[1,9]", 9)])
@pytest.mark.parametrize("protocol", ["holdout", "conventional"])
def test_a_rehearsal_trains_on_all_classes_and_measures_few(
    protocol: str, ranks: str, most: int, compose_smoke: Compose
) -> None:
    choice = (f"protocol={protocol}", f"evaluator.recall_at={ranks}")
    whole = build_data(compose_smoke(*choice))
    few = build_data(compose_smoke(*choice, "evaluator.classes=5"))
    assert few.test is not None and whole.test is not None and few.train.files == whole.train.files
    assert few.val.class_names == whole.val.class_names[:most]
    assert few.test.class_names == whole.test.class_names[:most]
    assert few.measured.keys() == whole.measured.keys()
