import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.pooling import GlobalAveragePooling, GSoPPooling


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**changes: Any) -> GSoPPooling:
    torch.manual_seed(0)
    settings = {"attention_channels": 4, "row_filters": 2, "negative_slope": 0.1, **changes}
    return GSoPPooling(6, **settings).double()


def covariance(rows: Tensor) -> Tensor:
    """Of the channels of one image (N, d), entry by entry."""
    means = rows.mean(0)
    result = torch.zeros(rows.shape[1], rows.shape[1]).double()
    for i, j in ((i, j) for i in range(len(result)) for j in range(len(result))):
        result[i, j] = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / len(rows)
    return result


def channel_scales(layer: GSoPPooling, tokens: Tensor) -> list[float]:
    """Published: covariance, normalisation, row-wise convolution, leaky ReLU, linear map, sigmoid."""
    norm, rows, _, _, last, _ = layer.scale
    matrix = covariance(layer.reduce(tokens))
    matrix = (matrix - matrix.mean()) / (matrix.var(unbiased=False) + 1e-5).sqrt()
    matrix = norm.weight.unsqueeze(1) * matrix + norm.bias.unsqueeze(1)
    described = []
    for i in range(4):
        for k in (2 * i, 2 * i + 1):  # the two filters of row i
            value = float(rows.weight[k, 0] @ matrix[i] + rows.bias[k])
            described.append(value if value > 0 else 0.1 * value)
    scores = last.weight @ torch.tensor(described).double() + last.bias
    return [1 / (1 + math.exp(-score)) for score in scores.tolist()]


def test_it_is_average_pooling_scaled_by_what_the_covariance_says() -> None:
    layer, features = make().requires_grad_(False), normal(2, 7, 6)
    torch.nn.init.normal_(layer.scale[0].weight)  # rows with weights of their own
    pooled = layer(features)
    for image in range(2):
        scales = torch.tensor(channel_scales(layer, features[image])).double()
        torch.testing.assert_close(pooled.vectors[image], scales * features[image].mean(0))


def test_reduced_channels_are_normalised_location_by_location() -> None:
    layer, features = make(), normal(2, 7, 6)
    linear = layer.reduce[0](features)
    deviation = (linear.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = ((linear - linear.mean(2, keepdim=True)) / deviation).clamp(min=0)
    torch.testing.assert_close(layer.reduce(features), expected)


def test_locations_count_alike() -> None:
    features = normal(2, 6, 3, 5)
    assert make()(features).weights.equal(GlobalAveragePooling(6)(features).weights)


def test_a_single_location_has_no_covariance_and_is_scaled_alike_in_every_image() -> None:
    features = normal(3, 6, 1, 1)
    ratios = make()(features).vectors / features.flatten(1)
    torch.testing.assert_close(ratios, ratios[:1].expand(3, -1))
    assert ratios.min() > 0 and ratios.max() < 1


def test_images_with_equal_means_are_told_apart_by_their_covariance() -> None:
    layer, features = make(), normal(1, 8, 6)
    spread = features.mean(1, keepdim=True) + 3 * (features - features.mean(1, keepdim=True))
    torch.testing.assert_close(spread.mean(1), features.mean(1))
    assert (layer(spread).vectors - layer(features).vectors).abs().max() > 1e-4


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x).vectors, features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_channels": 0}, "pooling.attention_channels=0: give a whole number of 1 or more"),
        ({"row_filters": 0}, "pooling.row_filters=0: give a whole number of 1 or more"),
        ({"negative_slope": -0.1}, "pooling.negative_slope=-0.1: give 0 or more, below 1"),
        ({"negative_slope": 1.0}, "pooling.negative_slope=1.0: give 0 or more, below 1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
