"""Charts are well-formed SVG whose series differ in more than colour."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from dml.reporting.page.charts import HEIGHT, WIDTH, Series, histogram, line_chart, point_path

STEPS = np.arange(5, dtype=float)


def test_lines_are_drawn_inside_of_the_picture_and_named_below_it() -> None:
    series = [Series("a<b", STEPS, STEPS**2, 1), Series("c", STEPS, -STEPS, 2)]
    chart = line_chart(series, title='"x" & y', x_label="step", mark=2)
    root = ElementTree.fromstring(chart)
    assert [key.text or key[0].tail for key in root.iter("span")] == ["a<b", "c"]
    paths = [path.get("d", "") for path in root.iter("path") if "line" in path.get("class", "")][:2]
    for path in paths:
        numbers = np.array([float(n) for n in re.findall(r"-?[\d.]+", path)]).reshape(-1, 2)
        assert len(numbers) == 5
        assert (numbers >= 0).all() and (numbers <= [WIDTH, HEIGHT]).all()
    assert root.find(".//path[@class='mark']") is not None


def test_a_line_leaves_out_what_is_not_finite_and_none_makes_no_chart() -> None:
    values = np.array([1.0, np.nan, np.inf, 2.0, 3.0])
    chart = line_chart([Series("a", STEPS, values)], title="t", x_label="x")
    assert "nan" not in chart and "inf" not in chart
    assert line_chart([Series("a", STEPS, np.full(5, np.nan))], title="t", x_label="x") == ""


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [1e-9, 2e-9], [1e12, 3e12], [-5.0, -5.0]])
def test_any_range_has_ticks(values: list[float]) -> None:
    x = np.arange(len(values), dtype=float)
    root = ElementTree.fromstring(line_chart([Series("a", x, np.array(values))], title="t", x_label="x"))
    assert len(root.findall(".//path[@class='grid']")) >= 1


def test_a_histogram_gives_each_part_the_whole() -> None:
    parts = {"one": np.array([0.1, 0.1, 0.9, 0.9]), "two": np.array([0.1])}
    root = ElementTree.fromstring(histogram(parts, title="t", x_label="x", bins=np.linspace(0, 1, 3)))
    heights = []
    for style in (1, 2):
        path = root.find(f".//path[@class='line s{style}']")
        assert path is not None
        numbers = np.array([float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]).reshape(-1, 2)
        heights.append(numbers[0, 1] - numbers[:, 1].min())
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)


def test_points_are_dots_of_one_path() -> None:
    assert point_path(np.array([[1.0, 2.0], [3.25, 4.0]])) == "M1.0 2.0h0M3.2 4.0h0"
