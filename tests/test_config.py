from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import MISSING, OmegaConf

from dml.config import ConfigError, TrainConfig, build, late_values, load_config, parse_arguments, to_plain


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


def test_the_error_of_a_constructor_comes_through_as_it_is() -> None:
    with pytest.raises(ValueError, match=r"^size is negative$"):
        build(node(size=-1), late=7)


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


def test_a_configuration_from_before_there_were_miners_has_none(compose_config, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    saved = OmegaConf.to_container(compose_config("loss=triplet"))
    del saved["miner"]
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(saved)))
    assert load_config(tmp_path / "config.yaml").miner == compose_config().miner == {"_target_": None}


def test_every_trunk_value_stands_in_yaml(compose_config) -> None:  # type: ignore[no-untyped-def]
    config: TrainConfig = compose_config()
    left_open = OmegaConf.missing_keys(config)
    assert left_open <= {"loss.num_classes", "loss.embedding_size"}


def test_a_run_from_before_an_option_of_its_pooling_has_the_default(
    compose_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    now = to_plain(compose_config())
    before = {**now, "pooling": {k: v for k, v in now["pooling"].items() if k != "prototype_start"}}
    OmegaConf.save(OmegaConf.create(before), tmp_path / "config.yaml")
    assert to_plain(load_config(tmp_path / "config.yaml")) == now
