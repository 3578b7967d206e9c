from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import MISSING, OmegaConf

from dml.config import (
    ConfigError,
    TrainConfig,
    build,
    config_differences,
    late_values,
    load_config,
    parse_arguments,
)
from dml.errors import InputError


class Component:
    def __init__(
        self,
        late: int,
        *,
        size: int,
        rate: float = 0.5,
        pair: tuple[int, int] = (1, 2),
        name: str | None = None,
    ):
        if size < 0:
            raise ValueError("size is negative")
        if size == 99:
            raise InputError("size is 99")
        self.late, self.size, self.rate, self.pair, self.name = late, size, rate, pair, name


class Wrapper(Component):
    def __init__(self, late: int, **options: object) -> None:
        super().__init__(late, **options)  # type: ignore[arg-type]


def node(kind: str = "Component", **options: object):
    return OmegaConf.create({"_target_": f"{__name__}.{kind}", **options})


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules,
        __name__,
        __import__("types").SimpleNamespace(Component=Component, Wrapper=Wrapper),
    )


def test_late_values_arrive_as_keywords() -> None:
    built = build(node(size=3, pair=[4, 5]), late=7)
    assert (built.late, built.size, built.pair) == (7, 3, [4, 5])


@pytest.mark.parametrize("kind", ["Component", "Wrapper"])
def test_a_misspelt_argument_is_refused_with_the_right_one(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"siez.*did you mean size\?"):
        build(node(kind, siez=3), late=7)


@pytest.mark.parametrize(
    ("key", "value"), [("size", "abc"), ("size", 1.5), ("rate", "x"), ("name", 3), ("pair", 1)]
)
def test_a_wrong_type_is_refused_with_the_accepted_one(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=.*accepted: "):
        build(node(**{"size": 3, key: value}), late=7)


@pytest.mark.parametrize(("key", "value"), [("rate", 1), ("name", None), ("name", "x"), ("pair", [1, 2])])
def test_a_fitting_type_is_accepted(key: str, value: object) -> None:
    assert getattr(build(node(**{"size": 3, key: value}), late=7), key) == value


def test_a_value_left_open_is_named() -> None:
    with pytest.raises(ConfigError, match="size is left open"):
        build(node(size="???"), late=7)


def test_the_error_of_a_constructor_names_the_component() -> None:
    with pytest.raises(ConfigError, match=r"^component: size is negative$"):
        build(node(size=-1), late=7)


def test_an_error_of_the_user_comes_through_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^size is 99$"):
        build(node(size=99), late=7)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ConfigError, match=r"dml\.nothing cannot be imported"):
        build(OmegaConf.create({"_target_": "dml.nothing"}))


def test_a_node_without_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a _target_"):
        build(OmegaConf.create({"size": 1}))


def test_a_late_argument_that_is_missing_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="late"):
        build(node(size=1))


def test_late_values_fill_only_what_is_open() -> None:
    open_node = OmegaConf.create({"num_classes": "???", "margin": 0.1})
    late_values(open_node, num_classes=5, margin=9, other=1)
    assert OmegaConf.to_container(open_node) == {"num_classes": 5, "margin": 0.1}


@dataclass
class Arguments:
    run: str = MISSING
    count: int = 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu=x"], "rnu.*accepted keys: run=, count="),
        (["run=x", "count=many"], "many"),
        (["count=1"], "run= is required"),
        (["folder"], "not of the form key=value"),
        (["run=*.jpg"], "run=.*YAML reads.*put quotes inside"),
    ],
)
def test_wrong_script_arguments_get_a_sentence(arguments: Sequence[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(Arguments, list(arguments))


def test_script_arguments_become_the_dataclass() -> None:
    assert parse_arguments(Arguments, ["run=a/b", "count=5"]) == Arguments("a/b", 5)


def test_a_missing_or_foreign_configuration_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("sede: 7\n")
    with pytest.raises(ConfigError, match="sede"):
        load_config(tmp_path / "config.yaml")


def test_every_trunk_value_stands_in_yaml(compose_config) -> None:  # type: ignore[no-untyped-def]
    config: TrainConfig = compose_config()
    left_open = OmegaConf.missing_keys(config)
    assert left_open <= {"loss.num_classes", "loss.embedding_size"}


@pytest.mark.parametrize("content", ["[1, 2]", "just words", "a: [", b"\xff\xfe\x00", ""])
def test_a_file_that_is_no_configuration_is_refused(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r"config.yaml (is no configuration|is not complete|does not fit)"):
        load_config(path)


def places(data: str, root: str, weights: str) -> dict:
    return {"paths": {"data": data}, "dataset": {"root": root}, "backbone": {"weights": weights}}


def test_files_that_have_moved_are_the_same_and_others_are_not() -> None:
    here = places("data", "data", "data/weights/a.pth")
    assert config_differences(here, places("/disk/sets", "/disk/sets/", "/home/a.pth")) == []
    assert config_differences(here, places("/disk", "/disk/birds", "a.pth")) == [
        "dataset.root: data -> /disk/birds"
    ]
    assert config_differences(here, places("data", "data", "data/weights/b.pth")) == [
        "backbone.weights: data/weights/a.pth -> data/weights/b.pth"
    ]
    assert config_differences({"dataset": {"name": "/a/saved"}}, {"dataset": {"name": "/b/saved"}}) == []
