from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dml.errors import InputError
from dml.index import calibration
from dml.index.calibration import Aim, calibrate, calibrate_pairs, opis, threshold_for
from dml.index.calibration_file import calibration_for, read_calibration, write_calibration
from dml.index.layout import IndexInfo
from dml.index.pairs import rates_at, similar_pairs, thresholds_of
from tests.index.clusters import clusters
from tests.index.test_commands import dml


def test_the_threshold_is_the_lowest_that_keeps_the_precision() -> None:
    vectors, labels = clusters(12, 5)
    pairs = similar_pairs(vectors, labels)
    exact = vectors.astype(float) @ vectors.astype(float).T
    i, j = np.triu_indices(len(labels), 1)
    scores, right = exact[i, j], labels[i] == labels[j]
    for precision in (0.6, 0.8, 0.95):
        kept = [t for t in scores[right] if right[scores >= t].mean() >= precision]
        found = threshold_for(pairs, Aim("precision", precision, right.mean()))
        assert found == pytest.approx(min(kept), abs=1e-6)
    for rate in (0.01, 0.1):
        kept = [t for t in scores[right] if (scores[~right] >= t).mean() <= rate]
        assert threshold_for(pairs, Aim("false_match_rate", rate, 0.5)) == pytest.approx(min(kept), abs=1e-6)


def test_a_class_that_counts_twice_is_as_if_it_were_there_twice() -> None:
    vectors, labels = clusters(11, 4, seed=2)
    pairs = similar_pairs(vectors, labels)
    counts = np.array([2.0, 0, 1, 1, 1, 3, 0, 1, 1, 1, 0])
    aim = Aim("precision", 0.8, 0.1)
    found = threshold_for(pairs, aim, counts)
    rates = rates_at(pairs, thresholds_of(pairs, np.array([found, np.nextafter(found, 0) - 1e-3])), counts)
    assert rates.precision(0.1)[0] >= 0.8 and math.isfinite(found)


def test_the_record_says_what_holds_and_for_which_share_of_right_pairs() -> None:
    pairs = similar_pairs(*clusters(30, 5, spread=0.6, dim=16))
    found = calibrate_pairs(pairs, fingerprint="f", precision=0.9).record
    assert found.low < found.threshold < found.high < 1 and found.precision >= 0.9
    assert found.prevalence == pytest.approx(len(pairs.same) / (len(pairs.same) + pairs.others))
    catalogue = calibrate_pairs(pairs, fingerprint="f", precision=0.9, catalogue=200).record
    assert catalogue.prevalence == 1 / 200 and catalogue.threshold > found.threshold
    assert catalogue.recall < found.recall
    rates = calibrate_pairs(pairs, fingerprint="f", false_match_rate=0.01).record
    assert rates.false_match_rate <= 0.01 and rates.aim == "false_match_rate"


def test_the_same_pairs_give_the_same_interval() -> None:
    pairs = similar_pairs(*clusters(12, 4))
    found = [calibrate_pairs(pairs, fingerprint="f", precision=0.8, replicates=50) for _ in range(2)]
    assert found[0].record == found[1].record


