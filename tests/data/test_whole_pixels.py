from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as F

from dml.data import EvaluationTransform, TrainingTransform
from dml.data.image_files import ImageFiles
from dml.data.transforms import random_area_crop, whole_pixels
from dml.randomness import numpy_generator

OPTIONS = {"size": 224, "scale": (0.16, 1.0), "ratio": (0.75, 4 / 3), "flip": 0.5, "whole_pixels": True}


def photograph(width: int = 500, height: int = 375) -> Image.Image:
    """Content of every scale, the coarse stronger."""
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 128.0)
    for cells, strength in ((4, 60), (16, 30), (64, 15), (200, 8)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += strength * (np.asarray(noise.resize((width, height)), float) / 128 - 1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def box_of(image: np.ndarray, seed: int) -> tuple[int, int, int, int]:
    """The box that the training transform draws, and whether it mirrors."""
    height, width = image.shape[:2]
    return whole_pixels(
        random_area_crop(width, height, OPTIONS["scale"], OPTIONS["ratio"], numpy_generator(seed))
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_usual_pipeline_with_the_same_box_differs_by_rounding_alone(seed: int, tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.jpg", quality=90)
    image = ImageFiles(tmp_path, ("a.jpg",), 256)[0]
    left, top, right, bottom = box_of(image, seed)
    never_mirrored = TrainingTransform(**{**OPTIONS, "flip": 0.0})
    ours = never_mirrored(image, numpy_generator(seed)).int()
    with Image.open(tmp_path / "a.jpg") as opened:
        resized = transforms.Resize(256)(opened.convert("RGB"))
        square = F.resized_crop(resized, top, left, bottom - top, right - left, [224, 224])
    assert resized.size == image.shape[1::-1]
    assert (
        ours - transforms.PILToTensor()(square).int()
    ).abs().max() <= 2  # of 255: two resizings, each by 1


def test_boxes_have_the_areas_and_ratios_of_the_usual_pipeline() -> None:
    torch.manual_seed(0)
    tensor = torch.zeros(3, 256, 341)
    theirs = [
        transforms.RandomResizedCrop.get_params(tensor, OPTIONS["scale"], OPTIONS["ratio"])
        for _ in range(4000)
    ]
    usual = np.array([(height * width, width / height, top, left) for top, left, height, width in theirs])
    boxes = np.array([box_of(np.zeros((256, 341, 3)), seed) for seed in range(4000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    ours = np.stack([height * width, width / height, boxes[:, 1], boxes[:, 0]], axis=1)
    deviation = np.abs(np.quantile(ours, [0.1, 0.5, 0.9], 0) - np.quantile(usual, [0.1, 0.5, 0.9], 0))
    assert (deviation < 0.06 * usual.std(0) + 1).all()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10**6))
def test_boxes_on_whole_pixels_lie_inside_and_hold_a_pixel(width: int, height: int, seed: int) -> None:
    box = random_area_crop(width, height, (0.01, 1.0), (0.5, 2.0), np.random.default_rng(seed))
    left, top, right, bottom = whole_pixels(box)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert all(abs(whole - edge) <= 1 for whole, edge in zip((left, top, right, bottom), box, strict=True))


def test_the_training_transform_depends_on_the_generator_alone_and_mirrors() -> None:
    image = np.asarray(photograph())
    transform = TrainingTransform(**OPTIONS)
    first, second, third = (transform(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, 224, 224) and first.equal(second) and not first.equal(third)
    never, always = (TrainingTransform(**{**OPTIONS, "flip": p}) for p in (0.0, 1.0))
    assert never(image, np.random.default_rng(3)).flip(2).equal(always(image, np.random.default_rng(3)))


def test_evaluation_differs_from_the_usual_pipeline_by_rounding_alone() -> None:
    ours = EvaluationTransform(size=224, resize=256, whole_pixels=True)(np.asarray(photograph()))
    usual = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    assert (ours.int() - usual(photograph()).int()).abs().max() <= 1


def test_evaluation_of_a_picture_whose_short_side_fits_keeps_every_pixel() -> None:
    image = np.asarray(photograph(300, 256))
    square = EvaluationTransform(size=224, resize=256, whole_pixels=True)(image)
    np.testing.assert_array_equal(square.permute(1, 2, 0).numpy(), image[16:240, 38:262])


def test_a_short_side_without_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"transform\.short_side=0"):
        ImageFiles(Path(), (), 0)
