"""What `dml` offers by itself, and the loop of docs/library.md, run as it stands there."""

import inspect
import re
from pathlib import Path

import pytest

import dml
from tests.photographs import write_photographs

PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
TAKES = {
    "CrossBatchMemory": ["capacity", "embedding_dim", "start_step", "own_images"],
    "EmbeddingModel": ["backbone", "pooling", "embedding_dim", "preprocess"],
    "GlobalAveragePooling": ["in_channels"],
    "Metric": ["of_queries", "kind", "higher_is_better"],
    "Normalisation": ["mean", "std", "bgr"],
    "Pooled": ["vectors", "attributes", "weights"],
    "Ranking": ["correct", "found", "counts"],
    "TrainTest": ["train", "test"],
    "exact_search": ["query", "gallery", "k", "backend", "chunk_size"],
    "load_model": ["folder", "checkpoint", "device", "trust"],
    "query_scores": [
        "query", "query_labels", "gallery", "gallery_labels", "recall_at", "backend", "chunk_size"
    ],
}  # fmt: skip
"""Arguments that somebody relies on; one that is added at the end is added here, none is renamed or taken away."""


def test_the_page_lists_what_is_exported_and_nothing_else() -> None:
    table = PAGE.split("| name | what it is |")[1]
    listed = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert sorted(listed) == sorted(set(dml.__all__) - {"__version__"})
    assert all(getattr(dml, name) is not None for name in dml.__all__)


@pytest.mark.parametrize("name", TAKES)
def test_what_is_stable_takes_what_it_took(name: str) -> None:
    assert list(inspect.signature(getattr(dml, name)).parameters) == TAKES[name]


def test_the_loop_of_the_page_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.strip().splitlines()) <= 45
    for written, small in (("(128, 128)", "(48, 48)"), ("batch_size=32", "batch_size=12"), ("=3200", "=24")):
        assert written in code
        code = code.replace(written, small)
    write_photographs(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names: dict[str, dict[str, float]] = {}
    exec(code.replace("start_step=10", "start_step=0"), names)
    assert names["metrics"]["queries"] == 12 and names["metrics"]["map@r"] > 0.5
    assert capsys.readouterr().out.split() == [str(names["metrics"][name]) for name in ("recall@1", "map@r")]
    assert names["memory"].fill == 24  # type: ignore[attr-defined]
