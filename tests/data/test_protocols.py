import numpy as np
import pytest

from dml.data import Records, TrainTest, holdout


def records(names: list[str]) -> Records:
    labels = np.repeat(np.arange(len(names)), 2)
    images = np.zeros((len(labels), 4, 4, 3), dtype=np.uint8)
    return Records(images, np.arange(len(labels)), labels, tuple(names), tuple(map(str, labels)))


def data(train: int = 20, test: int = 5) -> TrainTest:
    return TrainTest(records([f"train{i}" for i in range(train)]), records([f"test{i}" for i in range(test)]))


def test_the_classes_of_the_three_sets_are_disjoint_and_complete() -> None:
    splits = holdout(data(), fraction=0.25)
    assert (splits.train.num_classes, splits.val.num_classes) == (15, 5)
    assert set(splits.train.class_names) | set(splits.val.class_names) == set(data().train.class_names)
    assert splits.test.class_names == data().test.class_names


def test_the_choice_depends_on_the_names_alone() -> None:
    shuffled = TrainTest(records([f"train{i}" for i in reversed(range(20))]), data().test)
    assert set(holdout(data(), fraction=0.2).val.class_names) == set(
        holdout(shuffled, fraction=0.2).val.class_names
    )


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5])
def test_a_fraction_outside_the_open_interval_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"protocol.fraction=.*inside \(0, 1\)"):
        holdout(data(), fraction=fraction)


@pytest.mark.parametrize(("train", "test", "role"), [(4, 5, "validation"), (20, 1, "test")])
def test_a_set_without_two_classes_is_refused(train: int, test: int, role: str) -> None:
    with pytest.raises(ValueError, match=rf"the {role} set would have .* at least 2"):
        holdout(data(train, test), fraction=0.2)
