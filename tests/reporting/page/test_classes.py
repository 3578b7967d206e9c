"""Means by class and the bootstrap over classes, against slow loops."""

import numpy as np
import pytest

from dml.randomness import numpy_generator
from dml.reporting.page.classes import RESAMPLES, class_figures, interval_over_classes


def test_a_class_has_the_mean_of_its_queries_that_have_something_to_find() -> None:
    labels = np.array([0, 0, 2, 2, 2, 5])
    recall = np.array([1.0, 0.0, 1.0, 1.0, 0.0, np.nan])
    precision = np.array([0.5, 0.0, 1.0, 0.25, 0.25, np.nan])
    found = class_figures(labels, recall, precision)
    assert found.labels.tolist() == [0, 2] and found.queries.tolist() == [2, 3]
    assert found.recall.tolist() == [0.5, pytest.approx(2 / 3)]
    assert found.average_precision.tolist() == [0.25, 0.5]


def test_the_interval_is_that_of_means_over_classes_drawn_anew() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 12, 80)
    values = generator.random(80)
    values[3] = np.nan
    mean, low, high = interval_over_classes(values, labels)
    known = ~np.isnan(values)
    classes = np.unique(labels[known])
    draws = numpy_generator(0, "bootstrap").multinomial(
        len(classes), np.full(len(classes), 1 / len(classes)), size=RESAMPLES
    )
    means = []
    for draw in draws:
        pooled = [
            values[known & (labels == c)]
            for c, times in zip(classes, draw, strict=True)
            for _ in range(times)
        ]
        means.append(np.concatenate(pooled).mean())
    assert mean == pytest.approx(values[known].mean())
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))))


def test_classes_that_differ_widen_it_where_images_alone_would_not() -> None:
    labels = np.repeat(np.arange(10), 50)
    apart = np.repeat([0.0, 1.0], 250)
    mixed = np.tile([0.0, 1.0], 250)
    wide, narrow = interval_over_classes(apart, labels), interval_over_classes(mixed, labels)
    assert wide.mean == narrow.mean == 0.5
    assert wide.high - wide.low > 0.4 and narrow.high == narrow.low == 0.5


def test_a_single_class_says_nothing_of_others() -> None:
    mean, low, high = interval_over_classes(np.array([0.0, 1.0]), np.array([3, 3]))
    assert mean == 0.5 and np.isnan(low) and np.isnan(high)


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(40), 5)
    held = 0
    for _ in range(100):
        values = np.repeat(generator.random(40), 5)
        _, low, high = interval_over_classes(values, labels)
        held += low <= 0.5 <= high
    assert 88 <= held <= 99
