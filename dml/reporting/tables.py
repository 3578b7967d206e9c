"""Comparisons as tables: for the terminal, and as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dml.errors import InputError, MissingFileError
from dml.reporting.comparison import Comparison, Figure, Row
from dml.reporting.statistics import Estimate, percent
from dml.retrieval import metric as metric_of

__all__ = ["FORMATS", "csv_table", "latex_tables", "markdown_tables", "table_paths", "terminal_tables"]

TITLES = {
    "test": "test classes, in %",
    "separated": "separated: mean over the models of the folds, in %",
    "concatenated": "concatenated: joint embedding of the folds, in %",
    "val": "validation classes, in %: to decide by",
    "best on test": "best on test: chosen by the test classes, as the literature does, in %",
}
COLUMNS = 80  # of a terminal
GAP = 2  # between the columns of a table
NAMED = 5  # departures from a published setting
CSV_COLUMNS = (
    "reading",
    "setting",
    "seeds",
    "metric",
    "mean",
    "half_width",
    "difference",
    "difference_half_width",
    "paired_seeds",
    "published",
    "source",
)


def terminal_tables(comparisons: Sequence[Comparison], notes: Sequence[str] = ()) -> list[Table | str]:
    """One table for each comparison, then what its numbered rows are, the sources and the notes.

    A table that would be wider than 80 columns with the names of its rows has numbers for them.
    """
    shown = [part for comparison in comparisons for part in _terminal_table(comparison, comparisons)]
    return [*shown, *_remarks(comparisons, notes)]


def markdown_tables(comparisons: Sequence[Comparison], notes: Sequence[str] = ()) -> str:
    """The tables, each under its title unless there is only that of the test classes."""
    titled = [comparison.reading for comparison in comparisons] != ["test"]
    blocks = []
    for comparison in comparisons:
        header, *body = _cells(comparison, comparisons)
        rule = ["---"] + ["---:"] * (len(header) - 1)
        table = "".join(f"| {' | '.join(map(_markdown, row))} |\n" for row in (header, rule, *body))
        blocks.append(f"{TITLES[comparison.reading].capitalize()}:\n\n{table}" if titled else table)
    remarks = "".join(f"- {remark}\n" for remark in _remarks(comparisons, notes))
    return "\n".join([*blocks, remarks] if remarks else blocks)


def latex_tables(comparisons: Sequence[Comparison], notes: Sequence[str] = ()) -> str:
    """A table environment for each comparison, for a document with ``\\usepackage{booktabs}``."""
    remarks = [_latex(remark) for remark in _remarks(comparisons, notes)]
    blocks = []
    for comparison in comparisons:
        header, *body = (" & ".join(map(_latex, row)) + r" \\" for row in _cells(comparison, comparisons))
        columns = "l" + "r" * header.count("&")
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_latex(TITLES[comparison.reading].capitalize())}}}",
            rf"  \begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            f"    {header}",
            r"    \midrule",
            *(f"    {row}" for row in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(rf"  \par\footnotesize {remark}" for remark in remarks),
            r"\end{table}",
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def csv_table(comparisons: Sequence[Comparison], notes: Sequence[str] = ()) -> str:
    """One line for each reading, setting and metric, in per cent or as a count, with all digits; no notes."""
    del notes
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for comparison in comparisons:
        for row in comparison.rows:
            for metric, figure in row.figures.items():
                start = (comparison.reading, row.label, row.seeds, metric)
                writer.writerow([*start, *_numbers(figure, metric_of(metric).scale)])
    return buffer.getvalue()


FORMATS: Mapping[str, Callable[[Sequence[Comparison], Sequence[str]], str]] = {
    ".md": markdown_tables,
    ".csv": csv_table,
    ".tex": latex_tables,
}


def table_paths(output: str) -> list[Path]:
    """The file to write, or one for each format if the name has no ending.

    Raises:
        InputError: an ending that is no format.
        MissingFileError: there is no such folder.
    """
    path = Path(output)
    if not path.parent.is_dir():
        raise MissingFileError(
            f"output={output}: there is no folder {path.parent}; make it, or choose another"
        )
    if not path.suffix:
        return [path.with_suffix(suffix) for suffix in FORMATS]
    if path.suffix not in FORMATS:
        raise InputError(
            f"output={output}: the ending {path.suffix} is no format; accepted: {', '.join(FORMATS)}, or none for all"
        )
    return [path]


def _terminal_table(comparison: Comparison, comparisons: Sequence[Comparison]) -> list[Table | str]:
    header, *body = _cells(comparison, comparisons)
    names: list[Table | str] = []
    if _width([header, *body]) > COLUMNS:
        names = [f"{number}  {row[0]}" for number, row in enumerate(body, start=1)]
        header, body = (
            ["", *header[1:]],
            [[str(number), *row[1:]] for number, row in enumerate(body, start=1)],
        )
    table = Table(
        *header,
        title=TITLES[comparison.reading],
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify = "right"
    for row in body:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return [table, *names]


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Columns of the terminal that a table takes with every cell in one line."""
    return sum(GAP + max(map(len, cells)) for cells in zip(*rows, strict=True))


