# long: one program from the packages to the archive, run by nobody but who builds the set anew
"""Build data/emoji: the same emoji drawn by eight vendors, rasterised from the SVGs of npm packages.

    python scripts/build_emoji.py                           # fetch the packages with npm, write data/emoji
    python scripts/build_emoji.py --packages DIR --check    # tarballs from DIR; write nothing, only compare

An emoji is known by its code points, not by its name: vendors name the same emoji differently, and
differently over the years. Needs npm (unless --packages is given) and resvg-py.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import resvg_py
import typer
from PIL import Image

from dml.data.emoji import ARCHIVE, COLUMNS, SIZE, TABLE, read_emoji
from dml.data.protocols import hashed_half

Raster = npt.NDArray[np.uint8]  # (64, 64, 3)

# In order of preference: names and groups come from the first, and so does a drawing that two styles share.
VERSIONS = {
    "noto": "1.2.9",
    "twemoji": "1.2.5",
    "openmoji": "1.2.29",
    "fluent-emoji": "1.2.7",
    "emojione": "1.2.3",
    "noto-v1": "1.2.5",
    "emojione-v1": "1.2.3",
    "fxemoji": "1.2.2",
}
MIN_STYLES = 5
ROOT = Path(__file__).resolve().parents[1]
# Icons whose name nobody else uses, or uses otherwise; an empty emoji leaves a broken or unrelated one out.
RENAMES = ROOT / "data" / "emoji" / "renames.csv"


@dataclass(frozen=True)
class Package:
    """One style: its icons and aliases by name, code points of some of its icons, groups and licence."""

    style: str
    version: str
    icons: dict[str, Any]
    aliases: dict[str, Any]
    size: tuple[float, float]
    chars: dict[str, str]
    groups: dict[str, str]
    info: dict[str, Any]


class Drawing(NamedTuple):
    """One picture on its way into the data set."""

    name: str
    style: str
    group: str
    pixels: Raster


# --- packages ---------------------------------------------------------------------------------------


def fetch(folder: Path) -> None:
    """Let npm put the tarballs of all styles into folder; exits with what to do where there is no npm."""
    if shutil.which("npm") is None:
        sys.exit("npm is not installed: install Node.js, or give a folder of tarballs with --packages DIR")
    names = [f"@iconify-json/{style}@{version}" for style, version in VERSIONS.items()]
    subprocess.run(["npm", "pack", "--silent", *names], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def read_package(folder: Path, style: str, version: str) -> Package:
    """Read one tarball; exits naming the file that is missing."""
    path = folder / f"iconify-json-{style}-{version}.tgz"
    if not path.is_file():
        sys.exit(f"{path} is missing: get it with `npm pack @iconify-json/{style}@{version}`")
    with tarfile.open(path) as tar:
        files = {m.name: json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")}  # type: ignore[arg-type]
    icons, chars, metadata, info = (
        files.get(f"package/{n}.json", {}) for n in ("icons", "chars", "metadata", "info")
    )
    groups = {name: group for group, names in metadata.get("categories", {}).items() for name in names}
    size = (icons.get("width", 16), icons.get("height", 16))
    return Package(style, version, icons["icons"], icons.get("aliases", {}), size, chars, groups, info)


# --- names ------------------------------------------------------------------------------------------


def normalise(code: str) -> str:
    """Code points in lower case, without the variation selector U+FE0F, which some vendors leave out."""
    return "-".join(point for point in code.lower().split("-") if point != "fe0f")


def is_wanted(code: str) -> bool:
    """No skin tone, no flag (regional indicators and tags), no private use, no family joined from members.

    Families of a man, a woman, a girl ... are fourteen names for what several styles draw alike.
    """
    if "200d" in code and code.endswith(("1f466", "1f467")):
        return False
    points = [int(point, 16) for point in code.split("-")]
    unwanted = [(0x1F3FB, 0x1F3FF), (0x1F1E6, 0x1F1FF), (0xE0000, 0xE0FFF), (0xE000, 0xF8FF)]
    return not any(low <= point <= high for point in points for low, high in unwanted)


def squash(name: str) -> str:
    """Only letters and digits: "Two Hearts", "two-hearts" and "twohearts" are one name."""
    return "".join(letter for letter in name.lower() if letter.isascii() and letter.isalnum())


def known_names(packages: list[Package]) -> dict[str, str]:
    """Squashed name -> code points, from the packages that say so, then from their aliases, then Unicode."""
    known: dict[str, str] = {}
    for package in packages:
        for code, name in package.chars.items():
            if is_wanted(normalise(code)):
                known.setdefault(squash(name), normalise(code))
    single = [code for code in dict.fromkeys(known.values()) if "-" not in code]
    aliases = [(a, alias["parent"]) for p in packages for a, alias in p.aliases.items() if len(alias) == 1]
    for a, b in aliases + [(b, a) for a, b in aliases]:
        if squash(b) in known:
            known.setdefault(squash(a), known[squash(b)])
    for code in single:
        known.setdefault(squash(unicodedata.name(chr(int(code, 16)), "")), code)
    return known


def drawn_emoji(
    package: Package, known: dict[str, str], renames: dict[tuple[str, str], str]
) -> dict[str, str]:
    """Code points -> icon of one package; hidden icons, which are older drawings, are left out."""
    codes = {name: normalise(code) for code, name in package.chars.items() if is_wanted(normalise(code))}
    flipped = [name for name, alias in package.aliases.items() if len(alias) > 1]
    drawn: dict[str, str] = {}
    for name in [*package.icons, *flipped]:
        if package.icons.get(name, {}).get("hidden"):
            continue
        renamed = renames.get((package.style, name))
        code = known.get(squash(name if renamed is None else renamed))
        if renamed is None:
            code = codes.get(name, code)
        if code is not None:
            drawn.setdefault(code, name)
    return drawn


# --- pictures ---------------------------------------------------------------------------------------


def rasterise(package: Package, name: str) -> Raster:
    """Render one icon, or an alias that turns or mirrors one, on white; (64, 64, 3)."""
    if name in package.aliases:
        alias = package.aliases[name]
        image = np.rot90(rasterise(package, alias["parent"]), k=-alias.get("rotate", 0))
        image = image[:, ::-1] if alias.get("hFlip") else image
        return image[::-1] if alias.get("vFlip") else image
    icon = package.icons[name]
    width, height = icon.get("width", package.size[0]), icon.get("height", package.size[1])
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIZE}" height="{SIZE}" viewBox="{box}">'
        f"{icon['body']}</svg>"
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def drop_repeated(drawings: list[Drawing], order: dict[str, int]) -> tuple[list[Drawing], list[Drawing]]:
    """Split into drawings to keep and repetitions, which would be wrong or trivial to retrieve.

    A picture that occurs in two classes (a style draws man-walking and person-walking alike) stays with the
    class that comes first in order; one that two styles share within a class stays with the first style.
    """
    rank = {style: i for i, style in enumerate(VERSIONS)}
    seen: set[bytes] = set()
    kept, repeated = [], []
    for drawing in sorted(drawings, key=lambda d: (order[d.name], rank[d.style])):
        content = drawing.pixels.tobytes()
        (repeated if content in seen else kept).append(drawing)
        seen.add(content)
    return kept, repeated


def frequent(drawings: list[Drawing]) -> list[Drawing]:
    """The drawings of the classes that at least MIN_STYLES styles draw, by class and style."""
    count = Counter(drawing.name for drawing in drawings)
    kept = [drawing for drawing in drawings if count[drawing.name] >= MIN_STYLES]
    return sorted(kept, key=lambda drawing: (drawing.name, drawing.style))


def choose(packages: list[Package]) -> list[tuple[Package, str, str]]:
    """Package, code points and icon of all that the first package and enough others draw."""
    with RENAMES.open(encoding="utf-8", newline="") as file:
        renames = {(row["style"], row["icon"]): row["emoji"] for row in csv.DictReader(file)}
    known = known_names(packages)
    drawn = [(package, drawn_emoji(package, known, renames)) for package in packages]
    styles = Counter(code for _, icons in drawn for code in icons)
    first, icons = drawn[0]
    wanted = {code for code, icon in icons.items() if first.groups.get(icon, "Flags") != "Flags"}
    wanted &= {code for code, count in styles.items() if count >= MIN_STYLES}
    return [
        (package, code, icon) for package, icons in drawn for code, icon in icons.items() if code in wanted
    ]


def draw_all(packages: list[Package]) -> list[Drawing]:
    """All drawings; names and groups come from the first package, whose groups are those of Unicode."""
    first, chosen = packages[0], choose(packages)
    names = {code: icon for package, code, icon in chosen if package is first}
    with ThreadPoolExecutor() as pool:
        pixels = pool.map(lambda choice: rasterise(choice[0], choice[2]), chosen)
        drawings = [
            Drawing(names[code], package.style, first.groups[names[code]], image)
            for (package, code, _), image in zip(chosen, pixels, strict=True)
        ]
    plain_first = sorted(names, key=lambda code: (code.count("-"), code))
    visible = [drawing for drawing in drawings if drawing.pixels.min() < drawing.pixels.max()]
    kept, repeated = drop_repeated(visible, {names[code]: i for i, code in enumerate(plain_first)})
    print(f"left out: {len(drawings) - len(visible)} blank, {len(repeated)} repeated:")
    print("   ", ", ".join(f"{drawing.name} ({drawing.style})" for drawing in repeated))
    return frequent(kept)


# --- files ------------------------------------------------------------------------------------------


def encode(pixels: Raster) -> bytes:
    """One image as lossless WebP, which takes 0.6 times the bytes of an optimised PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=4, quality=100)
    return buffer.getvalue()


