"""Colours over images, pixel by pixel."""

import pytest
import torch

from dml.functional.overlay import ABOVE, BELOW, COVER, FAINTEST, PALE, departure, tint


def coloured(pixel: tuple[int, int, int], value: float, full: float) -> list[int]:
    """The formula, for one pixel."""
    luma = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
    pale = luma + PALE * (255 - luma)
    strength = max(-1.0, min(1.0, (value - 1) / full))
    cover = COVER * abs(strength)
    return [round((1 - cover) * pale + cover * c) for c in (ABOVE if strength > 0 else BELOW)]


@pytest.mark.parametrize("value", [0.0, 0.9, 1.0, 1.05, 1.3])
def test_a_pixel_has_the_colour_of_the_formula(value: float) -> None:
    pixel = (10, 200, 90)
    image = torch.tensor(pixel, dtype=torch.uint8).view(1, 3, 1, 1)
    assert tint(image, torch.full((1, 1, 1), value), 0.1).flatten().tolist() == coloured(pixel, value, 0.1)


def test_each_location_fills_its_rectangle_of_the_image() -> None:
    white = torch.full((1, 3, 6, 4), 255, dtype=torch.uint8)
    maps = torch.tensor([[[2.0, 1.0], [1.0, 0.0]]])
    red, blue = (coloured((255, 255, 255), value, 1.0) for value in (2.0, 0.0))
    expected = torch.full((6, 4, 3), 255)
    expected[:3, :2], expected[3:, 2:] = torch.tensor(red), torch.tensor(blue)
    assert tint(white, maps, 1.0)[0].permute(1, 2, 0).equal(expected.to(torch.uint8))


def test_uniform_weights_leave_grey_and_noise_is_not_stretched_to_full_colour() -> None:
    assert departure(torch.ones(1, 2, 2)) == departure(torch.full((1, 2, 2), 1.001)) == FAINTEST
    assert departure(torch.tensor([[[0.7, 1.2]]])) == pytest.approx(0.3)
    image = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = tint(image, torch.ones(1, 2, 2), FAINTEST)
    assert grey[:, 0].equal(grey[:, 1]) and grey[:, 0].equal(grey[:, 2])
