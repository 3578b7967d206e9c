import pytest
from omegaconf import OmegaConf

from dml.config import ConfigError, build
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


class Heir(Component):
    pass


def node(kind: str = "Component", **options: object):
    return OmegaConf.create({"_target_": f"{__name__}.{kind}", **options})


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        __import__("sys").modules,
        __name__,
        __import__("types").SimpleNamespace(Component=Component, Wrapper=Wrapper, Heir=Heir),
    )


def test_late_values_arrive_as_keywords() -> None:
    built = build(node(size=3, pair=[4, 5]), late=7)
    assert (built.late, built.size, built.pair) == (7, 3, [4, 5])


@pytest.mark.parametrize("kind", ["Component", "Wrapper"])
def test_a_misspelt_argument_is_refused_with_the_right_one(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"siez.*did you mean size\?"):
        build(node(kind, siez=3), late=7)


@pytest.mark.parametrize("kind", ["Component", "Wrapper", "Heir"])
@pytest.mark.parametrize(
    ("key", "value"), [("size", "abc"), ("size", 1.5), ("rate", "x"), ("name", 3), ("pair", 1)]
)
def test_a_wrong_type_is_refused_with_the_accepted_one(kind: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=.*accepted: "):
        build(node(kind, **{"size": 3, key: value}), late=7)


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
