import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from dml.config import register_schema

CONFIGS = Path(__file__).parent.parent / "configs"

BY_DATASET = "${by_dataset:{cub: 1, cars: 2, other: 3}}"
BY_KIND = "${by_kind:{pairs: few, proxies: many}}"


def look_up(found: str, *, text: str = "", **parts: str) -> object:
    register_schema()
    cfg = OmegaConf.create(
        {name: {"_target_": target} for name, target in parts.items()} | {"found": found, "text": text}
    )
    return cfg.found


@pytest.mark.parametrize(
    ("target", "value"), [("dml.data.cars", 2), ("dml.data.emoji_dataset", 3), ("my.cub", 3)]
)
def test_a_value_goes_by_the_data_set_or_is_that_of_all_others(target: str, value: int) -> None:
    assert look_up(BY_DATASET, dataset=target) == value


def test_a_data_set_without_a_value_is_refused() -> None:
    with pytest.raises(
        InterpolationResolutionError, match=r"dataset=sop has no value among cub, cars: give one"
    ):
        look_up("${by_dataset:{cub: 1, cars: 2}}", dataset="dml.data.sop")


@pytest.mark.parametrize(("name", "value"), [("cub", 1), ("sop", 3)])
def test_a_name_may_be_given_instead(name: str, value: int) -> None:
    assert look_up(BY_DATASET.replace(":{", f":{name},{{"), dataset="dml.data.cars") == value


def test_the_kind_of_a_loss_is_the_same_by_its_values_and_by_its_name() -> None:
    kinds = {}
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for path in (CONFIGS / "loss").glob("*.yaml"):
            by_name = look_up(BY_KIND.replace(":{", f":{path.stem},{{"))
            assert OmegaConf.create({"loss": OmegaConf.load(path), "found": BY_KIND}).found == by_name, path
            kinds[path.stem] = by_name
    assert (
        kinds["contrastive"] == kinds["smooth_ap"] == "few"
        and kinds["arcface"] == kinds["soft_triple"] == "many"
    )


@pytest.mark.parametrize(("text", "name"), [("seed=1_a=b", "seed=1_a=b"), ("root=/a/b\\c\n", "root=-a-b-c-")])
def test_the_name_of_a_folder_parts_no_folders(text: str, name: str) -> None:
    assert look_up("${folder_name:${text}}", text=text) == name


@pytest.mark.parametrize("letter", ["x", "é", "日", "/"])
def test_a_long_name_of_a_folder_is_cut_and_still_its_own(letter: str) -> None:
    names = {str(look_up("${folder_name:${text}}", text=letter * 300 + end)) for end in ("", "a", "b")}
    assert len(names) == 3 and all(len(f"99999_{name}".encode()) < 255 and "/" not in name for name in names)
    assert all(name.startswith((letter * 60).replace("/", "-")) for name in names)


@pytest.mark.parametrize("packaged", [False, True])
def test_a_loss_of_ones_own_has_its_kind_wherever_it_lies(packaged: bool, tmp_path: Path) -> None:
    """Its proxies may be in another file, and a file may put its values under ``loss`` by itself."""
    (tmp_path / "loss").mkdir()
    own = "# @package _global_\nloss: {_target_: my.Loss}\n" if packaged else "_target_: my.Loss\n"
    shutil.copy(CONFIGS / "loss" / "arcface.yaml", tmp_path / "loss")
    (tmp_path / "loss" / "my_pairs.yaml").write_text(own)
    (tmp_path / "loss" / "my_proxies.yaml").write_text(f"defaults: [arcface, _self_]\n{own}")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        for name, kind in (("my_pairs", "few"), ("my_proxies", "many")):
            assert look_up(BY_KIND.replace(":{", f":{name},{{")) == kind


def test_a_name_that_is_no_loss_is_refused_with_those_that_are() -> None:
    register_schema()
    with (
        initialize_config_dir(str(CONFIGS), version_base="1.3"),
        pytest.raises(MissingConfigException, match=r"(?s)Could not find 'loss/my_loss'.*contrastive"),
    ):
        compose("train", ["published=mlrc", "dataset=cub", "loss=my_loss"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no finished run"),
        ('{"test": {}}', "of a version that did not write"),
        ('{"step": 0}', "kept the untrained model"),
    ],
)
def test_a_run_without_a_length_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(InterpolationResolutionError, match=f"protocol.run=.* {said}"):
        look_up(f"${{kept_step:{tmp_path}}}")


def test_the_length_of_a_run_is_the_step_that_it_kept(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"step": 250}')
    assert look_up(f"${{kept_step:{tmp_path}}}") == 250
