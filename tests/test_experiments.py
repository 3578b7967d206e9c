"""Every row of the published tables composes, builds, and has the settings of its protocol, data set and loss."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from dml.assembly import build_model, build_objective
from dml.config import TrainConfig, build
from dml.data import Records
from dml.model import EmbeddingModel
from dml.training import parameter_groups

ROOT = Path(__file__).parent.parent
EXPERIMENTS = ROOT / "configs" / "experiment"
SETS = ("cub", "cars", "sop", "inshop")
SETTINGS = ("mlrc", "conventional_bn_inception", "conventional_resnet50")
LOSSES = (
    "c1",
    "c1_xbm",
    "c2",
    "c2_xbm",
    "multi_similarity",
    "triplet",
    "proxy_anchor",
    "proxy_nca_pp",
    "soft_triple",
)
PROXY_LOSSES = LOSSES[-3:]
POOLINGS = ("gap", "gsp_zero_shot")
ROWS = sorted(
    path.relative_to(EXPERIMENTS).with_suffix("").as_posix()
    for name in SETS
    for path in (EXPERIMENTS / name).rglob("*.yaml")
)
TRAIN_CLASSES = {"cub": 100, "cars": 98, "sop": 400, "inshop": 400}  # stand-ins for the two large sets

# What the tables below say is published, each number written here once more.
BATCH = {"mlrc": 32, "conventional_bn_inception": 128, "conventional_resnet50": 112}
WEIGHT_DECAY = {"mlrc": 1e-4, "conventional_bn_inception": 1e-4, "conventional_resnet50": 4e-4}
TRAIN_IMAGES = {"cub": 5864, "cars": 8054, "sop": 59551, "inshop": 25882}
SMALL_MEMORY = {
    "mlrc": (25, 1000),
    "conventional_bn_inception": (50, 1000),
    "conventional_resnet50": (25, 100),
}
LARGE_MEMORY = {"sop": (1400, 1000), "inshop": (400, 1000)}
LOSS_VALUES: dict[str, dict[str, dict[str, float]]] = {
    "c2": {
        "cub": {"pos_margin": 0, "neg_margin": 0.3841},
        "cars": {"pos_margin": 0.2652, "neg_margin": 0.5409},
        "sop": {"pos_margin": 0.2858, "neg_margin": 0.5130},
        "inshop": {"pos_margin": 0.2858, "neg_margin": 0.5130},
    },
    "multi_similarity": {
        "cub": {"alpha": 2, "beta": 40, "base": 0.5},
        "cars": {"alpha": 14.35, "beta": 75.83, "base": 0.66},
        "sop": {"alpha": 2, "beta": 40, "base": 0.5},
        "inshop": {"alpha": 8.49, "beta": 57.38, "base": 0.41},
    },
    "triplet": {
        "cub": {"margin": 0.0961},
        "cars": {"margin": 0.1190},
        "sop": {"margin": 0.0451},
        "inshop": {"margin": 0.0451},
    },
    "c1": {data: {"margin": 0.5} for data in SETS},
    "proxy_anchor": {data: {"alpha": 32, "margin": 0.1} for data in SETS},
    "proxy_nca_pp": {data: {"softmax_scale": 1 / 0.11} for data in SETS},
    "soft_triple": {data: {"centers_per_class": 10, "la": 20, "gamma": 0.1, "margin": 0.01} for data in SETS},
}


def imageless(labels: NDArray[np.int64]) -> Records:
    """A training set of these labels, of which nobody looks at an image."""
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return Records(
        np.zeros((1, 1, 1, 3), np.uint8), np.zeros_like(labels), labels, names, ("",) * len(labels)
    )


def parts(row: str) -> tuple[str, str, str, str]:
    """Data set, setting, loss and pooling that the name of a row promises."""
    data, setting, name = row.split("/")
    pooling = next(pooling for pooling in POOLINGS if name.endswith(f"_{pooling}"))
    return data, setting, name.removesuffix(f"_{pooling}"), pooling


def pooling_class(data: str, setting: str, pooling: str) -> str:
    if pooling == "gap":
        return "GlobalAveragePooling" if setting == "mlrc" else "GlobalAverageMaxPooling"
    if setting == "mlrc":
        return "GeneralizedSumPooling"
    gem = setting == "conventional_resnet50" and data in ("cub", "cars")
    return "GeneralizedSumGeMPooling" if gem else "GeneralizedSumMaxPooling"


def test_there_is_a_row_for_every_set_setting_loss_and_pooling() -> None:
    expected = itertools.product(SETS, SETTINGS, LOSSES, POOLINGS)
    assert sorted(ROWS) == sorted(
        f"{data}/{setting}/{loss}_{pooling}" for data, setting, loss, pooling in expected
    )


def test_every_row_stands_under_its_own_command() -> None:
    for row in ROWS:
        command = (EXPERIMENTS / f"{row}.yaml").read_text().splitlines()[1]
        assert re.match(rf"# python train\.py experiment={row}( |$)", command), row


@pytest.fixture(scope="module")
def compose_row(compose_config: Callable[..., TrainConfig]) -> Callable[[str], TrainConfig]:
    composed: dict[str, TrainConfig] = {}

    def compose(row: str) -> TrainConfig:
        if row not in composed:
            composed[row] = compose_config(f"experiment={row}")
        return composed[row]

    return compose


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_the_published_settings(row: str, compose_row: Callable[[str], TrainConfig]) -> None:
    cfg, (data, setting, loss, pooling) = compose_row(row), parts(row)
    small, mlrc, proxies = data in ("cub", "cars"), setting == "mlrc", loss in PROXY_LOSSES
    assert cfg.protocol._target_ == f"dml.data.{'mlrc' if mlrc else 'conventional'}"
    assert cfg.embedding_dim == (128 if mlrc else 512)
    assert cfg.transform.size == (224 if "resnet" in setting else 227)
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert cfg.optimizer.lr == (1e-5 if mlrc or small else 1e-4)
    assert cfg.optimizer.weight_decay == WEIGHT_DECAY[setting]
    assert (cfg.learning_rates.backbone, cfg.learning_rates.proxies) == (1, 100)
    assert cfg.trainer.gradient_clip == 10 and cfg.trainer.frozen_batchnorm
    assert cfg.trainer.eval_every == (100 if small else 1000) // (1 if mlrc else 4)
    assert cfg.trainer.patience == (15 if small else 10)
    assert mlrc or (cfg.scheduler.factor, cfg.scheduler.patience) == (0.5, 4 if small else 3)
    epoch = TRAIN_IMAGES[data] * (0.75 if mlrc else 1) / BATCH[setting]
    assert cfg.trainer.warmup_steps == (round(epoch) if proxies else 0)
    memory = LARGE_MEMORY.get(data, SMALL_MEMORY[setting]) if loss.endswith("_xbm") else (0, 1000)
    assert (cfg.memory.batches, cfg.memory.start_step) == memory
    values = LOSS_VALUES[loss.removesuffix("_xbm")][data]
    assert {key: cfg.loss[key] for key in values} == pytest.approx(values)
    assert cfg.pooling._target_ == f"dml.pooling.{pooling_class(data, setting, pooling)}"
    assert cfg.zero_shot.weight == (0 if pooling == "gap" else 0.1)
    if pooling != "gap":
        gsp = (cfg.pooling.num_prototypes, cfg.pooling.transport_ratio, cfg.pooling.sharpness)
        assert gsp == (64 if small else 128, 0.3, 0.5 if proxies else 5)


@pytest.fixture(scope="module")
def build_once() -> Callable[[TrainConfig], EmbeddingModel]:
    """Models without numbers, one for each combination of backbone and pooling."""
    built: dict[str, EmbeddingModel] = {}

    def build_row(cfg: TrainConfig) -> EmbeddingModel:
        key = f"{cfg.backbone} {cfg.pooling} {cfg.embedding_dim}"
        if key not in built:
            with torch.device("meta"):
                built[key] = build_model(cfg, pretrained=False)
        return built[key]

    return build_row


@pytest.mark.parametrize("row", ROWS)
def test_every_row_builds_its_parts(
    row: str,
    compose_row: Callable[[str], TrainConfig],
    build_once: Callable[[TrainConfig], EmbeddingModel],
) -> None:
    cfg, (data, setting, loss, _) = compose_row(row).copy(), parts(row)  # type: ignore[attr-defined]
    classes = TRAIN_CLASSES[data] * (3 if setting == "mlrc" else 4) // 4
    labels = np.repeat(np.arange(classes), 5)
    batch = labels[build(cfg.sampler)(labels, seed=0).batch(0)]
    images_of_a_class = np.bincount(batch).max()
    assert len(batch) == BATCH[setting]
    assert (
        images_of_a_class == 4
        if loss not in PROXY_LOSSES
        else classes < BATCH[setting] or images_of_a_class == 1
    )
    model = build_once(cfg)
    objective = build_objective(cfg, imageless(labels))
    assert (objective.memory is not None) == loss.endswith("_xbm")
    groups = parameter_groups(model, objective, lr=cfg.optimizer.lr, multipliers=dict(cfg.learning_rates))
    rates = {group["name"]: group["lr"] for group in build(cfg.optimizer)(groups).param_groups}
    assert ("proxies" in rates) == (loss in PROXY_LOSSES) and "backbone" in rates
    assert rates.get("proxies", 100 * rates["backbone"]) == pytest.approx(100 * rates["backbone"])
    assert ("prototypes" in rates) == ("class_codes" in rates) == (cfg.zero_shot.weight > 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.endswith("_gap")])
def test_gap_and_gsp_differ_in_the_pooling_and_the_zero_shot_loss_alone(
    row: str, compose_row: Callable[[str], TrainConfig]
) -> None:
    def rest(name: str) -> dict[str, Any]:
        cfg: Any = OmegaConf.to_container(compose_row(name))  # type: ignore[arg-type]
        return {key: value for key, value in cfg.items() if key not in ("pooling", "zero_shot")}

    assert rest(row) == rest(row.removesuffix("gap") + "gsp_zero_shot")
