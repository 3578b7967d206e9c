from pathlib import Path

import pytest

from dml.reporting import print_tables, report_runs


def test_a_pattern_becomes_tables_notes_and_files(
    folds: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    (folds / "seed1" / "fold2" / "metrics.json").unlink()
    tables, notes = report_runs([f"{folds}/**"], ["recall@1"])
    print_tables(tables, notes, [folds / "t.md", folds / "t.csv", folds / "t.tex"])
    printed = capsys.readouterr().out
    written = (folds / "t.md").read_text()
    for text in (
        "eparated: mean",
        "oncatenated: joint",
        f"resume={folds / 'seed1' / 'fold2'}",
        "lacks fold 2",
    ):
        assert text in printed and text in written
    assert len((folds / "t.csv").read_text().splitlines()) == 3
    assert (folds / "t.tex").read_text().count(r"\begin{table}") == 2


def test_a_folder_where_nothing_is_finished_is_refused_with_how_to_go_on(folds: Path) -> None:
    for path in folds.rglob("metrics.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"can be reported yet:\n.*resume="):
        report_runs([f"{folds}/**"], ["recall@1"])


def test_an_ensemble_without_all_its_folds_is_no_row(folds: Path) -> None:
    with pytest.raises(ValueError, match=r"seed 0 of .*lacks fold 1, 2"):
        report_runs([f"{folds}/seed0/fold0"], ["recall@1"])
