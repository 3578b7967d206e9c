import numpy as np

from dml.data import Records


def test_selecting_classes_counts_labels_anew_and_keeps_images_with_them() -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), dtype=np.uint8)
    labels = np.array([2, 0, 1, 2, 1, 0])
    records = Records(images, np.arange(6), labels, ("a", "b", "c"), tuple("012345"))
    chosen = records.select_classes(["c", "a"])
    assert chosen.class_names == ("a", "c")
    assert chosen.labels.tolist() == [1, 0, 1, 0]
    assert chosen.files == ("0", "1", "3", "5")
    assert [int(chosen.image(i)[0, 0, 0]) for i in range(4)] == [0, 1, 3, 5]


def test_the_roles_of_images_go_with_them() -> None:
    labels, is_query = np.array([0, 1, 0, 1]), np.array([True, False, False, True])
    images = np.zeros((4, 2, 2, 3), dtype=np.uint8)
    records = Records(images, np.arange(4), labels, ("a", "b"), tuple("0123"), is_query)
    chosen = records.select_classes(["b"])
    assert chosen.is_query is not None and chosen.is_query.tolist() == [False, True]