def write_archive(drawings: list[Drawing], path: Path) -> None:
    """One stored zip entry per drawing, with no clock, user or system in its header."""
    with ThreadPoolExecutor() as pool, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for drawing, content in zip(drawings, pool.map(lambda d: encode(d.pixels), drawings), strict=True):
            entry = zipfile.ZipInfo(file_name(drawing), date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)


def file_name(drawing: Drawing) -> str:
    """Name of a drawing inside the archive."""
    return f"{drawing.name}/{drawing.style}.webp"


def write_table(drawings: list[Drawing], path: Path) -> None:
    """One row per drawing, in the order of the archive."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for d in drawings:
            writer.writerow([file_name(d), d.name, d.style, d.group, hashed_half(d.name)])


def write_notice(packages: list[Package], path: Path) -> None:
    """Author, licence and source of every style, and what was changed."""
    lines = [NOTICE_HEAD]
    for package in packages:
        author, licence = package.info["author"], package.info["license"]
        share_alike = licence["spdx"].startswith("CC-BY-SA")
        lines.append(
            f"{package.style}: {package.info['name']}\n"
            f"    author   {author['name']}, {author['url']}\n"
            f"    licence  {licence['title']} (SPDX: {licence['spdx']}), {licence['url']}\n"
            f"    package  @iconify-json/{package.style} {package.version}\n" + share_alike * SHARE_ALIKE
        )
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")


NOTICE_HEAD = f"""\
The images in {ARCHIVE} are the work of the authors below and stay under their licences; the licence of the
program does not extend to them. The style of each image is in {TABLE} and in the image's name.

