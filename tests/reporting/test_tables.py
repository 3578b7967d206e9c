import csv
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from dml.reporting import (
    Comparison,
    compare,
    csv_table,
    estimate,
    find_runs,
    group_by_setting,
    latex_tables,
    markdown_tables,
    table_paths,
    terminal_tables,
)
from dml.reporting.comparison import Figure, Row
from dml.reporting.published import Published

GAP, GSP = "pooling=GlobalAveragePooling", "pooling=GeneralizedSumPooling"


def example() -> Comparison:
    """One row beside a published figure and one that lies below the baseline."""
    ours = Figure(estimate([0.5, 0.52]), None, Published(0.6, "Somebody & Others, 2020"))
    worse = Figure(estimate([0.4]), estimate([-0.1]), None)
    rows = (Row("gap", 2, {"map@r": ours}), Row("50 % {of} gsp_max ~ a|b", 1, {"map@r": worse}))
    return Comparison("separated", ("map@r",), {rows[1].label: "gap"}, rows)


def test_markdown_shows_means_intervals_differences_and_pairs(runs: Path) -> None:
    tables = compare(group_by_setting(find_runs(f"{runs}/**")[0]), ["recall@1"], {GSP: GAP})
    header, rule, gap, gsp = markdown_tables(tables).splitlines()[:4]
    assert header == "| setting | seeds | recall@1 | Δ recall@1 |" and rule == "| --- | ---: | ---: | ---: |"
    assert gap == f"| {GAP} | 3 | 40.00 ± 24.84 |  |"
    assert re.search(r"\| \+20\.00 ± 127\.06 \(2\) \|$", gsp)


def test_published_figures_stand_beside_with_their_source() -> None:
    text = markdown_tables([example()], ["unfinished, left out: runs/x"])
    assert text.startswith("Separated: mean over the models of the folds, in %:\n\n| setting")
    assert "| published map@r |" in text and "| 60.00 [1] |" in text
    assert "- [1] Somebody & Others, 2020\n- unfinished, left out: runs/x\n" in text


def test_a_cell_cannot_break_the_markdown_table() -> None:
    rows = [line for line in markdown_tables([example()]).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_latex_is_balanced_aligned_and_escaped() -> None:
    text = latex_tables([example(), example()], ["left out: 10_%"])
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 6
    columns = re.findall(r"\\begin\{tabular\}\{(l(r+))\}", text)
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body} == {len(spec) for spec, _ in columns}
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"] * 2
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"] * 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [2, 2, 2]
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0 and not re.search(r"(?<!\\)[%_#~^]", text)
    assert r"50 \% \{of\} gsp\_max \textasciitilde{} a|b" in text and r"$-$10.00 (1)" in text
    assert not {"±", "Δ"} & set(text)


def test_csv_has_a_line_per_figure_with_all_digits() -> None:
    first, second = csv.DictReader(io.StringIO(csv_table([example()])))
    assert float(first["mean"]) == pytest.approx(51) and float(first["published"]) == 60
    assert first["source"] == "Somebody & Others, 2020" and first["difference"] == ""
    assert (second["half_width"], second["paired_seeds"], second["published"]) == ("", "1", "")
    assert float(second["difference"]) == pytest.approx(-10)


def test_the_terminal_shows_the_same_cells() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        for part in terminal_tables([example()], ["a note"]):
            console.print(part, markup=not isinstance(part, str))
    for text in ("separated", "gap", "51.00 ± 12.71", "-10.00 (1)", "60.00 [1]", "[1] Somebody", "a note"):
        assert text in captured.get()


def test_a_wide_table_fits_80_columns_by_numbers_for_its_rows() -> None:
    ours = Figure(estimate([0.56, 0.57, 0.58]), estimate([-0.14, -0.15, -0.13]), None)
    rows = tuple(Row(name, 5, {"recall@1": ours, "map@r": ours}) for name in (GAP, GSP))
    console = Console(width=80)
    with console.capture() as captured:
        for part in terminal_tables([Comparison("test", ("recall@1", "map@r"), {GSP: GAP}, rows)]):
            console.print(part, soft_wrap=isinstance(part, str), highlight=False)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80 and {f"1  {GAP}", f"2  {GSP}"} <= set(lines)
    (gsp,) = (line for line in lines if line.startswith("2 ") and GSP not in line)
    assert gsp.split("  ", 1)[1].split() == ["5", *["57.00", "±", "2.48", "-14.00", "±", "2.48", "(3)"] * 2]


def test_a_name_without_an_ending_stands_for_every_format(tmp_path: Path) -> None:
    assert [path.name for path in table_paths(f"{tmp_path}/cub")] == ["cub.md", "cub.csv", "cub.tex"]
    assert table_paths(f"{tmp_path}/cub.tex") == [tmp_path / "cub.tex"]


@pytest.mark.parametrize(
    ("name", "message"), [("t.xls", r"accepted: .md, .csv, .tex"), ("no/t.md", "no folder")]
)
def test_a_place_that_cannot_be_written_is_refused_first(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        table_paths(f"{tmp_path}/{name}")
