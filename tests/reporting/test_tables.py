from pathlib import Path

import pytest
from rich.console import Console

from dml.reporting import comparison_rows, find_runs, group_by_setting, markdown_table, terminal_table

GAP = "pooling=GlobalAveragePooling"


def test_the_table_shows_means_intervals_and_differences(runs: Path) -> None:
    rows = comparison_rows(group_by_setting(find_runs(f"{runs}/**")[0]), ["recall@1"], GAP)
    assert rows[0] == ["setting", "seeds", "recall@1", "Δ recall@1"]
    assert rows[1] == [GAP, "3", "40.00 ± 24.84", ""]
    assert rows[2][3].startswith("+20.00 ± ")
    assert markdown_table(rows).splitlines()[1] == "| --- | ---: | ---: | ---: |"


@pytest.mark.parametrize(
    ("metric", "baseline", "message"), [("recall@3", None, "accepted: recall@1"), ("map@r", "x", "fits 0")]
)
def test_an_unknown_metric_or_baseline_is_refused(
    runs: Path, metric: str, baseline: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        comparison_rows(group_by_setting(find_runs(f"{runs}/**")[0]), [metric], baseline)


def test_the_terminal_shows_the_same_cells() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(terminal_table([["setting", "seeds"], ["gap", "3"]]))
    assert "setting" in captured.get() and "gap" in captured.get()
