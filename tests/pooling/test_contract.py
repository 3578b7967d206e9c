"""What every pooling promises, for every YAML file in configs/pooling."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from dml.types import Pooled

ROOT = Path(__file__).parents[2]
with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
    CONFIGS = {
        path.stem: OmegaConf.to_container(compose(f"pooling/{path.stem}"))
        for path in (ROOT / "configs/pooling").glob("*.yaml")
    }
CHANNELS = 8
SEES_NEIGHBOURS = {
    "cbam": "the spatial attention is a convolution of 7 × 7",
    "how": "local descriptors are averaged over 3 × 3 on maps, and not on tokens",
    "tile": "it chooses locations by their place, and tokens have another one than on a map that is no square",
}  # so that the order of locations and the shape of the map matter
MAGNITUDES = {"zero": 0.0, "tiny": 1e-8, "huge": 1e4}

every_pooling = pytest.mark.parametrize("name", sorted(CONFIGS))
without_neighbours = pytest.mark.parametrize("name", sorted(CONFIGS.keys() - SEES_NEIGHBOURS.keys()))


def make(name: str, *, seed: int = 0) -> nn.Module:
    """The pooling of a YAML file with at most four prototypes, clusters, heads or whatever it has a number of."""
    settings: dict[str, Any] = {
        key: min(value, 4) if key.startswith("num_") else value
        for key, value in CONFIGS[name]["pooling"].items()
    }
    torch.manual_seed(seed)
    pooling: nn.Module = instantiate(settings, in_channels=CHANNELS)
    return pooling.eval()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens_of(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).mT.contiguous()


def assert_equal(actual: Pooled, expected: Pooled) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def differentiable(pooled: Pooled) -> tuple[Tensor, ...]:
    return (pooled.vectors,) if pooled.attributes is None else (pooled.vectors, pooled.attributes)


def test_the_list_of_poolings_is_not_empty() -> None:
    assert {"gap", "gap_max", "gsp", "gsp_gem", "gsp_max"} <= CONFIGS.keys()


@every_pooling
def test_a_pooling_says_what_the_model_asks_for(name: str) -> None:
    pooling = make(name)
    assert isinstance(pooling.out_channels, int) and isinstance(pooling.pools_embedded, bool)
    assert not pooling.pools_embedded or pooling.out_channels == CHANNELS
    without_zero_shot = CONFIGS[name].get("zero_shot") == {"weight": 0.0}
    assert pooling.has_attributes is not without_zero_shot


@every_pooling
def test_a_pooling_has_its_row_in_the_docs(name: str) -> None:
    docs = (ROOT / "docs/components.md").read_text()
    class_path = CONFIGS[name]["pooling"]["_target_"]
    assert f"| `{name}` | `{class_path}` |" in docs


@every_pooling
@pytest.mark.parametrize("size", [(3, 4), (7, 2), (1, 5), (1, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_maps_and_tokens_of_any_size_give_vectors_and_shares(
    name: str, size: tuple[int, int], batch: int
) -> None:
    pooling, feature_map = make(name), normal(batch, CHANNELS, *size)
    for features in (feature_map, tokens_of(feature_map)):
        vectors, attributes, weights = pooling(features)
        assert vectors.shape == (batch, pooling.out_channels) and vectors.dtype == features.dtype
        assert (attributes is not None) == pooling.has_attributes
        assert weights is None or weights.shape == (batch, size[0] * size[1])
        for shares in (attributes, weights):
            assert shares is None or shares.min() >= 0
            assert shares is None or (shares.sum(1) - 1).abs().max() < 1e-5


@without_neighbours
def test_tokens_are_pooled_as_the_map_of_the_same_locations(name: str) -> None:
    pooling, feature_map = make(name), normal(3, CHANNELS, 3, 4)
    assert_equal(pooling(tokens_of(feature_map)), pooling(feature_map))


@every_pooling
def test_the_memory_layout_of_a_map_changes_nothing(name: str) -> None:
    pooling, feature_map = make(name), normal(3, CHANNELS, 3, 4)
    assert_equal(pooling(feature_map.contiguous(memory_format=torch.channels_last)), pooling(feature_map))


@without_neighbours
def test_the_order_of_locations_changes_only_the_order_of_the_weights(name: str) -> None:
    pooling, tokens, order = make(name), normal(3, 12, CHANNELS), normal(12).argsort()
    expected, actual = pooling(tokens), pooling(tokens[:, order])
    if expected.weights is not None:
        expected = expected._replace(weights=expected.weights[:, order])
    assert_equal(actual, expected)


@every_pooling
def test_images_of_a_batch_do_not_see_each_other(name: str) -> None:
    pooling, feature_map = make(name), normal(4, CHANNELS, 3, 4)
    together, alone = pooling(feature_map), pooling(feature_map[2:3])
    assert_equal(alone, Pooled(*(value if value is None else value[2:3] for value in together)))


@every_pooling
@pytest.mark.parametrize("magnitude", MAGNITUDES.values(), ids=MAGNITUDES.keys())
@pytest.mark.parametrize("constant", [False, True], ids=["varied", "constant"])
def test_values_and_gradients_are_finite(name: str, magnitude: float, constant: bool) -> None:
    pooling = make(name)
    features = magnitude * (torch.ones(2, CHANNELS, 3, 4) if constant else normal(2, CHANNELS, 3, 4))
    pooled = pooling(features.requires_grad_())
    torch.autograd.backward([value.square().sum() for value in differentiable(pooled)])
    gradients = [parameter.grad for parameter in pooling.parameters() if parameter.grad is not None]
    for value in (*pooled, features.grad, *gradients):
        assert value is None or value.isfinite().all()
    for shares in (pooled.attributes, pooled.weights):
        assert shares is None or (shares.min() >= 0 and (shares.sum(1) - 1).abs().max() < 1e-4)


@every_pooling
def test_gradients_by_features_are_exact_in_float64(name: str) -> None:
    pooling = make(name).double()
    features = (normal(2, CHANNELS, 2, 3).double().abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: differentiable(pooling(x)), features)


@pytest.mark.parametrize("name", [name for name in sorted(CONFIGS) if list(make(name).parameters())])
def test_gradients_by_parameters_are_exact_in_float64(name: str) -> None:
    pooling, features = make(name).double(), normal(2, CHANNELS, 2, 3).double().abs() + 0.1
    names, values = zip(*pooling.named_parameters(), strict=True)

    def pool(*parameters: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, parameters, strict=True))
        pooled = torch.func.functional_call(pooling, given, features)
        return tuple(value for value in differentiable(pooled) if value.requires_grad)

    assert torch.autograd.gradcheck(
        pool, [value.detach().requires_grad_() for value in values], fast_mode=True
    )


@every_pooling
def test_under_bfloat16_autocast_the_result_stays_near_that_in_float32(name: str) -> None:
    pooling, features = make(name), normal(3, CHANNELS, 3, 4).bfloat16()
    expected = pooling(features.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = pooling(features)
    assert actual.vectors.dtype == torch.bfloat16
    assert actual.weights is None or actual.weights.dtype == torch.float32
    size = expected.vectors.abs().max().item()
    torch.testing.assert_close(actual.vectors.float(), expected.vectors, rtol=0, atol=0.01 * size)
    for share, exact in zip(actual[1:], expected[1:], strict=True):
        assert share is None or (share - exact).abs().max() < 0.02 * exact.max()


@every_pooling
@torch.no_grad()  # what is exported is for use, and not for training
def test_an_exported_pooling_gives_the_same(name: str) -> None:
    pooling, features = make(name), normal(2, CHANNELS, 2, 3)
    exported = torch.export.export(pooling, (features,), strict=False)
    assert_equal(exported.module()(2 * features), pooling(2 * features))


@every_pooling
def test_a_state_dict_makes_another_pooling_the_same(name: str) -> None:
    pooling, other, features = make(name), make(name, seed=1), normal(2, CHANNELS, 3, 4)
    other.load_state_dict(pooling.state_dict())
    assert all(
        one is None or torch.equal(one, two)
        for one, two in zip(other(features), pooling(features), strict=True)
    )


@every_pooling
@pytest.mark.parametrize("shape", [(2, CHANNELS - 1, 3, 3), (2, 9, CHANNELS + 1), (2, CHANNELS)])
def test_features_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features have shape .*Build the pooling with in_channels"):
        make(name)(torch.zeros(shape))


@pytest.mark.parametrize(
    "name", [name for name in sorted(CONFIGS) if "num_prototypes" in CONFIGS[name]["pooling"]]
)
def test_prototypes_start_only_among_features_that_fit_and_are_finite(name: str) -> None:
    start = make(name).initialise_prototypes
    for features, message in (
        (torch.zeros(2, CHANNELS - 1, 3, 3), "features have shape"),
        (torch.full((1, CHANNELS, 2, 2), torch.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            start(features, generator=torch.Generator().manual_seed(0))


def test_nothing_that_is_compiled_copies_a_named_tuple_by_replace() -> None:
    """Compiled by torch 2.11, ``_replace`` of a named tuple fails, or returns an empty one."""
    package = Path(inspect.getfile(Pooled)).parent
    compiled = [
        package / "model.py",
        *(package / "pooling").glob("*.py"),
        *(package / "functional").glob("*.py"),
    ]
    assert [path.name for path in compiled if "._replace(" in path.read_text(encoding="utf-8")] == []
