import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dml.data import Records, TrainTest, conventional, everything, holdout, mlrc
from dml.data.protocols import hashed_half


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


@pytest.mark.parametrize(
    ("classes", "edges"),
    [(100, [0, 25, 50, 75, 100]), (98, [0, 24, 49, 73, 98]), (11318, [0, 2829, 5659, 8488, 11318])],
)
def test_the_folds_of_the_benchmarks_end_where_published(classes: int, edges: list[int]) -> None:
    everything = data(classes)
    for fold in range(4):
        held_out = mlrc(everything, folds=4, fold=fold).val.class_names
        assert list(held_out) == [f"train{i}" for i in range(edges[fold], edges[fold + 1])]


@settings(deadline=None)  # of a busy machine, not of the code
@given(classes=st.integers(8, 60), folds=st.integers(2, 4))
def test_every_class_is_held_out_by_exactly_one_fold(classes: int, folds: int) -> None:
    splits = [mlrc(data(classes), folds=folds, fold=fold) for fold in range(folds)]
    held_out = [name for split in splits for name in split.val.class_names]
    assert sorted(held_out) == sorted(data(classes).train.class_names)
    for split in splits:
        assert not set(split.train.class_names) & set(split.val.class_names)
        assert split.train.num_classes + split.val.num_classes == classes
        assert split.test.class_names == data().test.class_names and split.val_chooses


@pytest.mark.parametrize("fold", [-1, 4])
def test_a_fold_beyond_k_is_refused_with_those_that_exist(fold: int) -> None:
    with pytest.raises(
        ValueError, match=rf"protocol.fold={fold} does not exist: 4 folds are numbered 0 to 3"
    ):
        mlrc(data(), folds=4, fold=fold)


@pytest.mark.parametrize("folds", [0, 1])
def test_a_single_fold_is_refused(folds: int) -> None:
    with pytest.raises(ValueError, match=rf"protocol.folds={folds}: give at least 2"):
        mlrc(data(), folds=folds, fold=0)


def test_more_folds_than_the_classes_can_fill_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"validation set would have 1 .*20 train classes in 15 folds.*fewer"
    ):
        mlrc(data(), folds=15, fold=0)


def test_the_conventional_protocol_trains_on_all_train_classes_and_chooses_by_none() -> None:
    splits = conventional(data(), report_best_on_test=False)
    assert splits.train.class_names == splits.val.class_names == data().train.class_names
    assert splits.test.class_names == data().test.class_names
    assert (splits.val_chooses, splits.val_name, splits.follow_test) == (False, "train", False)


@pytest.mark.parametrize(("train", "test", "role"), [(1, 5, "training"), (20, 1, "test")])
def test_the_conventional_protocol_needs_two_classes_on_both_sides(train: int, test: int, role: str) -> None:
    with pytest.raises(ValueError, match=rf"the {role} set has 1 classes"):
        conventional(data(train, test), report_best_on_test=False)


def test_the_half_of_a_class_depends_on_its_name_alone() -> None:
    # First bytes of SHA-256: 0x3a for "apple", 0x97 for "pear" (sha256sum).
    assert [hashed_half("apple"), hashed_half("pear")] == ["train", "test"]


def test_a_final_model_trains_on_every_image_under_its_own_name() -> None:
    store = np.arange(12, dtype=np.uint8).reshape(6, 1, 1, 2)
    halves = [
        Records(store, np.array(rows), np.array(labels), names, files, roles)
        for rows, labels, names, files, roles in (
            ([4, 0, 1], [1, 0, 0], ("ash", "elm"), ("e", "a", "b"), None),
            ([2, 3], [0, 0], ("oak",), ("c", "d"), np.array([True, False])),
        )
    ]
    splits = everything(TrainTest(*halves), run="runs/chosen")
    names = [splits.train.class_names[label] for label in splits.train.labels]
    assert names == ["elm", "ash", "ash", "oak", "oak"] and splits.train.files == ("e", "a", "b", "c", "d")
    assert [int(splits.train.image(i)[0, 0, 0]) for i in range(5)] == [8, 0, 2, 4, 6]
    assert splits.test is None and not splits.val_chooses and splits.train.is_query is None
    assert splits.measured == {"train": splits.train}


def test_sets_of_two_stores_have_no_set_of_all() -> None:
    with pytest.raises(ValueError, match=r"protocol=all: .*protocol=conventional"):
        everything(data(), run="runs/chosen")
