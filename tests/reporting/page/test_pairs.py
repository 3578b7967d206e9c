"""Confused classes and similarities, counted by hand."""

import numpy as np
import torch

from dml.reporting.page.pairs import ConfusedPair, confused_pairs, sampled_similarities
from dml.reporting.page.plane import SIDE, chosen_images, principal_plane
from dml.reporting.queries import rank_queries


def test_a_pair_counts_the_queries_of_both_whose_nearest_is_of_the_other() -> None:
    angles = np.array([0.0, 0.1, 1.0, 1.3, 1.05, 3.0, 3.1])
    labels = np.array([0, 0, 1, 1, 2, 3, 3])
    vectors = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    ranking = rank_queries(vectors, labels, None, 2)
    assert confused_pairs(ranking, labels, 5) == [ConfusedPair(1, 2, 3, 3)]


def test_similarities_are_of_pairs_of_the_same_and_of_other_classes() -> None:
    labels = np.array([2, 0, 2, 1, 0, 2])
    vectors = np.eye(3, dtype=np.float32)[labels]
    found = sampled_similarities(vectors, labels)
    assert (found["images of one class"] == 1).all() and (found["images of two classes"] == 0).all()
    assert min(map(len, found.values())) > 1000


def test_no_image_is_paired_with_itself() -> None:
    labels = np.repeat(np.arange(3), 2)
    vectors = np.eye(6, dtype=np.float32)
    assert not sampled_similarities(vectors, labels)["images of one class"].any()


def test_the_plane_has_the_two_directions_of_largest_variance() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(50, 5)) * [0.1, 5, 0.1, 2, 0.1]).astype(np.float32)
    points = principal_plane(vectors).points
    assert points.min() >= 0 and points.max() <= SIDE
    for column, axis in ((0, 1), (1, 3)):
        assert abs(np.corrcoef(points[:, column], vectors[:, axis])[0, 1]) > 0.95


def test_images_in_the_plane_come_class_by_class_and_from_each_of_few() -> None:
    labels = np.repeat(np.arange(3), 20)
    chosen = chosen_images(labels)
    assert np.bincount(labels[chosen]).tolist() == [8, 8, 8] and len(set(chosen.tolist())) == 24
