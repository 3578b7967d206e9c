"""Every image decoded once before anything is trained on: a broken one ends a run at its start, and not at its end.

What was found is remembered beside the cache, under a hash of all that it depends on, so the next start need not look.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dml.data.annotations import first_few
from dml.data.cache import content_key
from dml.data.decoding import LONGEST, is_drawn_out, largest_picture, resized_size
from dml.data.encoded_images import EncodedImages
from dml.data.image_files import ImageFiles
from dml.errors import FileError, InputError

__all__ = ["check_images", "check_option"]

log = logging.getLogger(__name__)

AT_ONCE = 4096  # images that are looked at unasked, some ten seconds on two cores
AT_A_TIME = 256
NARROW, MOST = 32, 255  # an eighth of the values of 8 bits, and the highest
SHOWN = 3
Images = ImageFiles | EncodedImages


class _Look(NamedTuple):
    """What there is to say of an image.

    name:      what a message calls it.
    broken:    why it cannot be read; empty if it can.
    drawn_out: it is so long and thin that its middle is taken.
    span:      its lowest and highest value, of 8 bits, if it had 16.
    """

    name: str
    broken: str = ""
    drawn_out: bool = False
    span: tuple[int, int] | None = None


def check_option(check: bool | str) -> None:
    """Raise InputError for anything else than true, false and auto."""
    if not isinstance(check, bool) and check != "auto":
        raise InputError(f"dataset.check={check}; accepted: true, false, auto")


def check_images(images: Images, folder: str | Path, name: str, *, check: bool | str) -> None:
    """Decode the images of a set, unless they were as they are now, and warn of what they would come out as.

    Args:
        folder: where it is remembered, if it can be written.
        name: of the data set.
        check: True looks at all images, "auto" at all of up to AT_ONCE and at so many of a larger set, at equal
            distances; False at none.

    Raises:
        FileError: images cannot be read; the message counts them and names the first, each with its cause.
    """
    if not check:
        return
    count = len(images) if check is True else min(len(images), AT_ONCE)
    rows = [i * len(images) // count for i in range(count)]
    path = _place(images, rows, Path(folder), name)
    sentences = None if path is None else _remembered(path)
    if sentences is None:
        of_all = "" if count == len(images) else f" of {len(images):,}"
        log.info(
            "%s: decoding %s%s images once, so that a broken one is found now", name, f"{count:,}", of_all
        )
        sentences = _sentences(_look_at(images, rows))
        if path is not None:
            _remember(path, sentences)
    for sentence in sentences:
        warnings.warn(f"{name}: {sentence}", stacklevel=4)


def _place(images: Images, rows: Sequence[int], folder: Path, name: str) -> Path | None:
    """Where the result is remembered; None if a file is not there, which is found when it is read."""
    try:
        what = json.dumps([largest_picture(), len(images), len(rows)]).encode()
        key = hashlib.sha256(content_key(images, rows) + what).hexdigest()
    except OSError:
        return None
    return folder / f"{name}-{key[:16]}.checked"


def _look_at(images: Images, rows: Sequence[int]) -> list[_Look]:
    looks: list[_Look] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), AT_A_TIME):  # by parts, so that Ctrl-C need not wait for all of them
            looks += pool.map(partial(_look, images), rows[start : start + AT_A_TIME])
    if broken := [look.broken for look in looks if look.broken]:
        raise FileError(
            f"{len(broken):,} of {len(rows):,} images cannot be used: {'; '.join(broken[:SHOWN])}"
        )
    return looks


def _look(images: Images, row: int) -> _Look:
    name = images.name(row)
    try:
        pixels, _, _, is_deep = images.decoded(row)
        height, width = pixels.shape[:2]
        resized_size(height, width, images.short_side)
    except InputError as error:
        return _Look(name, broken=f"{name}: {error}")
    except OSError as error:
        return _Look(name, broken=str(error))
    span = (int(pixels.min()), int(pixels.max())) if is_deep else None
    return _Look(name, "", images.short_side is not None and is_drawn_out(height, width), span)


def _sentences(looks: Sequence[_Look]) -> list[str]:
    """What to warn of."""
    sentences = []
    deep = [look for look in looks if look.span]
    lowest = min((look.span[0] for look in deep if look.span), default=0)
    highest = max((look.span[1] for look in deep if look.span), default=MOST)
    if highest - lowest < NARROW:
        sentences.append(
            f"{len(deep):,} images of 16 bits use values from about {lowest * 257:,} to {highest * 257:,}, less than "
            f"an eighth of the range, {first_few([look.name for look in deep])}: they come out nearly uniform, as data "
            "of 10 or 12 bits does; scale them to 0..65535, or save them in 8 bits"
        )
    if thin := [look.name for look in looks if look.drawn_out]:
        sentences.append(
            f"{len(thin):,} images are more than {LONGEST} times as long as wide, {first_few(thin)}: of these the "
            "middle is taken"
        )
    return sentences


def _remembered(path: Path) -> list[str] | None:
    try:
        sentences = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_list = isinstance(sentences, list) and all(isinstance(sentence, str) for sentence in sentences)
    return sentences if is_list else None


def _remember(path: Path, sentences: list[str]) -> None:
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path.write_text(json.dumps(sentences), encoding="utf-8")
        partial_path.replace(path)
    except OSError as error:
        log.info("that cannot be remembered (%s), so the next start looks again", error)
