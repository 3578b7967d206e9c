"""Which columns of a table hold images, classes and splits, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dml.data.annotations import first_few
from dml.errors import InputError

__all__ = ["image_column", "label_column", "labels", "split_column"]

USUAL = ("label", "class", "class_name", "cls", "category")
Test = Callable[[str, Any], bool]


def image_column(features: Mapping[str, Any], chosen: str | None) -> str:
    """The column of images: the only one, or the one that was chosen, which may be plain bytes.

    Raises:
        InputError: there is none, several, or the one that was chosen holds no images.
    """
    return _column("image", features, chosen, _is_image, lambda _, feature: _type(feature) in BYTES)


def label_column(features: Mapping[str, Any], chosen: str | None) -> str:
    """The column of classes: the only one of class labels, else the only one with a usual name.

    Raises:
        InputError: as image_column.
    """
    if chosen is None and not any(_type(feature) == "ClassLabel" for feature in features.values()):
        return _column("label", features, None, lambda name, feature: name in USUAL and _is_name(feature))
    return _column(
        "label", features, chosen, lambda _, feature: _type(feature) == "ClassLabel", lambda _, f: _is_name(f)
    )


def split_column(features: Mapping[str, Any], split: str) -> str | None:
    """The column that says train or test: the one that split names, or for "given" one that is called split.

    Raises:
        InputError: split is neither given nor hash nor a column.
    """
    if split in ("given", "hash"):
        return "split" if split == "given" and _is_name(features.get("split")) else None
    if not _is_name(features.get(split)):
        raise InputError(
            f"dataset.split={split}; accepted: given, hash, or a column of names; the columns are {_shown(features)}"
        )
    return split


def labels(table: Any, column: str, place: str) -> list[str]:
    """The names in a column, one a row.

    Raises:
        InputError: some are missing, empty or no names.
    """
    feature, values = table.features[column], table.select_columns([column])[:][column]
    names = getattr(feature, "names", None)
    if names is None:
        found = ["" if value is None else str(value).strip() for value in values]
    else:
        found = ["" if value is None or value < 0 else str(names[value]).strip() for value in values]
    if missing := [str(row) for row, name in enumerate(found) if not name]:
        raise InputError(
            f"{place}: {len(missing):,} of {len(found):,} rows have no {column}, {first_few(missing)}: remove them, or "
            "choose another column; test sets of closed competitions have none"
        )
    return found


BYTES = ("binary", "large_binary")
NAMES = (
    "string",
    "large_string",
    "string_view",
    *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)),
)


def _is_image(_: str, feature: Any) -> bool:
    """An image, or what it is without the library's metadata."""
    return _type(feature) == "Image" or (isinstance(feature, dict) and _type(feature.get("bytes")) in BYTES)


def _is_name(feature: Any) -> bool:
    return _type(feature) in ("ClassLabel", *NAMES)


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__


def _column(
    what: str, features: Mapping[str, Any], chosen: str | None, fits: Test, fits_too: Test | None = None
) -> str:
    if chosen is not None:
        feature = features.get(chosen)
        if fits(chosen, feature) or (fits_too is not None and fits_too(chosen, feature)):
            return chosen
        raise InputError(
            f"dataset.{what}={chosen} is no column that can be the {what}; the columns are {_shown(features)}"
        )
    found = [name for name, feature in features.items() if fits(name, feature)]
    if len(found) != 1:
        said = (
            f"{len(found)} columns may be the {what}: {', '.join(found)}"
            if found
            else f"no column can be the {what}"
        )
        raise InputError(f"{said}: name it by dataset.{what}=COLUMN; the columns are {_shown(features)}")
    return found[0]


def _shown(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_type(feature)})" for name, feature in features.items())
