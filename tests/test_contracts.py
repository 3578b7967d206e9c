"""What a part promises is checked once, whoever made it, and what is missing is said in a sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from dml.assembly import build_data, build_model, build_objective
from dml.config import ConfigError, TrainConfig, build, settle
from dml.contracts import (
    Backbone,
    ChoosesStart,
    DrawsImages,
    FitsSharpness,
    HasPlan,
    HasPrototypes,
    ImageStore,
    Logger,
    Loss,
    Pooling,
    check_contract,
)
from dml.data import TrainTest, emoji_dataset
from dml.pooling import GeneralizedSumPooling, GlobalAveragePooling, NetVLADPooling
from dml.types import Pooled
from tests.noise import noise

Compose = Callable[..., TrainConfig]


class Middle(nn.Module):
    """A pooling that lacks nothing and knows nothing of dml."""

    has_attributes = False
    pools_embedded = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, features: Tensor) -> Pooled:
        return Pooled(features.flatten(2)[:, :, 0])


def without(name: str, **others: Any) -> nn.Module:
    """Such a pooling that lacks an attribute, or has another."""
    kind = type("Mine", (Middle,), {})
    pooling: nn.Module = kind(3)
    for key, value in others.items():
        setattr(pooling, key, value)
    if name:
        slots: type = type("Mine", (nn.Module,), {"forward": Middle.forward})
        bare: nn.Module = slots()
        for key in {"out_channels", "pools_embedded", "has_attributes"} - {name}:
            setattr(bare, key, 3 if key == "out_channels" else False)
        return bare
    return pooling


@pytest.mark.parametrize(
    ("part", "contract", "said"),
    [
        (without("has_attributes"), Pooling, r"p=Mine gives Mine, which has no has_attributes: a pooling is a torch"),
        (without("", out_channels="8"), Pooling, r"whose out_channels is '8' and no int: .* docs/extending\.md"),
        (without("", out_channels=True), Pooling, r"whose out_channels is True and no int"),
        (lambda features: Pooled(features), Pooling, r"gives the function <lambda>, which is no torch\.nn\.Module"),
        (nn.Identity, Loss, r"gives the class Identity, which is no torch\.nn\.Module"),
        (nn.Identity(), Loss, r"whose forward\(\) does not take vectors, labels .*: a loss is"),
        (without(""), Backbone, r"which has no normalisation: a backbone is"),
        (object(), ImageStore, r"which has no __getitem__\(\): images are an array"),
        (object(), Logger, r"which has no step\(\): a logger has"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_all_that_is_promised(part: object, contract: type, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_contract(part, contract, "p=Mine")


@pytest.mark.parametrize(
    ("part", "contract"),
    [
        (Middle(3), Pooling),
        (np.zeros((1, 2, 2, 3), np.uint8), ImageStore),
        ([np.zeros((2, 2, 3), np.uint8)], ImageStore),
        (Logger(), Logger),
    ],
)
def test_what_lacks_nothing_passes_as_it_is(part: object, contract: type) -> None:
    assert check_contract(part, contract, "p=Mine") is part


def test_what_a_part_can_besides_is_read_from_its_methods() -> None:
    options: dict[str, Any] = {"num_prototypes": 2, "transport_ratio": 0.3, "lloyd_iterations": 1}
    fitted, fixed = (GeneralizedSumPooling(4, **options, sharpness=rule) for rule in ("auto", 5.0))
    for pooling in (fitted, fixed):
        assert isinstance(pooling, HasPrototypes) and isinstance(pooling, HasPlan)
        assert isinstance(pooling, ChoosesStart) and isinstance(pooling, FitsSharpness)
    assert fitted.fits_sharpness and not fixed.fits_sharpness
    assert issubclass(NetVLADPooling, HasPrototypes) and not hasattr(NetVLADPooling, "prototype_start")
    assert not isinstance(GlobalAveragePooling(4), HasPrototypes | HasPlan | FitsSharpness)
    assert not isinstance(np.zeros((1, 2, 2, 3)), DrawsImages)


def embedded(in_channels: int) -> GeneralizedSumPooling:
    """A function that makes a pooling which is known to pool embedded locations only once it is there."""
    return GeneralizedSumPooling(
        in_channels, num_prototypes=3, transport_ratio=0.3, sharpness=5.0, lloyd_iterations=1
    )


def average(in_channels: int) -> GlobalAveragePooling:
    return GlobalAveragePooling(in_channels)


def backbone(channels: int) -> nn.Module:
    from dml.backbones import ConvNet

    return ConvNet(widths=[8, 8, channels])


def loss() -> nn.Module:
    from dml.losses import C1Loss

    return C1Loss(margin=0.5)


def no_test_half(root: str) -> tuple[Any, ...]:
    return tuple(emoji_dataset(root))[:1]


def made_of(name: str) -> str:
    return f"{__name__}.{name}"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


@pytest.mark.parametrize(("name", "channels"), [("embedded", 16), ("average", 24)])
def test_functions_make_a_backbone_a_pooling_and_a_loss(
    name: str, channels: int, compose_smoke: Compose
) -> None:
    cfg = compose_smoke("embedding_dim=16", "zero_shot.weight=0")
    OmegaConf.update(cfg, "pooling", {"_target_": made_of(name)}, merge=False)
    OmegaConf.update(cfg, "backbone", {"_target_": made_of("backbone"), "channels": 24}, merge=False)
    OmegaConf.update(cfg, "loss", {"_target_": made_of("loss")}, merge=False)
    model = build_model(cfg)
    assert model.pooling.out_channels == channels
    assert model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).vectors.shape == (1, 16)
    assert build_objective(settle(cfg, num_classes=12), noise(12, 5)).metric is not None


def test_a_class_and_a_function_start_from_the_same_weights(compose_smoke: Compose) -> None:
    cfg = compose_smoke("embedding_dim=16", "pooling.num_prototypes=3")
    by_class = build_model(cfg).pooling.prototypes
    OmegaConf.update(cfg, "pooling", {"_target_": made_of("embedded")}, merge=False)
    assert by_class.equal(build_model(cfg).pooling.prototypes)


def test_a_data_set_that_is_none_is_refused(compose_smoke: Compose) -> None:
    cfg = compose_smoke()
    cfg.dataset._target_ = made_of("no_test_half")
    with pytest.raises(
        ConfigError, match=r"no_test_half gives tuple: a data set is dml\.TrainTest\(train, test\)"
    ):
        build_data(cfg)
    assert TrainTest._fields == ("train", "test")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dml.pooling.GeneralisedSumPooling", r"dml\.pooling has no class or function .* did you mean dml\.pooling"),
        ("dml.poling.GeneralizedSumPooling", r"dml has no poling; did you mean dml\.pooling"),
        ("numpyy.array", r"there is no package numpyy: install it, or name .* PYTHONPATH; did you mean .*numpy"),
        ("torch.nn.Linear.froward", r"torch\.nn\.Linear has no class or function froward; did you mean .*forward"),
        ("faulty_at_once.Part", r"faulty_at_once fails while it is imported: ZeroDivisionError"),
        ("faulty_import.Part", r"faulty_import: No module named 'no_such_package'"),
        ("math.pi", r"math\.pi is 3\.14.*: give a class, or a function that makes the part"),
        ("dml.types", r"dml\.types is <module.*: give a class, or a function"),
    ],
)  # fmt: skip
def test_a_target_that_is_misspelt_or_no_part_is_refused_with_near_names(
    target: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "faulty_at_once.py").write_text("1 / 0")
    (tmp_path / "faulty_import.py").write_text("import no_such_package")
    node = OmegaConf.create({"pooling": {"_target_": target}}).pooling
    with pytest.raises(ConfigError, match=said):
        build(node)
