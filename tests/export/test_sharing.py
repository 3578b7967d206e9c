"""What is shared gives the same model elsewhere, says what it is, and carries neither code nor places of a machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from dml import load_model
from dml.errors import CheckpointError, InputError, MissingFileError, OccupiedError, UnavailableError
from dml.export import sharing
from dml.export.intervals import intervals_over_classes
from dml.export.licences import RANDOM, UNKNOWN, licence_of_data, licence_of_weights
from dml.export.sharing import share_run, without_places
from dml.index.building import build_index
from dml.index.index import open_index
from dml.shared_models import local_folder
from dml.trust import UntrustedError
from tests.commands.conftest import Dml
from tests.composed import ROOT
from tests.index.conftest import draw

FILES = {"README.md", "LICENSES", "config.yaml", "environment.json", "metrics.json", "model.safetensors"}


@pytest.fixture(scope="module")
def shared(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "emoji"
    assert share_run(smoke_run, str(folder), licence="cc-by-4.0") == str(folder)
    return folder


class Hub:
    """A hub of one model, as far as is asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[tuple[object, ...]]()

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.asked.append((name, private))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
        shutil.copytree(folder_path, self.folder / repo_id)
        return f"https://hub/{repo_id}"

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((name, revision))
        if revision not in (None, "v1"):
            raise huggingface_hub.errors.RevisionResolutionError(f"no revision {revision}")
        assert {path.name for path in (self.folder / name).iterdir()} <= set(allow_patterns)
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_a_shared_folder_gives_the_same_model_to_the_last_bit(shared: Path, smoke_run: Path) -> None:
    assert {path.name for path in shared.iterdir()} == {*FILES, "preprocess.json"}
    one, other = load_model(smoke_run), load_model(shared)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))
    assert torch.equal(one.embed([image]), other.embed([image]))
    with pytest.raises(MissingFileError, match="a shared model has its best one only"):
        load_model(shared, checkpoint="last")


def test_its_page_says_what_it_is(shared: Path, smoke_run: Path) -> None:
    page = (shared / "README.md").read_text(encoding="utf-8")
    _, front, body = page.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "cc-by-4.0" and metadata["library_name"] == "dml-gsp"
    measured = json.loads((smoke_run / "metrics.json").read_text())["test"]
    stated = {one["type"]: one["value"] for one in metadata["model-index"][0]["results"][0]["metrics"]}
    assert stated == {name: measured[name] for name in stated} and {"recall@1", "map@r"} < stated.keys()
    (row,) = [line for line in body.splitlines() if line.startswith("| test | map@r |")]
    value, interval = row.split(" | ")[2:]
    low, high = (float(end) for end in interval.rstrip(" |").split(" to "))
    assert low < float(value) < high
    for part in (
        "emoji",
        "test: 593 classes",
        "cc-by-4.0",
        RANDOM,
        "| pooling.num_prototypes |",
    ):
        assert part in body, part
    assert str(smoke_run) not in page and str(Path.home()) not in page


def test_figures_of_another_checkpoint_are_not_those_of_this_one(smoke_run: Path, tmp_path: Path) -> None:
    share_run(smoke_run, str(tmp_path / "emoji"), checkpoint="last")
    page = (tmp_path / "emoji" / "README.md").read_text(encoding="utf-8")
    assert "This checkpoint was not measured." in page and "| test |" not in page
    assert not (tmp_path / "emoji" / "metrics.json").exists()
    assert "none was stated by whoever shared them" in page and "license: other" in page


def test_places_of_a_machine_are_left_out() -> None:
    config: dict[str, Any] = {
        "paths": {"data": "/home/me/data", "runs": "runs"},
        "dataset": {"root": "/home/me/data/emoji", "table": "/mnt/secret/items.csv", "size": 3},
        "trust": ["/x/y"],
    }
    cleaned = without_places(config)
    assert cleaned["paths"]["data"] == "data" and cleaned["trust"] == ["y"]
    assert cleaned["dataset"] == {"root": str(Path("data/emoji")), "table": "items.csv", "size": 3}
    command = "dml train dataset.root=/home/me/photos 'a=[/b/c,/d]' x=1/2 and/or"
    assert sharing._without_paths(command) == "dml train dataset.root=photos 'a=[c,d]' x=1/2 and/or"


def test_the_hub_takes_it_and_gives_it_back(hub: Hub, smoke_run: Path, tmp_path: Path, dml: Dml) -> None:
    done = dml("share", smoke_run, "--to", "hf:me/emoji", "--private")
    assert done.exit_code == 0 and "dml.load_model('hf:me/emoji')" in done.stdout, done.stderr
    assert hub.asked[0] == ("me/emoji", True)
    model = load_model("hf:me/emoji@v1")
    assert hub.asked[-1] == ("me/emoji", "v1")
    for name, value in load_model(smoke_run).state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    picture = draw(tmp_path / "photos" / "a.png", 0)
    draw(tmp_path / "photos" / "b.png", 1)
    build_index("hf:me/emoji", [tmp_path / "photos"], tmp_path / "index")
    with open_index(tmp_path / "index") as index:
        assert index.search([picture], k=1)[0][0].path.endswith("a.png")


