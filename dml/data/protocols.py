"""Which classes train, which choose the checkpoint, and which are reported on."""

from __future__ import annotations

import hashlib

from dml.data.records import Splits, TrainTest

__all__ = ["holdout"]


def holdout(data: TrainTest, *, fraction: float) -> Splits:
    """Hold out a part of the *train classes* for validation; the test classes are left alone.

    The classes held out are those with the smallest hashes of their names, so the choice depends neither on
    the seed nor on the order of files.

    Raises:
        ValueError: the fraction is not inside (0, 1), or leaves one of the sets without two classes.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"protocol.fraction={fraction} must lie inside (0, 1): the share of train classes held out"
        )
    names = sorted(data.train.class_names, key=_hash)
    count = round(len(names) * fraction)
    val, train = names[:count], names[count:]
    for role, chosen in (("validation", val), ("training", train), ("test", data.test.class_names)):
        if len(chosen) < 2:
            raise ValueError(
                f"the {role} set would have {len(chosen)} classes, it needs at least 2: "
                f"{len(names)} train classes at protocol.fraction={fraction}, {data.test.num_classes} test classes; "
                "change protocol.fraction or give a data set with more classes"
            )
    return Splits(data.train.select_classes(train), data.train.select_classes(val), data.test)


def _hash(name: str) -> bytes:
    return hashlib.sha256(f"holdout:{name}".encode()).digest()
