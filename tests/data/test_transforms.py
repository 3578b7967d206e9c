import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dml.data import EvaluationTransform, TrainingTransform
from dml.data.transforms import random_area_crop

OPTIONS = {"size": 16, "scale": (0.5, 1.0), "ratio": (0.75, 4 / 3), "flip": 0.5}


def image(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 10**6))
def test_crop_boxes_lie_inside_the_image_and_keep_area_and_ratio(width: int, height: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    left, top, right, bottom = random_area_crop(width, height, (0.16, 1.0), (0.75, 4 / 3), generator)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert 0.75 - 1e-6 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-6


def test_a_very_wide_image_falls_back_to_the_centre() -> None:
    box = random_area_crop(1000, 10, (0.9, 1.0), (0.75, 4 / 3), np.random.default_rng(0))
    assert box == pytest.approx((500 - 20 / 3, 0, 500 + 20 / 3, 10))


def test_the_training_transform_depends_on_the_generator_alone() -> None:
    transform = TrainingTransform(**OPTIONS)
    first, second, third = (transform(image(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, 16, 16) and first.equal(second) and not first.equal(third)


def test_flip_mirrors_the_image() -> None:
    never, always = (TrainingTransform(**{**OPTIONS, "flip": p}) for p in (0.0, 1.0))
    plain, mirrored = (t(image(), np.random.default_rng(3)) for t in (never, always))
    assert plain.flip(2).equal(mirrored)


def test_evaluation_takes_the_centre_square_of_the_resized_image() -> None:
    result = EvaluationTransform(size=20, resize=20)(image(40, 60))
    resized = Image.fromarray(image(40, 60)).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), np.asarray(resized)[:, 5:25])


def test_evaluation_crops_the_border_that_resize_leaves_over() -> None:
    result = EvaluationTransform(size=20, resize=40)(image(40, 60))
    np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), image(40, 60)[10:30, 20:40])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "transform.size=0"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 1.5)}, "at most 1"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"flip": 1.5}, "flip=1.5"),
    ],
)
def test_training_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingTransform(**{**OPTIONS, **options})


def test_an_evaluation_square_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"resize=10.*size=20.*at least as large"):
        EvaluationTransform(size=20, resize=10)
