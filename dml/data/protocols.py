"""Which classes train, which choose the checkpoint, and which are reported on."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from dml.data.class_names import composed
from dml.data.records import Records, Splits, TrainTest
from dml.errors import InputError

__all__ = ["conventional", "everything", "hashed_half", "holdout", "mlrc"]


def holdout(data: TrainTest, *, fraction: float) -> Splits:
    """Hold out a part of the *train classes* for validation; the test classes are left alone.

    The classes held out are those with the smallest hashes of their names, so the choice depends neither on
    the seed nor on the order of files.

    Raises:
        InputError: the fraction is not inside (0, 1), or leaves one of the sets without two classes.
    """
    if not 0 < fraction < 1:
        raise InputError(
            f"protocol.fraction={fraction} must lie inside (0, 1): the share of train classes held out"
        )
    names = sorted(data.train.class_names, key=_hash)
    count = round(len(names) * fraction)
    return _splits(data, names[:count], f"at protocol.fraction={fraction}", "change protocol.fraction")


def mlrc(data: TrainTest, *, folds: int, fold: int) -> Splits:
    """Hold out one of k blocks of the train classes, in the order of the data set; each fold has its own model.

    The blocks end at linspace(0, classes, folds + 1), cut to integers.

    Raises:
        InputError: a fold that does not exist, fewer than two folds, or sets without two classes each.
    Source: Musgrave, Belongie and Lim, A Metric Learning Reality Check, ECCV 2020.
    """
    if folds < 2:
        raise InputError(
            f"protocol.folds={folds}: give at least 2, so that classes are left to train on; published with 4"
        )
    if not 0 <= fold < folds:
        raise InputError(
            f"protocol.fold={fold} does not exist: {folds} folds are numbered 0 to {folds - 1}; "
            "give one of them, or change protocol.folds"
        )
    names = data.train.class_names
    edges = np.linspace(0, len(names), folds + 1).astype(int)
    return _splits(
        data, names[edges[fold] : edges[fold + 1]], f"in {folds} folds", "give fewer protocol.folds"
    )


def conventional(data: TrainTest, *, report_best_on_test: bool) -> Splits:
    """Train on all train classes and report the last checkpoint: nobody is left to choose an earlier one.

    Validation looks at the training images themselves. Schedule and patience may follow it; the checkpoint that is
    reported does not.

    Args:
        report_best_on_test: follow the test classes too, for the figure that the literature reports; it is
            written as ``best_on_test`` and decides nothing.

    Raises:
        InputError: the training or the test set has fewer than two classes.
    """
    for role, records in (("training", data.train), ("test", data.test)):
        if records.num_classes < 2:
            raise InputError(
                f"the {role} set has {records.num_classes} classes, it needs at least 2: "
                "give a data set with more classes"
            )
    return Splits(data.train, data.train, data.test, val_chooses=False, follow_test=report_best_on_test)


def everything(data: TrainTest, *, run: str) -> Splits:
    """Train on all classes, for a model that is to be used: none are left to choose by or to report on.

    Validation looks at the training images themselves, and the last checkpoint is kept.

    Args:
        run: the folder of the finished run whose choices these are. configs/protocol/values/all.yaml takes the number
            of steps from it; here it is only kept in the configuration.

    Raises:
        InputError: train and test images lie in two stores, as those of the collages.
    """
    del run
    if data.train.images is not data.test.images:
        raise InputError(
            "protocol=all: the train and the test images of this data set are made apart, so there is no set of all: "
            "take protocol=conventional, which trains on all train classes"
        )
    joined = _joined(data.train, data.test)
    return Splits(joined, joined, None, val_chooses=False)


def _joined(one: Records, other: Records) -> Records:
    """Both sets, of disjoint classes and one store, as one without roles."""
    return replace(
        one,
        rows=np.concatenate([one.rows, other.rows]),
        labels=np.concatenate([one.labels, other.labels + one.num_classes]),
        class_names=one.class_names + other.class_names,
        files=one.files + other.files,
        is_query=None,
    )


def hashed_half(class_name: str) -> str:
    """The half of a class, "train" or "test": parity of the first byte of the SHA-256 of its name.

    The name counts in UTF-8 and in the normal form C of Unicode, so a class never changes sides when others come or go,
    nor when it is copied by another system.
    """
    return "test" if hashlib.sha256(composed(class_name).encode()).digest()[0] % 2 else "train"


def _splits(data: TrainTest, held_out: tuple[str, ...] | list[str], rule: str, remedy: str) -> Splits:
    names = set(data.train.class_names) - set(held_out)
    for role, chosen in (("validation", held_out), ("training", names), ("test", data.test.class_names)):
        if len(chosen) < 2:
            raise InputError(
                f"the {role} set would have {len(chosen)} classes, it needs at least 2: "
                f"{data.train.num_classes} train classes {rule}, {data.test.num_classes} test classes; "
                f"{remedy} or give a data set with more classes"
            )
    train, val = data.train.select_classes(list(names)), data.train.select_classes(list(held_out))
    return Splits(train, val, data.test)


def _hash(name: str) -> bytes:
    return hashlib.sha256(f"holdout:{composed(name)}".encode()).digest()
