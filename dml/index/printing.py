"""What people and programs read of an index and of its answers."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from dml.index.approximate import Recall
from dml.index.calibration import Calibration
from dml.index.calibration_file import CalibrationRecord
from dml.index.duplicates import Duplicates
from dml.index.index import Hit, Index
from dml.index.intake import Changes
from dml.index.leaks import Leak, Leaks
from dml.index.pages import Card, Row, write_page
from dml.reporting.terminal import metrics_table

__all__ = [
    "Answer",
    "answers_as_dict",
    "as_json",
    "calibration_as_json",
    "duplicates_as_json",
    "how_exact",
    "print_answers",
    "print_calibration",
    "print_changes",
    "print_csv",
    "print_duplicates",
    "print_leak_table",
    "print_leaks",
    "print_pairs",
    "print_unreadable",
    "print_without_leaks",
    "short",
    "write_answers",
    "write_duplicates",
]


MOST_LEAKS = 20  # that are printed where no table was asked for


@dataclass(frozen=True)
class Answer:
    """A query and what was found for it."""

    query: str
    hits: Sequence[Hit]

    @property
    def match(self) -> bool | None:
        """Whether the first one is a match; None without a threshold."""
        return self.hits[0].match if self.hits else False


def short(path: str) -> str:
    """A path as one would type it here."""
    below = os.path.relpath(path)
    return path if below.startswith("..") else below


def print_changes(folder: str, changes: Changes) -> None:
    """What became of the images of an index, in a few lines."""
    for line in changes.left_out:
        print(f"left out in {line}")
    numbers = {
        "added": changes.added,
        "changed": changes.changed,
        "copies of others": changes.copied,
        "moved": changes.moved,
        "unchanged": changes.unchanged,
        "left out that were removed (`dml index add` takes them back)": changes.removed,
    }
    said = ", ".join(f"{count:,} {what}" for what, count in numbers.items() if count) or "nothing new"
    embedded = changes.added + changes.changed
    speed = f", {embedded / changes.seconds:,.0f} images a second" if embedded and changes.seconds else ""
    print(f"{folder}: {changes.items:,} images; {said}{speed}")
    if changes.recall is not None:
        print(f"approximate search: {_found(Recall(**changes.recall))}")
    print_unreadable(changes.unreadable)


def print_unreadable(unreadable: Mapping[str, str]) -> None:
    """Name on the error stream what could not be read."""
    if unreadable:
        lines = [f"  {short(path)}: {_reason(path, reason)}" for path, reason in sorted(unreadable.items())]
        sys.stderr.write("\n".join([f"{len(unreadable):,} files could not be read:", *lines, ""]))


def _reason(path: str, reason: str) -> str:
    """A reason without the path that it may begin with."""
    return reason.removeprefix(f"{path} ")


def how_exact(index: Index, calibration: CalibrationRecord | None) -> list[str]:
    """In sentences: how exact an answer is, and what a match means."""
    recall = index.recall
    lines = [
        f"{'approximate' if recall else 'exact'} search of {len(index):,} images, model {index.store.info.model}"
    ]
    if recall is not None:
        lines.append(f"{_found(recall)}; --exact finds all")
    if calibration is not None:
        lines.append(
            f"a match is {calibration.threshold:.4f} or more (95 % interval {calibration.low:.4f} .. "
            f"{calibration.high:.4f}): {calibration.aim.replace('_', ' ')} {calibration.asked:g} where "
            f"1 of {1 / calibration.prevalence:,.0f} pairs is right, recall {calibration.recall:.1%}"
        )
    return lines


def _found(recall: Recall) -> str:
    return f"recall@10 {recall.recall:.1%} on {recall.queries:,} held-out images"


def print_answers(index: Index, answers: Sequence[Answer], *, match: bool) -> None:
    """For each query, with what it is compared by and what was found; with ``match``, whether there is one."""
    for line in how_exact(index, index.calibration):
        print(line)
    for answer in answers:
        verdict = (": match" if answer.match else ": none") if match else ""
        print(f"\n{answer.query}{verdict}")
        for hit in answer.hits:
            mark = {True: "match", False: "", None: ""}[hit.match]
            label = "" if hit.label is None else hit.label
            print(f"  {hit.score:7.4f}  {short(hit.path)}  {label}  {mark}".rstrip())


def print_calibration(run: str, calibration: Calibration) -> None:
    """The threshold, what it promises and for what, and those for catalogues of other sizes."""
    record = calibration.record
    print(
        f"{run}: a match is {record.threshold:.4f} or more; 95 % interval {record.low:.4f} .. {record.high:.4f}"
    )
    print(
        f"precision {record.precision:.1%} where 1 of {1 / record.prevalence:,.0f} pairs is right, recall "
        f"{record.recall:.1%}, false-match rate {record.false_match_rate:.3%}"
    )
    print(
        f"from {record.classes:,} validation classes, {record.images:,} images, {record.pairs:,} pairs; OPIS "
        f"{record.opis:.2g}"
    )
    print(
        f"\n{record.aim.replace('_', ' ')} {record.asked:g} for one query against a catalogue with one right item:"
    )
    for size, found in calibration.catalogues.items():
        said = (
            "not to be had, or too few wrong pairs to tell"
            if found is None
            else f"{found[0]:.4f}, recall {found[1]:.1%}"
        )
        print(f"  {size:>7,} items  {said}")


def calibration_as_json(calibration: Calibration) -> str:
    """The same for programs."""
    catalogues = [
        {
            "catalogue": size,
            "threshold": None if found is None else found[0],
            "recall": None if found is None else found[1],
        }
        for size, found in calibration.catalogues.items()
    ]
    return json.dumps({**asdict(calibration.record), "catalogues": catalogues}, indent=2)


def print_duplicates(found: Duplicates) -> None:
    """The groups, a path in each line."""
    count = sum(len(group) for group in found.groups)
    print(
        f"{len(found.groups):,} groups of {count:,} images; each pair of a group is {found.above:.4f} or more alike"
    )
    for group in found.groups:
        print("\n" + "\n".join(short(item.path) for item in group))


def duplicates_as_json(found: Duplicates) -> str:
    """The same for programs."""
    return json.dumps(
        {"above": found.above, "groups": [[item.path for item in group] for group in found.groups]}, indent=2
    )


def print_pairs(found: Duplicates) -> None:
    """Pairs that are alike, in a table to go on with."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["path", "other", "similarity"])
    for one, other, score in found.pairs:
        writer.writerow([one.path, other.path, repr(score)])


