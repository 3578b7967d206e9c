import numpy as np
import pytest

from dml.data import ClassBalancedSampler, UniformSampler

LABELS = np.repeat(np.arange(10), [5, 3, 8, 4, 4, 1, 6, 7, 5, 9])


def class_balanced(**options: int) -> ClassBalancedSampler:
    return ClassBalancedSampler(
        LABELS, **{"classes_per_batch": 3, "images_per_class": 4, "seed": 0, **options}
    )


def test_a_batch_has_the_shape_that_was_asked_for() -> None:
    classes, counts = np.unique(LABELS[class_balanced().batch(7)], return_counts=True)
    assert len(classes) == 3 and set(counts) == {4}


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, second = class_balanced(), class_balanced()
    for step in (5, 0, 12):
        np.testing.assert_array_equal(first.batch(step), second.batch(step))
    assert not np.array_equal(first.batch(5), first.batch(6))
    assert not np.array_equal(first.batch(5), class_balanced(seed=1).batch(5))


def test_every_pass_over_the_classes_takes_each_class_at_most_once() -> None:
    sampler = class_balanced(classes_per_batch=5)
    for start in (0, 2, 4):
        seen = np.concatenate([np.unique(LABELS[sampler.batch(step)]) for step in (start, start + 1)])
        assert sorted(seen) == list(range(10))


def test_images_of_a_class_repeat_only_if_it_has_too_few() -> None:
    sampler = class_balanced(classes_per_batch=10)
    batch = sampler.batch(3)
    for label, available in enumerate(np.bincount(LABELS)):
        assert len(np.unique(batch[LABELS[batch] == label])) == min(available, 4)


def test_more_classes_per_batch_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes_per_batch=11.*10 classes.*between 1 and 10"):
        class_balanced(classes_per_batch=11)


def test_no_images_per_class_is_refused() -> None:
    with pytest.raises(ValueError, match="images_per_class=0"):
        class_balanced(images_per_class=0)


def test_uniform_passes_take_every_image_at_most_once() -> None:
    sampler = UniformSampler(LABELS, batch_size=13, seed=0)
    seen = np.concatenate([sampler.batch(step) for step in range(4)])
    assert sorted(seen) == list(range(52))


@pytest.mark.parametrize("batch_size", [0, 53])
def test_a_uniform_batch_that_does_not_fit_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size={batch_size}.*52 images"):
        UniformSampler(LABELS, batch_size=batch_size, seed=0)
