"""Every file in configs/ composes, builds and takes part in a step of training; of dataset/: data/test_datasets.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dml.assembly import build_data
from dml.config import TrainConfig
from dml.training import Trainer

CONFIGS = Path(__file__).parent.parent / "configs"
Compose = Callable[..., TrainConfig]
Assemble = Callable[[TrainConfig, Path], Trainer]


def names(group: str) -> list[str]:
    found = sorted(
        path.relative_to(CONFIGS / group).with_suffix("").as_posix()
        for path in (CONFIGS / group).rglob("*.yaml")
    )
    assert found, f"no files in configs/{group}"
    return found


def assert_trains(trainer: Trainer) -> None:
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    trainer.fit([])
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trainer.step == trainer.options.max_steps > 0 and all(p.isfinite().all() for p in after)
    assert any(not a.equal(b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_trains(name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    assert_trains(assemble(compose_smoke(f"loss={name}"), tmp_path))


@pytest.mark.parametrize("name", names("miner"))
def test_every_miner_trains(name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    assert_trains(
        assemble(compose_smoke(f"miner={name}", "memory.batches=2", "memory.start_step=1"), tmp_path)
    )


@pytest.mark.parametrize("name", names("memory"))
def test_every_memory_trains(name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    assert_trains(assemble(compose_smoke(f"memory={name}", "memory.start_step=1"), tmp_path))


@pytest.mark.parametrize("name", names("pooling"))
def test_every_pooling_trains(name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    assert_trains(assemble(compose_smoke(f"pooling={name}"), tmp_path))


@pytest.mark.parametrize("name", names("optimizer"))
def test_every_optimizer_trains(
    name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert_trains(assemble(compose_smoke(f"optimizer={name}"), tmp_path))


@pytest.mark.parametrize("name", names("scheduler"))
def test_every_scheduler_trains(
    name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert_trains(assemble(compose_smoke(f"scheduler={name}"), tmp_path))


PLAIN_SAMPLERS = [
    name for name in names("sampler") if not name[-1].isdigit()
]  # others: published/test_rows.py


@pytest.mark.parametrize("name", PLAIN_SAMPLERS)
def test_every_sampler_trains(name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path) -> None:
    assert_trains(assemble(compose_smoke(f"sampler={name}"), tmp_path))


@pytest.mark.parametrize("name", names("transform"))
def test_every_transform_trains(
    name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert_trains(assemble(compose_smoke(f"transform={name}", "transform.size=32"), tmp_path))


@pytest.mark.parametrize(
    "name", [f"{kind}/{name}" for kind in ("emoji", "grocery") for name in names(f"experiment/{kind}")]
)
def test_every_experiment_composes_and_builds(
    name: str, compose_config: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    cfg = compose_config(f"experiment={name}", "debug=smoke", "trainer.max_steps=0", "trainer.eval_every=1")
    assemble(cfg, tmp_path).fit([])


@pytest.mark.parametrize("name", names("zero_shot"))
def test_every_zero_shot_loss_trains(
    name: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert_trains(assemble(compose_smoke(f"zero_shot={name}"), tmp_path))


@pytest.mark.parametrize(
    "name", sorted(set(names("protocol")) - {"all", "values/all"})
)  # tests/test_final_model.py
def test_every_protocol_keeps_the_test_classes_apart(name: str, compose_config: Compose) -> None:
    splits = build_data(compose_config(f"protocol={name}"))
    assert not set(splits.test.class_names) & {*splits.train.class_names, *splits.val.class_names}
    assert splits.val_chooses == set(splits.train.class_names).isdisjoint(splits.val.class_names)


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
@pytest.mark.filterwarnings("ignore:.*prototypes were placed")  # images of one location each
def test_every_backbone_trains_with_every_pooling(
    overrides: list[str], pooling: str, compose_smoke: Compose, assemble: Assemble, tmp_path: Path
) -> None:
    assert_trains(
        assemble(compose_smoke(*overrides, f"pooling={pooling}", "sampler.classes_per_batch=4"), tmp_path)
    )