def write_duplicates(path: str, found: Duplicates) -> None:
    """A page with a group in each row."""
    rows = [
        Row(f"{len(group)} images", [Card(item.path, f"{item.width} × {item.height}") for item in group])
        for group in found.groups
    ]
    notes = [f"each pair of a group is {found.above:.4f} or more alike"]
    write_page(path, title="Duplicates", notes=notes, rows=rows)


def print_leaks(found: Leaks) -> None:
    """How many pairs lie across two parts, and the most similar ones."""
    sizes = ", ".join(f"{size:,} {name}" for name, size in found.sizes.items())
    print(f"{len(found.pairs):,} pairs across parts are {found.above:.4f} or more alike, of {sizes} images")
    for leak in found.pairs[:MOST_LEAKS]:
        print(f"  {leak.similarity:.4f}  {leak.part} {leak.file}  {leak.other_part} {leak.other_file}")
    if len(found.pairs) > MOST_LEAKS:
        print(f"  ... and {len(found.pairs) - MOST_LEAKS:,} more: --csv lists all")


def print_without_leaks(found: Leaks, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """The metrics without images that leaked, and how many those are."""
    Console().print(metrics_table(metrics))
    said = ", ".join(f"{len(found.leaked(name)):,} of {found.sizes[name]:,} {name}" for name in metrics)
    print(
        f"without near-duplicates of parts before, {found.above:.4f} or more and alike in pixels: {said} images"
    )


def print_leak_table(found: Leaks) -> None:
    """All pairs, in a table to go on with."""
    writer = csv.writer(sys.stdout)
    writer.writerow(Leak._fields)
    writer.writerows(found.pairs)


def as_json(index: Index, answers: Sequence[Answer], unreadable: Mapping[str, str]) -> str:
    """The same for programs."""
    return json.dumps({**answers_as_dict(index, answers), "unreadable": dict(unreadable)}, indent=2)


def answers_as_dict(index: Index, answers: Sequence[Answer]) -> dict[str, Any]:
    """The same as plain values, by the names that programs rely on."""
    calibration = index.calibration
    return {
        "exact": index.recall is None,
        **({} if index.recall is None else {"recall": asdict(index.recall)}),
        "model": index.store.info.model,
        "items": len(index),
        "threshold": None if calibration is None else calibration.threshold,
        "queries": [
            {"query": answer.query, "match": answer.match, "hits": [_as_dict(hit) for hit in answer.hits]}
            for answer in answers
        ],
    }


def _as_dict(hit: Hit) -> dict[str, Any]:
    return {
        "path": hit.path,
        "score": hit.score,
        "label": hit.label,
        "match": hit.match,
        "item": hit.item,
        "columns": dict(hit.columns),
    }


def print_csv(answers: Sequence[Answer]) -> None:
    """A line for each image that was found."""
    writer = csv.writer(sys.stdout)
    writer.writerow(["query", "rank", "path", "score", "label", "match"])
    for answer in answers:
        for rank, hit in enumerate(answer.hits, start=1):
            writer.writerow([answer.query, rank, hit.path, repr(hit.score), hit.label, hit.match])


def write_answers(path: str, index: Index, answers: Sequence[Answer]) -> None:
    """A page with the query and what was found for it in each row."""
    rows = [
        Row(answer.query, [Card(os.path.abspath(answer.query), "query"), *map(_card, answer.hits)])
        for answer in answers
    ]
    write_page(path, title="Most similar images", notes=how_exact(index, index.calibration), rows=rows)


def _card(hit: Hit) -> Card:
    verdict = {True: " match", False: " no match", None: ""}[hit.match]
    label = "" if hit.label is None else f" {hit.label}"
    return Card(
        hit.path, f"{hit.score:.4f}{verdict}{label}", {True: "match", False: "other", None: ""}[hit.match]
    )
