"""Every file in configs/ composes, builds and takes part in a step of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dml.assembly import build_data, build_evaluator, build_model, build_objective, build_trainer
from dml.config import TrainConfig
from dml.data import Records, Splits
from dml.training import Trainer

CONFIGS = Path(__file__).parent.parent / "configs"
Compose = Callable[..., TrainConfig]


def names(group: str) -> list[str]:
    found = sorted(
        path.relative_to(CONFIGS / group).with_suffix("").as_posix()
        for path in (CONFIGS / group).rglob("*.yaml")
    )
    assert found, f"no files in configs/{group}"
    return found


def noise(classes: int, images: int) -> Records:
    count = classes * images
    pixels = np.random.default_rng(classes).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(classes), images)
    files = tuple(f"{i}.png" for i in range(count))
    return Records(pixels, np.arange(count), labels, tuple(f"{classes}-{i}" for i in range(classes)), files)


DATA = Splits(noise(12, 5), noise(6, 4), noise(7, 4))


def tiny_trainer(cfg: TrainConfig, folder: Path) -> Trainer:
    objective = build_objective(cfg, DATA.train.num_classes)
    return build_trainer(cfg, build_model(cfg), objective, DATA, build_evaluator(cfg, DATA), folder)


def assert_trains(cfg: TrainConfig, folder: Path) -> None:
    cfg.trainer.max_steps, cfg.trainer.eval_every = 2, 2
    trainer = tiny_trainer(cfg, folder)
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.fit([])
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trainer.step == 2 and all(p.isfinite().all() for p in after)
    assert any(not a.equal(b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"loss={name}"), tmp_path)


@pytest.mark.parametrize("name", names("pooling"))
def test_every_pooling_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"pooling={name}"), tmp_path)


@pytest.mark.parametrize("name", names("optimizer"))
def test_every_optimizer_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"optimizer={name}"), tmp_path)


@pytest.mark.parametrize("name", names("scheduler"))
def test_every_scheduler_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"scheduler={name}"), tmp_path)


@pytest.mark.parametrize("name", names("sampler"))
def test_every_sampler_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"sampler={name}"), tmp_path)


@pytest.mark.parametrize("name", names("transform"))
def test_every_transform_trains(name: str, compose_smoke: Compose, tmp_path: Path) -> None:
    assert_trains(compose_smoke(f"transform={name}", "transform.size=32"), tmp_path)


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_composes_and_builds(name: str, compose_config: Compose, tmp_path: Path) -> None:
    cfg = compose_config(f"experiment={name}", "debug=smoke", "trainer.max_steps=0")
    tiny_trainer(cfg, tmp_path).fit([])


@pytest.mark.parametrize("name", names("dataset"))
def test_every_data_set_reads_and_splits(name: str, compose_config: Compose) -> None:
    splits = build_data(compose_config(f"dataset={name}"))
    classes = [set(part.class_names) for part in splits]
    assert sum(map(len, classes)) == len(set.union(*classes))


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "backbone=timm",
            "backbone.model=vit_tiny_patch16_224",
            "backbone.pretrained=false",
            "backbone.img_size=32",
        ],
        ["backbone=timm", "backbone.model=resnet10t", "backbone.pretrained=false"],
        ["backbone=resnet50", "backbone.pretrained=false"],
        ["backbone=bn_inception", "backbone.pretrained=false", "transform.size=64"],
        ["backbone=efficientnet_lite0"],
    ],
)
@pytest.mark.parametrize("pooling", ["gap", "gsp"])
@pytest.mark.filterwarnings("ignore:.*nearly collapsed")  # random weights under frozen BatchNorm
def test_every_backbone_trains_with_every_pooling(
    overrides: list[str], pooling: str, compose_smoke: Compose, tmp_path: Path
) -> None:
    assert_trains(compose_smoke(*overrides, f"pooling={pooling}", "sampler.classes_per_batch=4"), tmp_path)


def test_gap_and_gsp_start_from_the_same_weights(compose_smoke: Compose) -> None:
    models = [build_model(compose_smoke(f"pooling={name}")) for name in ("gap", "gsp")]
    torch.testing.assert_close(models[0].projection.weight, models[1].projection.weight, rtol=0, atol=0)
    for one, other in zip(models[0].backbone.parameters(), models[1].backbone.parameters(), strict=True):
        assert one.equal(other)


def test_gap_switches_the_zero_shot_loss_off_and_insisting_is_refused(
    compose_smoke: Compose, tmp_path: Path
) -> None:
    assert compose_smoke("pooling=gap").zero_shot.weight == 0
    cfg = compose_smoke("pooling=gap", "zero_shot.weight=0.1")
    with pytest.raises(ValueError, match=r"pooling=gsp.*zero_shot.weight=0"):
        tiny_trainer(cfg, tmp_path).fit([])


def test_a_warm_up_lets_the_backbone_rest(compose_smoke: Compose, tmp_path: Path) -> None:
    trainer = tiny_trainer(compose_smoke("trainer.warmup_steps=100"), tmp_path)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit([])
    moved = {name for name, p in trainer.model.named_parameters() if not p.equal(before[name])}
    assert moved == {"projection.weight", "pooling.prototypes"}


def test_frozen_batchnorm_keeps_statistics_and_parameters(compose_smoke: Compose, tmp_path: Path) -> None:
    for frozen in (True, False):
        trainer = tiny_trainer(compose_smoke(f"trainer.frozen_batchnorm={frozen}"), tmp_path / str(frozen))
        layer = trainer.model.backbone.layers[0][1]
        before = [layer.weight.detach().clone(), layer.running_mean.clone()]
        trainer.fit([])
        assert [layer.weight.equal(before[0]), layer.running_mean.equal(before[1])] == [frozen, frozen]


def test_the_saved_configuration_builds_the_same_model(compose_smoke: Compose) -> None:
    cfg = compose_smoke()
    copy = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))
    one, other = build_model(cfg).state_dict(), build_model(copy).state_dict()
    assert all(one[name].equal(other[name]) for name in one)