def test_a_shared_model_may_not_name_code_of_its_own(shared: Path, tmp_path: Path, hub: Hub) -> None:
    folder = shutil.copytree(shared, hub.folder / "you" / "trap")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["pooling"]["_target_"] = "os.system"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UntrustedError, match=r"os\.system.* nothing was imported"):
        load_model("hf:you/trap")


def test_a_damaged_or_foreign_file_is_refused(shared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shared, tmp_path / "copy")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_model(folder)
    config = (folder / "config.yaml").read_text().replace("embedding_dim: 128", "embedding_dim: 64")
    (folder / "config.yaml").write_text(config)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit the model"):
        load_model(folder)


@pytest.mark.parametrize("place", ["hf:emoji", "hf:me/emoji@", "hf:me/../x", "hf:", "hf:a/b/c"])
def test_a_name_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(InputError, match="names no model: write hf:USER/NAME"):
        local_folder(place)


def test_a_place_that_is_none_is_refused(smoke_run: Path, tmp_path: Path) -> None:
    for place, message in (
        ("s3:bucket", r"--to s3:bucket: accepted are a folder, and hf:USER/NAME"),
        ("hf:me/emoji@v1", "leave out what follows @"),
        (str(tmp_path / "model.safetensors"), "is the ending of a file"),
    ):
        with pytest.raises(InputError, match=message):
            share_run(smoke_run, place)
    (tmp_path / "thesis").touch()
    with pytest.raises(OccupiedError, match=r"it has no model\.safetensors"):
        share_run(smoke_run, str(tmp_path / "thesis"))


def test_what_the_hub_refuses_is_said(hub: Hub, smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnavailableError, match=r"hf:me/emoji@v2 cannot be fetched: no revision v2.*hf auth login"
    ):
        load_model("hf:me/emoji@v2")

    def refuse(*_: object, **__: object) -> None:
        raise huggingface_hub.errors.LocalTokenNotFoundError("no token")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(UnavailableError, match=r"hf:me/emoji cannot be written: no token.*hf auth login"):
        share_run(smoke_run, "hf:me/emoji")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match=r"not installed: pip install 'dml-gsp\[hub\]'"):
        load_model("hf:me/emoji")


def test_what_does_not_give_the_same_model_is_not_shared(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sharing, "write_weights", lambda folder, state, version: original(folder, halved(state), version)
    )
    original = __import__("dml.shared_models", fromlist=["x"]).write_weights

    def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value.half().to(value.dtype) for name, value in state.items()}

    with pytest.raises(InputError, match="gives another model than"):
        share_run(smoke_run, str(tmp_path / "emoji"))
    assert not any(tmp_path.iterdir())


def test_an_interval_counts_classes_and_not_images() -> None:
    rng = np.random.default_rng(0)
    of_classes = rng.random(40)
    labels = np.repeat(np.arange(40), 25)
    low, high = intervals_over_classes(of_classes[labels], labels)
    expected = 1.96 * of_classes.std() / np.sqrt(40)
    assert abs((high - low) / 2 - expected) < 0.15 * expected and low < of_classes.mean() < high
    with_nan = np.concatenate([of_classes[labels], [np.nan]])
    assert intervals_over_classes(with_nan, np.append(labels, 99)) == (low, high)


def test_each_backbone_and_data_set_says_what_is_known() -> None:
    def weights(kind: str, **options: object) -> str:
        return licence_of_weights({"_target_": f"dml.backbones.{kind}", **options}).terms

    assert weights("EfficientNetLite0", pretrained=True) == "Apache 2.0, below"
    assert weights("EfficientNetLite0", pretrained=False) == weights("ConvNet") == RANDOM
    assert weights("BNInception", pretrained=True) == UNKNOWN and "BSD" in weights(
        "ResNet50", pretrained=True
    )
    assert weights("Timm", pretrained=True, model="resnet18", checkpoint=None) == "apache-2.0"
    assert weights("Timm", pretrained=True, model="resnet18", checkpoint="a.pth") == UNKNOWN
    assert weights("Own", pretrained=True) == UNKNOWN
    unknown, files = set(), sorted((ROOT / "configs" / "dataset").glob("*.yaml"))
    for path in files:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        dataset = content.get("dataset", content)
        if "_target_" in dataset and licence_of_data(dataset).terms == UNKNOWN:
            unknown.add(path.stem)
    assert len(files) > 10 and unknown == {"folder", "hub", "shards", "table"}
