"""Which files are images: what Pillow reads, by the suffix, or by the first bytes where that says nothing."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from PIL import Image

__all__ = [
    "HEIF",
    "HEIF_SUFFIXES",
    "NO_PICTURE",
    "RAW",
    "readable_suffixes",
    "register_heif",
    "why_no_picture",
]

NO_PICTURE = "not images"
RAW = "raw files of cameras"
HEIF = "HEIC"

# Pillow has no decoder of its own for these
NOT_DECODED = {"EPS", "WMF", "MPEG", "HDF5", "BUFR", "GRIB"}
HEIF_SUFFIXES = {".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs"}
RAW_SUFFIXES = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw", ".x3f"),
}
SIGNATURES = (  # place, bytes there, the usual suffix
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (4, b"ftypavi", ".avif"),
    (4, b"ftyphei", ".heic"),
    (4, b"ftyphev", ".heic"),
    (4, b"ftypmif1", ".heic"),
    (4, b"jP  \r\n", ".jp2"),
    (6, b"\0\0\0\0", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
)
LONGEST = 16  # bytes up to which all of them end


def why_no_picture(path: Path) -> str:
    """The reason to leave a file out, or nothing for an image.

    Raises:
        OSError: its suffix is unknown and it cannot be read.
    """
    suffix, known = path.suffix.lower(), readable_suffixes()
    if suffix in RAW_SUFFIXES:
        return RAW
    if suffix not in known and suffix not in HEIF_SUFFIXES:
        suffix = _suffix_by_content(path, has_suffix=bool(suffix))
    if suffix in known:
        return ""
    return HEIF if suffix in HEIF_SUFFIXES else NO_PICTURE


@cache
def readable_suffixes() -> frozenset[str]:
    """All suffixes, in lower case, of files that are decoded here."""
    registered = Image.registered_extensions().items()
    sound = (suffix for suffix, name in registered if name in Image.OPEN and name not in NOT_DECODED)
    return frozenset(sound) | {".mpo"}  # several JPEG in one file, which opens as one


def register_heif() -> None:
    """Let Pillow read HEIC, if pillow-heif is there; done at import, so that each process that reads images can."""
    readable_suffixes.cache_clear()
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return


def _suffix_by_content(path: Path, *, has_suffix: bool) -> str:
    with open(path, "rb") as file:
        start = file.read(LONGEST)
    for place, signature, suffix in SIGNATURES:
        if suffix == ".bmp" and not start.startswith(b"BM"):
            continue
        if suffix == ".tif" and has_suffix:  # so begin many formats that hold an image among other things
            continue
        if start.startswith(signature, place):
            return suffix
    return ""


register_heif()