@pytest.mark.parametrize("dim", [8, 16])
def test_the_interval_holds_the_truth_as_often_as_it_says(dim: int) -> None:
    """Of 40 classes, the threshold of all classes of their kind; with 8 dimensions hardly a wrong pair is seen."""
    aim, grid = Aim("precision", 0.9, 0.02), np.linspace(0.3, 1, 2000)
    many = [similar_pairs(*clusters(300, 5, seed=1000 + i, spread=0.6, dim=dim)) for i in range(6)]
    rates = [rates_at(pairs, thresholds_of(pairs, grid)) for pairs in many]
    recall, wrong = (np.mean([getattr(r, name) for r in rates], axis=0) for name in ("recall", "false_match"))
    truth = grid[np.flatnonzero((wrong <= aim.most[0] * recall) & (recall > 0))[0]]
    inside, widths = 0, []
    for seed in range(20):
        pairs = similar_pairs(*clusters(40, 5, seed=seed + 1, spread=0.6, dim=dim))
        low, high = calibration._interval(pairs, aim, min(threshold_for(pairs, aim), 1.0), 100)
        inside += low <= truth <= high
        widths.append(min(high, 1.0) - low)
    assert inside >= 18 and np.mean(widths) < 0.2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "ask for a precision or for a false-match rate"),
        ({"precision": 0.9, "false_match_rate": 0.1}, "ask for a precision or for a false-match rate"),
        ({"precision": 95}, r"precision 95: give a share between 0 and 1"),
        ({"false_match_rate": 0.0}, r"false-match-rate 0\.0: give a share"),
        ({"precision": 0.9, "catalogue": 1}, r"catalogue 1: give the number of items"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        calibrate_pairs(similar_pairs(*clusters(12, 4)), fingerprint="f", **asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):  # before the classes are counted, and before a run is read
        calibrate_pairs(similar_pairs(*clusters(2, 4)), fingerprint="f", **asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        calibrate("/no/run", **asked)  # type: ignore[arg-type]


def test_too_few_classes_for_an_interval_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"has 9 classes of two images or more, .* at least 10: train on more"
    ):
        calibrate_pairs(similar_pairs(*clusters(9, 4)), fingerprint="f", precision=0.9)


def test_a_precision_that_no_similarity_reaches_is_refused_with_the_best() -> None:
    vectors, labels = clusters(12, 4)
    vectors[1] = vectors[47]  # the most similar pair is wrong
    with pytest.raises(
        InputError, match=r"no similarity has a precision of 0\.9999 where 1 of 10,000,000 pairs"
    ):
        calibrate_pairs(similar_pairs(vectors, labels), fingerprint="f", precision=0.9999, catalogue=10**7)


def test_opis_is_lower_where_classes_behave_alike() -> None:
    alike = opis(similar_pairs(*clusters(30, 6, spread=0.6, dim=32)))
    vectors, labels = clusters(30, 6, spread=0.6, dim=32)
    tight, _ = clusters(30, 6, spread=0.1, dim=32)
    vectors[: len(vectors) // 2] = tight[: len(vectors) // 2]
    assert 0 < alike < opis(similar_pairs(vectors, labels))


def test_it_is_kept_in_the_run_and_belongs_to_one_model(tmp_path: Path) -> None:
    record = calibrate_pairs(
        similar_pairs(*clusters(12, 4)), fingerprint="f", precision=0.8, replicates=20
    ).record
    assert read_calibration(tmp_path) is None
    write_calibration(tmp_path, record)
    assert read_calibration(tmp_path) == record
    info = IndexInfo(fingerprint="f", run=str(tmp_path), checkpoint="best", dimension=8)
    assert calibration_for(info, tmp_path) == record
    other = IndexInfo(fingerprint="g", run=str(tmp_path), checkpoint="best", dimension=8)
    assert calibration_for(other, tmp_path) is None
    (tmp_path / "calibration.json").write_text('{"threshold": 1}')
    with pytest.raises(InputError, match=r"calibration\.json is damaged .*: remove it, and calibrate again"):
        calibration_for(info, tmp_path)


def test_a_run_without_validation_classes_cannot_be_calibrated(compose_smoke, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from omegaconf import OmegaConf

    (tmp_path / "config.yaml").write_text(
        OmegaConf.to_yaml(compose_smoke("protocol=conventional"), resolve=True)
    )
    with pytest.raises(InputError, match=r"has no validation classes.*calibrate a run of protocol=holdout"):
        calibrate(tmp_path, precision=0.9)


def test_the_commands_calibrate_and_then_say_match_or_none(smoke_run: Path, tmp_path: Path) -> None:
    import shutil

    from tests.index.conftest import draw

    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    photos = [draw(tmp_path / "photos" / f"{number}.png", number) for number in range(5)]
    done = dml("calibrate", run, "--false-match-rate", 0.2, "--json")
    answer = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert answer["low"] <= answer["threshold"] <= answer["high"] and 0 < answer["recall"] <= 1
    assert (run / "calibration.png").stat().st_size > 5000
    assert "kept in" in dml("calibrate", run, "--false-match-rate", 0.2).stdout
    assert dml("index", "build", run, photos[0].parent, "--to", tmp_path / "index").exit_code == 0
    (hit, *_) = json.loads(dml("search", tmp_path / "index", photos[0], "--json").stdout)["queries"][0][
        "hits"
    ]
    assert hit["match"] is True
    said = dml("search", tmp_path / "index", photos[0], "--match").stdout
    assert f"a match is {answer['threshold']:.4f} or more" in said and "0.png: match" in said
    (run / "calibration.json").unlink()  # the index carries it
    assert "0.png: match" in dml("search", tmp_path / "index", photos[0], "--match").stdout
    record = {**answer, "threshold": 2.0}
    record.pop("catalogues")
    (run / "calibration.json").write_text(json.dumps(record))
    assert "0.png: none" in dml("search", tmp_path / "index", photos[0], "--match").stdout
    assert dml("calibrate", run).exit_code == 2
