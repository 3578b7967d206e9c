import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from dml.config import register_schema
from dml.lookups import LOSSES

BY_DATASET = "${by_dataset:{cub: 1, cars: 2, other: 3}}"
BY_KIND = "${by_kind:{pairs: few, proxies: many}}"


def look_up(text: str, **parts: str) -> object:
    register_schema()
    cfg = OmegaConf.create({name: {"_target_": target} for name, target in parts.items()} | {"found": text})
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
    for path in LOSSES.glob("*.yaml"):
        by_name = look_up(BY_KIND.replace(":{", f":{path.stem},{{"))
        assert OmegaConf.create({"loss": OmegaConf.load(path), "found": BY_KIND}).found == by_name, path
        kinds[path.stem] = by_name
    assert (
        kinds["contrastive"] == kinds["smooth_ap"] == "few"
        and kinds["arcface"] == kinds["soft_triple"] == "many"
    )


def test_a_loss_that_has_no_file_compares_pairs() -> None:
    assert look_up(BY_KIND.replace(":{", ":my_loss,{")) == "few"
