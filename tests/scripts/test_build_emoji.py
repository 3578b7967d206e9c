"""The builder of the embedded emoji, on made-up packages."""

import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dml.data.emoji import ARCHIVE, TABLE, read_emoji

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_emoji.py"
SQUARE = '<path fill="{}" d="M0 0h{}v8H0z"/>'


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_emoji", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build_emoji = load_script()


def package(style: str = "noto", icons: Any = None, aliases: Any = None, chars: Any = None) -> Any:
    icons = {name: {"body": body} for name, body in (icons or {}).items()}
    groups = dict.fromkeys(icons, "Objects")
    return build_emoji.Package(style, "1.0", icons, aliases or {}, (8, 8), chars or {}, groups, {})


def write_tarball(folder: Path, style: str, shade: int) -> None:
    icons = {
        name: {"body": SQUARE.format(f"#{shade}{i}0", 4)} for i, name in enumerate(("bell", "key", "sled"))
    }
    info = {
        "name": style.title(),
        "author": {"name": "A", "url": "https://a.example"},
        "license": {"title": "CC BY-SA 4.0", "spdx": "CC-BY-SA-4.0", "url": "https://l.example"},
    }
    contents = {
        "icons": {
            "width": 8,
            "height": 8,
            "icons": {k: v for k, v in icons.items() if k != "sled" or shade < 4},
        },
        "chars": {"1f514": "bell", "1f511": "key", "1f6f7": "sled"},
        "metadata": {"categories": {"Objects": ["bell", "key"], "Activities": ["sled"]}},
        "info": info,
    }
    with tarfile.open(folder / f"iconify-json-{style}-{build_emoji.VERSIONS[style]}.tgz", "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/{name}.json")
            data = json.dumps(content).encode()
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def tarballs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tarballs")
    for shade, style in enumerate(build_emoji.VERSIONS):
        write_tarball(folder, style, shade)
    return folder


def test_variation_selectors_and_case_do_not_change_the_code_points() -> None:
    assert build_emoji.normalise("2764-FE0F-200D-1F525") == build_emoji.normalise("2764-200d-1f525")


@pytest.mark.parametrize(
    "code", ["1f44d-1f3fd", "1f1e7-1f1ea", "1f3f4-e0067-e007f", "e1d1", "1f468-200d-1f466"]
)
def test_skin_tones_flags_private_use_and_joined_families_are_unwanted(code: str) -> None:
    assert not build_emoji.is_wanted(code)


@pytest.mark.parametrize("code", ["1f44d", "1f468-200d-1f373", "31-20e3", "1f466"])
def test_other_emoji_are_wanted(code: str) -> None:
    assert build_emoji.is_wanted(code)


def test_names_are_known_from_code_points_then_aliases_then_unicode() -> None:
    noto = package(chars={"1f43b": "bear"})
    old = package(
        "emojione", aliases={"bear": {"parent": "bruin"}, "raeb": {"parent": "bear", "hFlip": True}}
    )
    known = build_emoji.known_names([noto, old])
    assert known == {"bear": "1f43b", "bruin": "1f43b", "bearface": "1f43b"}


def test_an_icon_is_found_by_code_points_by_name_or_by_its_new_name() -> None:
    icons = dict.fromkeys(("bear", "bruin", "teddy", "hidden", "broken"), "")
    drawing = package("fxemoji", icons, chars={"1f43b": "bear"})
    drawing.icons["hidden"]["hidden"] = True
    known = {"bruin": "1f43b", "teddybear": "1f9f8", "hidden": "1f512", "broken": "1f494"}
    renames = {("fxemoji", "teddy"): "teddy-bear", ("fxemoji", "broken"): ""}
    assert build_emoji.drawn_emoji(drawing, known, renames) == {"1f43b": "bear", "1f9f8": "teddy"}


def test_pictures_are_drawn_on_white_and_aliases_mirror_and_turn_them() -> None:
    aliases = {"mirrored": {"parent": "left", "hFlip": True}, "turned": {"parent": "left", "rotate": 1}}
    style = package(icons={"left": SQUARE.format("red", 4)}, aliases=aliases)
    left, mirrored, turned = (build_emoji.rasterise(style, name) for name in ("left", "mirrored", "turned"))
    assert left.shape == (64, 64, 3)
    assert left[30, 5].tolist() == [255, 0, 0] and left[30, 60].tolist() == [255, 255, 255]
    assert np.array_equal(mirrored, left[:, ::-1])
    assert turned[5, 30].tolist() == [255, 0, 0] and turned[60, 30].tolist() == [255, 255, 255]


def test_the_size_of_an_icon_overrides_that_of_its_package() -> None:
    style = package(icons={"wide": SQUARE.format("red", 8)})
    style.icons["wide"] |= {"width": 16, "height": 16, "left": -8}
    image = build_emoji.rasterise(style, "wide")
    red = (image == (255, 0, 0)).all(-1)
    assert red[:32, 32:].all() and red.sum() == 32 * 32


def test_a_picture_of_two_classes_or_two_styles_is_kept_once() -> None:
    image, other = np.zeros((64, 64, 3), np.uint8), np.ones((64, 64, 3), np.uint8)
    rows = [("man-walking", "noto", image), ("walking", "noto", image), ("walking", "twemoji", image)]
    drawings = [build_emoji.Drawing(name, style, "People & Body", x) for name, style, x in rows]
    drawings.append(build_emoji.Drawing("walking", "fxemoji", "People & Body", other))
    kept, repeated = build_emoji.drop_repeated(drawings, {"walking": 0, "man-walking": 1})
    assert [(d.name, d.style) for d in kept] == [("walking", "noto"), ("walking", "fxemoji")]
    assert len(repeated) == 2


def test_two_builds_give_the_same_bytes(tarballs: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_emoji.main(packages=tarballs, output=tmp_path / name)
    for name in (ARCHIVE, TABLE, "NOTICE"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_only_what_five_styles_draw_is_kept(tarballs: Path, tmp_path: Path) -> None:
    build_emoji.main(packages=tarballs, output=tmp_path)
    read = read_emoji(tmp_path)
    assert read.class_names == ("bell", "key")  # a sled is drawn by four
    assert read.files[0] == "bell/emojione.webp" and set(read.groups) == {"Objects"}
    assert (tmp_path / "NOTICE").read_text().count("Share alike") == 8


def test_a_check_names_the_file_that_differs(tarballs: Path, tmp_path: Path) -> None:
    build_emoji.main(packages=tarballs, output=tmp_path)
    build_emoji.main(packages=tarballs, output=tmp_path, check=True)
    (tmp_path / "NOTICE").write_text("changed")
    with pytest.raises(SystemExit, match=r"differs from a new build in: NOTICE$"):
        build_emoji.main(packages=tarballs, output=tmp_path, check=True)


def test_a_missing_tarball_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"noto-1\.2\.9\.tgz is missing: get it with `npm pack"):
        build_emoji.main(packages=tmp_path)


def test_without_npm_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"install Node\.js, or give a folder of tarballs"):
        build_emoji.main()
