"""One set of images in every form that a reader takes, and what it has to read from each."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("apple", "pear", "Äpfel & Birnen", "quince", "plum")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photographs() -> dict[str, bytes]:
    """Files CLASS/NAME of all that is converted: turned, transparent, of 16 bits, of a palette."""
    files = {}
    for c, name in enumerate(CLASSES):
        pixels = np.random.default_rng(c).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((12, 9))
        turned = Image.Exif()
        turned[0x0112] = 6
        deep = Image.fromarray((np.arange(48, dtype=np.uint16) * (900 + c)).reshape(6, 8))
        clear = image.convert("RGBA")
        clear.putalpha(Image.new("L", image.size, 100 + c))
        files |= {
            f"{name}/0.jpg": encoded(image, "JPEG"),
            f"{name}/1.jpg": encoded(image, "JPEG", exif=turned.tobytes(), quality=90),
            f"{name}/2.png": encoded(deep, "PNG"),
            f"{name}/3.png": encoded(clear, "PNG"),
            f"{name}/4.gif": encoded(image.convert("P"), "GIF"),
            f"{name}/5.webp": encoded(image.convert("L").convert("RGB"), "WEBP", lossless=True),
        }
    return files


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def samples(files: Mapping[str, bytes], side: str) -> dict[str, bytes]:
    """The same in webdataset's layout, the class in KEY.cls, KEY.txt or KEY.json."""
    found = {}
    for number, (name, content) in enumerate(files.items()):
        label = name.split("/")[0]
        text = json.dumps({"label": label, "width": 12}) if side == "json" else f"{label}\n"
        found |= {
            f"{number:06d}.{name.rpartition('.')[2]}": content,
            f"{number:06d}.{side}": text.encode(),
        }
    return found


def as_table(files: Mapping[str, bytes]) -> Any:
    """The same as a table of the library datasets, with columns picture and kind."""
    import datasets

    names = sorted({name.split("/")[0] for name in files})
    columns = {
        "picture": [{"bytes": content, "path": None} for content in files.values()],
        "kind": [names.index(name.split("/")[0]) for name in files],
    }
    kinds = {"picture": datasets.Image(decode=False), "kind": datasets.ClassLabel(names=names)}
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    return table.cast_column("picture", datasets.Image())