Changes: the SVGs were rasterised at {SIZE} x {SIZE} pixels on a white background and stored as lossless WebP.
Drawings with skin tones, flags, repeated drawings and emoji that fewer than {MIN_STYLES} styles draw
were left out. Nothing else was changed. scripts/build_emoji.py holds every step.
"""
SHARE_ALIKE = (
    "    Share alike: whoever passes these images on, changed or not, does so under the same licence.\n"
)


# --- the build --------------------------------------------------------------------------------------


def build(packages: list[Package], output: Path) -> None:
    """Write archive, table and notice into output and print what they hold."""
    output.mkdir(parents=True, exist_ok=True)
    drawings = draw_all(packages)
    write_archive(drawings, output / ARCHIVE)
    write_table(drawings, output / TABLE)
    write_notice(packages, output / "NOTICE")
    print(f"{len(drawings)} images of {len({d.name for d in drawings})} classes in {output}")
    print("images per style:", dict(Counter(d.style for d in drawings)))


def differences(one: Path, other: Path) -> list[str]:
    """Files of two builds that differ; the archives are compared by pixels, since WebP encoders vary."""
    texts = [name for name in (TABLE, "NOTICE") if (one / name).read_bytes() != (other / name).read_bytes()]
    same = TABLE not in texts and np.array_equal(read_emoji(one).images, read_emoji(other).images)
    return texts if same else [*texts, ARCHIVE]


def main(
    packages: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Holds the tarballs; npm fetches them if not given.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.")] = ROOT / "data" / "emoji",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing, compare with what is there.")
    ] = False,
) -> None:
    """Build data/emoji, or compare a new build with the one that is there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = packages or Path(temporary)
        if packages is None:
            fetch(folder)
        read = [read_package(folder, style, version) for style, version in VERSIONS.items()]
        build(read, Path(temporary) / "build" if check else output)
        if check and (changed := differences(Path(temporary) / "build", output)):
            sys.exit(f"{output} differs from a new build in: {', '.join(changed)}")


if __name__ == "__main__":
    typer.run(main)
