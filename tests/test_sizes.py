"""Files and functions are as long as one can take in, unless their first line says why not."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for part in ("dml", "scripts", "benchmarks") for path in (ROOT / part).rglob("*.py"))
LINES, LINES_OF_A_FUNCTION = 300, 40
REASON = "# long: "  # in the first line of a file; at the end of the line with ``def``


def too_long(source: str) -> Iterator[str]:
    """What is longer than it should be and gives no reason; of a function without its docstring."""
    lines = source.splitlines()
    if len(lines) > LINES and not lines[0].startswith(REASON):
        yield f"{len(lines)} lines"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.end_lineno is None:
            continue
        body = node.body[ast.get_docstring(node) is not None :]
        length = node.end_lineno - body[0].lineno + 1 if body else 0
        if length > LINES_OF_A_FUNCTION and REASON not in lines[node.lineno - 1]:
            yield f"{node.name}: {length} lines"


def test_the_files_are_found() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_longer_than_it_should_be_without_a_reason(path: Path) -> None:
    assert list(too_long(path.read_text(encoding="utf-8"))) == []


def test_a_long_file_and_a_long_function_need_a_reason() -> None:
    function = "def f():\n" + "    x = 1\n" * 41
    assert list(too_long(function)) == ["f: 41 lines"]
    assert list(too_long(function.replace("def f():", "def f():  # long: one table"))) == []
    assert list(too_long("x = 1\n" * 301)) == ["301 lines"]
    assert list(too_long("# long: one table\n" + "x = 1\n" * 301)) == []
    assert list(too_long("x = 1\n" * 300)) == []
