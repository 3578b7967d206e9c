"""Requests as they come in, as what they ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from dml.errors import InputError, MissingFileError
from dml.service.catalogue import Query
from dml.service.limits import Limits, TooLargeError

__all__ = ["read_item", "read_query", "read_upload"]

DIGITS = 15  # of an item
FIELDS = 10  # of a form, beside the file
ACCEPTED = (
    "send a form (multipart/form-data) with an image in the field file, or JSON with vectors or the number of an "
    "item"
)
Content = Callable[[], bytes]


async def read_query(request: Request, limits: Limits) -> tuple[Content | None, Query]:
    """What `POST /search` asks, and the image to ask it by if there is one.

    Raises:
        InputError: it is neither a form nor JSON, or a value does not fit.
        TooLargeError: it asks for more than the limits.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await _form(request)
        file = form.get("file")
        query = _wishes(form, limits)
        if isinstance(file, UploadFile):
            return file.file.read, query._replace(name=file.filename or "image")
        if "item" in form:
            return None, _of_item(query, form["item"])
        raise InputError(f"there is no image in the field file: {ACCEPTED}")
    if kind != "application/json":
        raise InputError(f"the request is of the type {kind or 'nothing'!r}: {ACCEPTED}")
    values = _parsed(await request.body())
    query = _wishes(values, limits)
    if "item" in values:
        return None, _of_item(query, values["item"])
    if "vectors" not in values:
        raise InputError(f"there are neither vectors nor an item: {ACCEPTED}")
    return None, query._replace(name="vector", vectors=_vectors(values["vectors"], limits))


async def read_upload(request: Request) -> tuple[Content, str | None]:
    """The image that `POST /items` brings, and its label.

    Raises:
        InputError: there is no image.
    """
    form = await _form(request) if request.headers.get("content-type", "").startswith("multipart/") else {}
    file, label = form.get("file"), form.get("label")
    if not isinstance(file, UploadFile):
        raise InputError("there is no image: send a form (multipart/form-data) with it in the field file")
    return file.file.read, label.strip() or None if isinstance(label, str) else None


def read_item(request: Request) -> int:
    """The number of an item in a path.

    Raises:
        MissingFileError: it is none that an item could have.
    """
    text = str(request.path_params["item"])
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS):
        raise MissingFileError(f"there is no item {text[:40]!r}: give the `item` of a hit")
    return int(text)


async def _form(request: Request) -> FormData:
    return await request.form(max_files=1, max_fields=FIELDS)


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"the request is a JSON {type(values).__name__}: give an object; {ACCEPTED}")
    return values


def _wishes(values: Mapping[str, Any], limits: Limits) -> Query:
    """k, above and label, where they were given."""
    k, above, label = (values.get(name) for name in ("k", "above", "label"))
    number = None if k in (None, "") else _whole("k", k)
    if number is not None and number > limits.hits:
        raise TooLargeError(f"k={number}: this service gives at most {limits.hits:,} images")
    if label is not None and not _is_text(label):
        raise InputError(f"label={label!r}: give a text")
    return Query("", number, None if above in (None, "") else _number("above", above), label or None)


def _is_text(value: object) -> bool:
    """Whether it is a text that can be stored: JSON may hold halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _of_item(query: Query, value: Any) -> Query:
    number = _whole("item", value)
    return query._replace(name=f"item {number}", item=number)


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    if number != int(number) or abs(number) >= 2**53:
        raise InputError(f"{name}={value!r}: give a whole number")
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if isinstance(value, bool) or not np.isfinite(number):
        raise InputError(f"{name}={value!r}: give a number")
    return number


def _vectors(values: Any, limits: Limits) -> NDArray[np.float32]:
    try:
        vectors = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"vectors are no list of lists of numbers: {error}") from error
    if vectors.ndim != 2 or not len(vectors):
        raise InputError(f"vectors have the shape {vectors.shape}: give a list of one vector or more")
    if len(vectors) > limits.vectors:
        raise TooLargeError(f"{len(vectors)} vectors: this service takes at most {limits.vectors} at a time")
    return vectors
