"""Each contract test finds the part that breaks its promise, and says so; those of this project break none."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dml.checks import Finding, check_file
from dml.commands import app
from dml.errors import ConfigError, InputError, MissingFileError

ROOT = Path(__file__).parents[2]
SMALL = ["transform.size=32", "embedding_dim=16"]
PARTS = {
    "pooling": "Pooling", "backbone": "Backbone", "loss": "Loss", "dataset": "data", "logger": "Follower",
    "metric": "metric",
}  # fmt: skip
FAULTS = [
    ("pooling", "channels", "maps of any size", r"give vectors \(3, 16\), and out_channels is 17"),
    ("pooling", "embedded", "is a pooling", r"pools_embedded, and out_channels is 17"),
    ("pooling", "tensor", "maps of any size", r"forward\(\) gives Tensor: give dml\.Pooled"),
    ("pooling", "tokens", "so do tokens", r"IndexError: no width"),
    ("pooling", "batch", "an image alone", r"alone and in a batch: they differ by up to"),
    ("pooling", "unused", "finite gradients", r"no gradient reaches unused: use it in forward\(\)"),
    ("pooling", "detached", "finite gradients", r"no finite gradient reaches the features"),
    ("pooling", "root", "features of 0", r"features 0 times a normal give NaN"),
    ("pooling", "random", "the same seed", r"the same features twice: they differ"),
    ("pooling", "state", "a state dict", r"after load_state_dict: they differ by up to 1"),
    ("pooling", "export", "torch.export", r"."),
    ("pooling", "shares", "maps of any size", r"weights are shares: none below 0"),
    ("pooling", "attributes", "maps of any size", r"has_attributes is False, and attributes are Tensor"),
    ("pooling", "none", "the zero-shot loss", r"zero_shot\.weight is not 0: begin the file with # @package"),
    ("backbone", "deviation", "is a backbone", r"three deviations above 0"),
    ("backbone", "none", "images of 32", r"give \(2, 4, 30, 30\), and out_channels is 5, not 4"),
    ("loss", "vector", "a batch gives", r"a batch gives shape \(32,\): a scalar"),
    ("loss", "equal", "images that are equal", r"a value or a gradient is not finite where two images are equal"),
    ("loss", "constant", "finite gradients", r"no finite gradient that is not 0 reaches the vectors"),
    ("loss", "none", "takes the pairs", r"it passes over the pairs of a miner"),
    ("loss", "none", "is computed against a memory", r"it passes over them"),
    ("dataset", "float", "images are", r"image 0 of the train half is float32 \(6, 6, 3\): give uint8"),
    ("dataset", "labels", "labels count", r"the train half has 2 labels, 1 to 2, and 2 class_names: give 0 to 1"),
    ("dataset", "shared", "no class trains", r"'b' is in both halves"),
    ("logger", "again", "follows the run when", r"log\.txt"),
    ("logger", "key", "follows a run", r"KeyError: 'accuracy'"),
    ("metric", "depth", "what is found beyond", r"mine, with 6 and with 12 ranks .* they differ"),
    ("metric", "share", "a share lies", r"mine gives 1 to 5: say kind='count'"),
    ("metric", "others", "a query alone", r"mine, alone and among others: they differ"),
]  # fmt: skip


def write(folder: Path, group: str, fault: str) -> Path:
    """A file of a group that names the part of broken.py."""
    path = folder / "my configs" / group / "mine.yaml"
    path.parent.mkdir(parents=True)
    takes = "_takes_: [tuples, references]\n" * (group == "loss")
    lines = f"_target_: tests.checks.broken.{PARTS[group]}\n{takes}fault: {fault}\n"
    if group in ("logger", "metric"):
        lines = "mine:\n" + "".join(f"  {line}\n" for line in lines.splitlines())
    path.write_text(lines)
    return path


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr("dml.retrieval.metric_table._chosen", {})


@pytest.mark.parametrize(("group", "fault", "promise", "said"), FAULTS)
def test_a_promise_that_is_broken_is_named_in_words(
    group: str, fault: str, promise: str, said: str, tmp_path: Path
) -> None:
    findings = check_file(write(tmp_path, group, fault), SMALL)
    problem = next(finding.problem for finding in findings if finding.promise.startswith(promise))
    assert problem is not None and re.search(said, problem)


@pytest.mark.parametrize(
    "file",
    ["pooling/gsp", "loss/proxy_anchor", "loss/contrastive", "backbone/tiny", "metric/precision",
     "logger/none", "sampler/8x4", "memory/xbm",],
)  # fmt: skip
def test_parts_of_this_project_keep_what_they_promise(file: str) -> None:
    findings = list(check_file(ROOT / "configs" / f"{file}.yaml", SMALL))
    assert len(findings) >= 3 and [finding for finding in findings if finding.problem] == []
    assert isinstance(findings[0], Finding)


def test_a_component_of_any_other_group_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    path = tmp_path / "optimizer" / "mine.yaml"
    path.write_text("_target_: torch.optim.AdamW\n_partial_: true\nlr: 1.0\nrate: 2\n")
    assert "no such argument" in str(list(check_file(path))[-1].problem)


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        ("pooling/none.yaml", None, MissingFileError, r"no file .*none\.yaml: give that of a part"),
        ("poolings/mine.yaml", "_target_: a.B", InputError, r"lies in the folder of no group: .* loss, memory"),
        ("zero_shot/mine.yaml", "wieght: 0.1", ConfigError, r"wieght"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_part_is_refused(
    name: str, content: str | None, error: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=said):
        list(check_file(tmp_path / name))


def test_the_command_prints_each_promise_and_its_status_says_whether_all_hold(tmp_path: Path) -> None:
    broken, whole = write(tmp_path, "pooling", "unused"), ROOT / "configs" / "metric" / "precision.yaml"
    failed = CliRunner().invoke(app, ["check", str(broken), *SMALL, "zero_shot.weight=0"])
    assert failed.exit_code == 1 and "1 of 11 do not hold" in failed.output
    assert re.search(r"FAILS  finite gradients .*\n       no gradient reaches unused", failed.output)
    passed = CliRunner().invoke(app, ["check", str(whole)])
    assert passed.exit_code == 0 and "all 5 hold" in passed.output and "FAILS" not in passed.output
