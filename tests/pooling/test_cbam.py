import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.pooling import CBAMPooling, GlobalAveragePooling
from dml.pooling.cbam import most_square_grid


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(**changes: Any) -> CBAMPooling:
    torch.manual_seed(0)
    return CBAMPooling(6, **{"reduction": 3, "kernel_size": 3, **changes}).double()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def perceptron(layer: CBAMPooling, summary: Tensor) -> Tensor:
    first, _, last = layer.mlp
    return last.weight @ (first.weight @ summary + first.bias).clamp(min=0) + last.bias


def published(layer: CBAMPooling, image: Tensor) -> tuple[Tensor, Tensor]:
    """F' = M_c(F) ⊗ F and F'' = M_s(F') ⊗ F' of one map (C, H, W), location by location; F'' and M_s."""
    average, maximum = image.flatten(1).mean(1), image.flatten(1).max(1).values
    scores = perceptron(layer, average) + perceptron(layer, maximum)
    image = image * torch.tensor([sigmoid(s) for s in scores.tolist()]).view(-1, 1, 1)
    _, height, width = image.shape
    reach, attention = layer.spatial.kernel_size[0] // 2, torch.zeros(height, width).double()
    for y, x in ((y, x) for y in range(height) for x in range(width)):
        score = layer.spatial.bias.item()
        for dy, dx in ((dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                column = image[:, y + dy, x + dx]
                kernel = layer.spatial.weight[0, :, dy + reach, dx + reach]
                score += float(kernel[0] * column.mean() + kernel[1] * column.max())
        attention[y, x] = sigmoid(score)
    return image * attention, attention


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_it_is_the_mean_of_the_features_that_the_published_module_refines(kernel_size: int) -> None:
    layer, features = make(kernel_size=kernel_size).requires_grad_(False), normal(2, 6, 4, 5)
    pooled = layer(features)
    for image in range(2):
        refined, attention = published(layer, features[image])
        torch.testing.assert_close(pooled.vectors[image], refined.mean((1, 2)))
        torch.testing.assert_close(pooled.weights[image], (attention / attention.sum()).flatten())


def test_with_all_scores_at_zero_it_is_a_quarter_of_average_pooling() -> None:
    layer, features = make(), normal(2, 6, 4, 5)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(layer(features).vectors, GlobalAveragePooling(6)(features).vectors / 4)
    assert layer(features).weights.std() == 0


def test_neighbours_matter() -> None:
    layer, features = make(), normal(1, 6, 4, 5)
    moved = features.flatten(2)[:, :, torch.randperm(20, generator=torch.Generator())].view_as(features)
    assert (layer(features).vectors - layer(moved).vectors).abs().max() > 1e-5


def test_tokens_are_laid_out_row_by_row_on_the_most_square_grid() -> None:
    layer, features = make(), normal(2, 6, 4, 5)
    for actual, expected in zip(layer(features.flatten(2).mT), layer(features), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("count", "grid"), [(1, (1, 1)), (196, (14, 14)), (12, (3, 4)), (7, (1, 7)), (50, (5, 10)), (2, (1, 2))]
)
def test_the_grid_is_as_square_as_the_count_allows(count: int, grid: tuple[int, int]) -> None:
    assert most_square_grid(count) == grid


def test_attention_that_vanishes_everywhere_still_has_shares() -> None:
    layer = make().float()
    torch.nn.init.constant_(layer.spatial.bias, -500.0)
    torch.testing.assert_close(layer(normal(2, 6, 4, 5).float()).weights.sum(1), torch.ones(2))


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(), normal(2, 6, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x)[::2], features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reduction": 0}, "pooling.reduction=0: give a whole number of 1 or more"),
        ({"kernel_size": -1}, "pooling.kernel_size=-1: give a whole number of 1 or more"),
        ({"kernel_size": 4}, "pooling.kernel_size=4: give an odd side; 7 is published"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
