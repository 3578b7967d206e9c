import shutil
from pathlib import Path

import numpy as np
import pytest

from dml.reporting import concatenated_metrics, find_runs, group_by_setting, separated_metrics


def slow_recall_at_1(vectors: np.ndarray, labels: np.ndarray, queries: range, gallery: range) -> float:
    found = []
    for i in queries:
        others = [j for j in gallery if j != i]
        cosines = [vectors[i] @ vectors[j] for j in others]
        found.append(labels[others[int(np.argmax(cosines))]] == labels[i])
    return float(np.mean(found))


def joint_embedding(folders: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Image by image, in float64."""
    stored = [np.load(folder / "test_embeddings.npz") for folder in folders]
    rows = []
    for i in range(20):
        parts = [part["vectors"][i].astype(np.float64) for part in stored]
        row = np.concatenate([part / np.linalg.norm(part) for part in parts])
        rows.append(row / np.linalg.norm(row))
    return np.array(rows), stored[0]["labels"]


def fold_folders(folds: Path) -> list[Path]:
    return [folds / "seed0" / f"fold{fold}" for fold in range(3)]


def test_the_concatenated_figure_is_that_of_the_embeddings_side_by_side(folds: Path) -> None:
    folders = fold_folders(folds)
    metrics = concatenated_metrics(folders, metrics=["recall@1", "recall@2", "map@r"])
    assert list(metrics)[:3] == ["recall@1", "recall@2", "r_precision"]
    assert metrics["recall@1"] == slow_recall_at_1(*joint_embedding(folders), range(20), range(20))


def test_the_length_of_an_embedding_gives_a_model_no_more_say(folds: Path) -> None:
    folders = fold_folders(folds)
    before = dict(concatenated_metrics(folders, metrics=["recall@1"]))
    with np.load(folders[0] / "test_embeddings.npz") as stored:
        changed = {**stored, "vectors": 50 * stored["vectors"]}
    np.savez(folders[0] / "test_embeddings.npz", **changed)
    assert dict(concatenated_metrics(folders, metrics=["recall@1"])) == pytest.approx(before)


def test_an_ensemble_of_one_model_is_that_model(folds: Path) -> None:
    (run, *_) = find_runs(f"{folds}/**")[0]
    assert dict(concatenated_metrics([run.folder], metrics=run.metrics["test"])) == run.metrics["test"]


def test_queries_search_the_gallery_where_these_are_two_sets(folds: Path) -> None:
    folders = fold_folders(folds)
    is_query = np.arange(20) % 4 < 2
    for folder in folders:
        with np.load(folder / "test_embeddings.npz") as stored:
            changed = {**stored, "is_query": is_query, "is_gallery": ~is_query}
        np.savez(folder / "test_embeddings.npz", **changed)
    metrics = concatenated_metrics(folders, metrics=["recall@1"])
    queries, gallery = (np.flatnonzero(mask).tolist() for mask in (is_query, ~is_query))
    assert (metrics["queries"], metrics["gallery"]) == (10, 10)
    assert metrics["recall@1"] == slow_recall_at_1(*joint_embedding(folders), queries, gallery)


def test_the_separated_figure_is_the_mean_of_the_models(folds: Path) -> None:
    assert separated_metrics([{"map@r": 0.2}, {"map@r": 0.6}]) == {"map@r": pytest.approx(0.4)}
    setting = group_by_setting(find_runs(f"{folds}/**")[0])[0]
    for seed, runs in setting.runs.items():
        mean = sum(run.metrics["test"]["map@r"] for run in runs) / 3
        assert setting.values("map@r", "separated")[seed] == pytest.approx(mean)


def test_folds_of_different_images_are_not_joined(folds: Path) -> None:
    folders = fold_folders(folds)
    with np.load(folders[1] / "test_embeddings.npz") as stored:
        changed = {**stored, "files": stored["files"][::-1]}
    np.savez(folders[1] / "test_embeddings.npz", **changed)
    with pytest.raises(ValueError, match=r"fold0 and .*fold1 were tested on different images"):
        concatenated_metrics(folders, metrics=["recall@1"])


def test_missing_embeddings_are_named(folds: Path) -> None:
    shutil.move(folds / "seed0" / "fold2" / "test_embeddings.npz", folds)
    with pytest.raises(FileNotFoundError, match=r"fold2/test_embeddings\.npz is missing"):
        concatenated_metrics(fold_folders(folds), metrics=["recall@1"])
