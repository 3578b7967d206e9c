from pathlib import Path

import pytest
from matplotlib.figure import Figure

from dml.reporting.figures import check_rows, figure_path, fit_name, save_figure


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".PNG"])
def test_a_figure_is_written_whole_into_a_folder_that_is_made(suffix: str, tmp_path: Path) -> None:
    figure = Figure()
    figure.suptitle("a class named 日本 with a script that the font lacks")
    path = figure_path(str(tmp_path / "new" / f"figure{suffix}"))
    save_figure(figure, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name] and path.stat().st_size > 0


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"output=a/figure.jpeg: .* accepted: .png, .pdf, .svg"):
        figure_path("a/figure.jpeg")


@pytest.mark.parametrize("count", [0, -1, 65])
def test_rows_that_make_no_figure_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"count={count}: a figure has 1 to 64 rows"):
        check_rows(count)


@pytest.mark.parametrize(
    ("name", "fitted"),
    [
        ("cat", "cat"),
        ("cat-with-wry-smile", "cat-with-\nwry-smile"),
        ("Laysan Albatross of the ocean", "Laysan\nAlbatros…"),
        ("n01440764_tench", "n01440764\n_tench"),
        ("", ""),
    ],
)
def test_names_fit(name: str, fitted: str) -> None:
    assert fit_name(name, width=9, lines=2) == fitted