def _cells(comparison: Comparison, comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Header and rows as text; columns that would be empty are left out."""
    sources = _sources(comparisons)
    known = {metric for row in comparison.rows for metric, figure in row.figures.items() if figure.published}
    header = ["setting", "seeds"]
    for metric in comparison.metrics:
        name = f"{metric} ({metric_of(metric).kind})" if metric_of(metric).kind != "share" else metric
        header += [name, f"Δ {metric}"] if comparison.baselines else [name]
        header += [f"published {metric}"] * (metric in known)
    return [header, *(_row_cells(row, comparison, known, sources) for row in comparison.rows)]


def _row_cells(row: Row, comparison: Comparison, known: set[str], sources: Sequence[str]) -> list[str]:
    cells = [row.label, str(row.seeds)]
    for metric in comparison.metrics:
        figure, scale = row.figures[metric], metric_of(metric).scale
        cells.append(percent(figure.ours, scale=scale))
        if comparison.baselines:
            difference = figure.difference
            cells.append(
                f"{percent(difference, signed=True, scale=scale)} ({difference.count})" if difference else ""
            )
        if metric in known:
            theirs = figure.published
            cells.append(f"{100 * theirs.value:.2f} [{1 + sources.index(theirs.source)}]" if theirs else "")
    return cells


def _sources(comparisons: Sequence[Comparison]) -> list[str]:
    figures = (f for part in comparisons for row in part.rows for f in row.figures.values())
    return list(dict.fromkeys(figure.published.source for figure in figures if figure.published))


def _remarks(comparisons: Sequence[Comparison], notes: Sequence[str]) -> list[str]:
    compared = {pair: None for part in comparisons for pair in part.baselines.items()}
    others = list(dict.fromkeys(baseline for _, baseline in compared))
    which = (
        f"to {others[0]}" if len(others) == 1 else ", ".join(f"{row} to {other}" for row, other in compared)
    )
    pairs = [f"Δ: {which}; over paired seeds, their number in brackets"] if compared else []
    sources = [f"[{1 + i}] {source}" for i, source in enumerate(_sources(comparisons))]
    return [*pairs, *sources, *_departures(comparisons), *notes]


def _departures(comparisons: Sequence[Comparison]) -> list[str]:
    """A sentence for each row that a publication has with other settings, and so stands alone here."""
    rows = {row.label: row.departures for part in comparisons for row in part.rows if row.departures}
    return [
        f"no published figures beside {label}, whose settings differ from the published ones (in brackets) by "
        + ", ".join(found[:NAMED])
        + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
        for label, found in rows.items()
    ]


def _numbers(figure: Figure, scale: float) -> list[object]:
    difference, theirs = figure.difference, figure.published
    return [
        *_pair(figure.ours, scale),
        *(_pair(difference, scale) if difference else ("", "")),
        difference.count if difference else "",
        100 * theirs.value if theirs else "",
        theirs.source if theirs else "",
    ]


def _pair(value: Estimate, scale: float) -> tuple[object, object]:
    return scale * value.mean, "" if math.isnan(value.half_width) else scale * value.half_width


def _markdown(cell: str) -> str:
    return cell.replace("|", r"\|")


def _latex(text: str) -> str:
    """Text for LaTeX: its special characters escaped, signs as mathematics."""
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    names |= {character: f"\\{character}" for character in "&%$#_{}"}
    names |= {"±": r"$\pm$", "Δ": r"$\Delta$"}
    escaped = "".join(names.get(character, character) for character in text)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
