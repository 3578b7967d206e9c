"""Every row of the published tables composes, builds, and has the settings of its protocol, data set and loss.

A fifth of the rows, which needs every file in configs/published/, is tested by default; all of them with ``-m slow``.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from dml.assembly import build_model, build_objective
from dml.config import TrainConfig, build, settle
from dml.data import Records
from dml.model import EmbeddingModel
from dml.reporting.table_files import read_tables
from dml.training import parameter_groups
from tests.published.unchanged import assert_unchanged

CONFIGS = Path(__file__).parents[2] / "configs"
Row = tuple[str, str, str, str]  # set, setting, loss, pooling
SETS = ("cub", "cars", "sop", "inshop")
SETTINGS = ("mlrc", "conventional_bn_inception", "conventional_resnet50")
LOSSES = (
    "c1",
    "c1 memory=xbm",
    "contrastive",
    "contrastive memory=xbm",
    "multi_similarity",
    "triplet",
    "proxy_anchor",
    "proxy_nca_pp",
    "soft_triple",
)
PROXY_LOSSES = LOSSES[-3:]
POOLINGS = ("the baseline", "gsp")
ROWS: list[Row] = list(itertools.product(SETS, SETTINGS, LOSSES, POOLINGS))
SAMPLE = ROWS[::5]
PARAMETERS = [
    pytest.param(row, marks=[] if row in SAMPLE else pytest.mark.slow, id="-".join(row)) for row in ROWS
]
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
    "contrastive": {
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


def pooling_of(data: str, setting: str, pooling: str) -> str:
    if pooling == "the baseline":
        return "gap" if setting == "mlrc" else "gap_max"
    if setting == "mlrc":
        return "gsp"
    return "gsp_gem" if setting == "conventional_resnet50" and data in ("cub", "cars") else "gsp_max"


def former_name(row: Row) -> str:
    """What the row was called when each was a file."""
    data, setting, loss, pooling = row
    words = loss.replace("contrastive", "c2").replace(" memory=", "_")
    return f"{data}/{setting}/{words}_{'gap' if pooling == 'the baseline' else 'gsp_zero_shot'}"


POOLING_CLASSES = {
    "gap": "GlobalAveragePooling",
    "gap_max": "GlobalAverageMaxPooling",
    "gsp": "GeneralizedSumPooling",
    "gsp_max": "GeneralizedSumMaxPooling",
    "gsp_gem": "GeneralizedSumGeMPooling",
}


def overrides_of(row: Row) -> tuple[str, ...]:
    """What one types for a row."""
    data, setting, loss, pooling = row
    return (
        f"published={setting}",
        f"dataset={data}",
        *f"loss={loss}".split(),
        f"pooling={pooling_of(data, setting, pooling)}",
    )


def test_the_tables_have_a_row_for_every_set_setting_loss_and_pooling_once() -> None:
    names = [path.stem for path in (CONFIGS / "table").glob("*.yaml")]
    tables = [table for name in names for table in read_tables(name)]
    rows = [row.overrides for table in tables for row in table.rows if "published=" in row.overrides[0]]
    assert sorted(map(sorted, rows)) == sorted(sorted(overrides_of(row)) for row in ROWS)


def test_the_sample_needs_every_published_file_and_every_loss_with_every_pooling() -> None:
    found = {
        path.relative_to(CONFIGS / "published").as_posix() for path in CONFIGS.rglob("published/*/*.yaml")
    }
    needed = {"values/conventional.yaml"}
    for data, setting, loss, pooling in SAMPLE:
        name, *memory = loss.split()
        needed |= {f"values/{setting}.yaml", f"loss/{name}.yaml"}
        needed |= {f"memory/xbm_{setting}.yaml"} if memory else set()
        needed |= {f"pooling/{pooling_of(data, setting, pooling)}.yaml"} if pooling == "gsp" else set()
    assert needed == found
    assert {row[:2] for row in SAMPLE} == set(itertools.product(SETS, SETTINGS))
    assert {row[2:] for row in SAMPLE} == set(itertools.product(LOSSES, POOLINGS))
    batches = {(row[1], row[0] in ("cub", "cars"), row[2] in PROXY_LOSSES) for row in SAMPLE}
    assert len(batches) == 3 * 2 * 2  # every sampler that is published


@pytest.fixture(scope="module")
def compose_row(compose_config: Callable[..., TrainConfig]) -> Callable[[Row], TrainConfig]:
    composed: dict[Row, TrainConfig] = {}

    def compose(row: Row) -> TrainConfig:
        if row not in composed:
            composed[row] = compose_config(*overrides_of(row), "paths.data=data")
        return composed[row]

    return compose


@pytest.mark.parametrize("row", PARAMETERS)
def test_every_row_is_what_it_was_as_a_file(row: Row, compose_row: Callable[[Row], TrainConfig]) -> None:
    assert_unchanged(compose_row(row), "rows", former_name(row))


@pytest.mark.parametrize("row", PARAMETERS)
def test_every_row_has_the_published_settings(row: Row, compose_row: Callable[[Row], TrainConfig]) -> None:
    cfg, (data, setting, loss, pooling) = compose_row(row), row
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
    assert cfg.trainer.frozen_backbone_steps == (round(epoch) if proxies else 0)
    memory = LARGE_MEMORY.get(data, SMALL_MEMORY[setting]) if loss.endswith("xbm") else (0, 1000)
    assert (cfg.memory.batches, cfg.memory.start_step) == memory
    values = LOSS_VALUES[loss.split()[0]][data]
    assert {key: cfg.loss[key] for key in values} == pytest.approx(values)
    pooling_class = POOLING_CLASSES[pooling_of(data, setting, pooling)]
    assert cfg.pooling._target_ == f"dml.pooling.{pooling_class}"
    assert cfg.zero_shot.weight == (0.1 if pooling == "gsp" else 0)
    if pooling == "gsp":
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


@pytest.mark.parametrize("row", PARAMETERS)
def test_every_row_builds_its_parts(
    row: Row,
    compose_row: Callable[[Row], TrainConfig],
    build_once: Callable[[TrainConfig], EmbeddingModel],
) -> None:
    cfg, (data, setting, loss, _) = compose_row(row), row
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
    objective = build_objective(settle(cfg, num_classes=classes), imageless(labels))
    assert (objective.memory is not None) == loss.endswith("xbm")
    groups = parameter_groups(model, objective, lr=cfg.optimizer.lr, multipliers=dict(cfg.learning_rates))
    optimizer = build(cfg.optimizer)(groups, fused=False)  # torch 2.4 has no fused one without memory
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert ("proxies" in rates) == (loss in PROXY_LOSSES) and "backbone" in rates
    assert rates.get("proxies", 100 * rates["backbone"]) == pytest.approx(100 * rates["backbone"])
    assert ("prototypes" in rates) == ("class_codes" in rates) == (cfg.zero_shot.weight > 0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_baseline_and_gsp_differ_in_the_pooling_and_the_zero_shot_loss_alone(
    setting: str, compose_row: Callable[[Row], TrainConfig]
) -> None:
    def rest(pooling: str) -> dict[str, Any]:
        cfg: Any = OmegaConf.to_container(
            compose_row(("cub", setting, "proxy_anchor", pooling)), resolve=True
        )  # type: ignore[arg-type]
        return {key: value for key, value in cfg.items() if key not in ("pooling", "zero_shot")}

    assert rest("the baseline") == rest("gsp")
