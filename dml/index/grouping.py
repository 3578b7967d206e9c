"""Groups in which every pair is alike, whatever the order in which the items come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from dml.errors import InputError

__all__ = ["group_pairs"]

LARGEST = 4000  # items that hang together by chains of pairs; complete linkage compares all of them
APART = 3.0  # a distance of items that are no pair, larger than any of a pair


def group_pairs(names: Sequence[str], pairs: Mapping[tuple[int, int], float]) -> list[list[int]]:
    """Complete linkage: two groups become one only if each item of one is a pair with each of the other.

    Args:
        names: (n,) one an item, each another one; they settle ties, so that the order of the items does not matter.
        pairs: (i, j) with i < j -> similarity, for each pair that is alike.

    Returns groups of two items or more, as numbers sorted by name, the groups by their first name.

    Raises:
        InputError: so many items hang together that the pairs say nothing.
    """
    groups: list[list[int]] = []
    for component in _components(len(names), pairs):
        if len(component) > LARGEST:
            raise InputError(
                f"{len(component):,} images hang together by similar pairs, more than {LARGEST:,}: the threshold is "
                "too low to tell duplicates; give a higher one by --above"
            )
        ordered = sorted(component, key=lambda item: names[item])
        groups += _complete_linkage(ordered, pairs)
    return sorted(groups, key=lambda group: names[group[0]])


def _components(count: int, pairs: Mapping[tuple[int, int], float]) -> list[list[int]]:
    """Items that hang together by chains, two or more."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return []
    left, right = np.array(list(pairs)).T
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    components = defaultdict(list)
    for item in np.unique([left, right]).tolist():
        components[labels[item]].append(item)
    return list(components.values())


def _complete_linkage(ordered: list[int], pairs: Mapping[tuple[int, int], float]) -> list[list[int]]:
    size = len(ordered)
    distances = np.full(size * (size - 1) // 2, APART)
    place = {item: number for number, item in enumerate(ordered)}
    for i, j in ((i, j) for i in ordered for j in ordered if i < j and (i, j) in pairs):
        a, b = sorted((place[i], place[j]))
        distances[size * a - a * (a + 1) // 2 + b - a - 1] = max(
            0.0, 1 - pairs[i, j]
        )  # a product of unit vectors in float32 may be 1.0000001
    labels = fcluster(linkage(distances, "complete"), APART - 0.5, "distance")
    groups = defaultdict(list)
    for item, label in zip(ordered, labels.tolist(), strict=True):
        groups[label].append(item)
    return [group for group in groups.values() if len(group) > 1]
