"""What is refused ends in one sentence that names what is accepted, and gives no advice that is refused as well."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dml.composition import compose
from dml.config import ConfigError, TrainConfig, check_config
from dml.overrides import as_typed

Compose = Callable[..., TrainConfig]


def refused(*typed: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config(compose(typed), "it")
    said = str(caught.value).partition("does not compose: ")[2] or str(caught.value)
    assert "\n" not in said and "To append" not in said and "HYDRA_FULL_ERROR" not in said
    return said


@pytest.mark.parametrize(
    ("typed", "begins", "lists"),
    [
        ("sede=7", "sede: there is no such key; did you mean seed or", " scheduler, seed, trainer,"),
        ("poling=gsp", "poling: there is no such key; did you mean pooling?", " published, resume,"),
        ("poling.sharpness=3", "poling: there is no such key; did you mean pooling?", " dataset, debug,"),
        ("learning_rates.bakbone=1", "learning_rates.bakbone: ", "learning_rates.backbone? Accepted: backbone, head,"),
        ("pooling.sharpnes=3", "pooling.sharpnes: ", "pooling.sharpness? Accepted: num_prototypes, transport_ratio,"),
        ("transform.siz=3", "transform.siz: ", "transform.size? Accepted: size, short_side, train, evaluation"),
        ("zzz=1", "zzz: there is no such key; accepted: ", "accept_changes, backbone,"),
        ("+sede=7", "it does not fit the schema: sede: ", "seed or"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_answered_with_near_ones_and_those_at_its_place(
    typed: str, begins: str, lists: str
) -> None:
    said = refused(typed)
    assert said.startswith(begins) and lists in said and "+sede" not in said and "hydra" not in said


def test_what_a_component_takes_beyond_its_file_is_added_and_that_is_not_refused() -> None:
    assert "is added by +optimizer.NAME=VALUE" in refused("optimizer.fuzed=true")
    assert check_config(compose(["+optimizer.maximize=true"]), "it").optimizer.maximize is True


@pytest.mark.parametrize(
    ("typed", "accepted"),
    [
        ("trainer.max_steps=abc", "a whole number"),
        ("trainer.max_steps=1.5", "a whole number"),
        ("trainer.compile=maybe", "true or false"),
        ("trainer.patience=x", "a whole number or null"),
        ("learning_rates.head=much", "a number"),
        ("num_workers=[1]", "a whole number or a text"),
        ("evaluator.recall_at=x", "a list in [ ], each of it a whole number"),
        ("seed=null", "a whole number"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_the_accepted_ones(typed: str, accepted: str) -> None:
    said = refused(typed)
    assert said.startswith(typed.partition("=")[0]) and said.endswith(
        f"is of the wrong type; accepted: {accepted}"
    )


def test_so_are_a_value_for_a_whole_part_a_part_for_a_value_and_one_in_a_list() -> None:
    assert "trainer.max_steps, trainer.eval_every" in refused("trainer=3")
    assert refused("seed.x=1") == "seed is of the wrong type; accepted: a whole number"
    assert refused("evaluator.recall_at=[1,a]").startswith("evaluator.recall_at[1]=a is of the wrong type")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("pooling=gps", "pooling=gps does not exist; did you mean gsp or gap? Accepted: cbam, crow,"),
        ("experiment=emoji/gps", "experiment=emoji/gps does not exist; did you mean emoji/gsp or emoji/gap?"),
        ("experiment=emojy/gsp", "experiment=emojy/gsp does not exist; did you mean emoji/gsp or"),
        ("loss=zzz", "loss=zzz does not exist; accepted: "),
    ],
)
def test_a_choice_that_does_not_exist_is_answered_with_those_that_do(typed: str, said: str) -> None:
    assert refused(typed).startswith(said)


def test_a_saved_configuration_is_refused_in_the_same_words(compose_smoke: Compose, tmp_path: Path) -> None:
    cfg = OmegaConf.create(OmegaConf.to_container(compose_smoke()))  # type: ignore[arg-type]
    cfg.trainer.max_step = 3
    with pytest.raises(ConfigError, match=r"^it does not fit the schema: trainer\.max_step: .*max_steps\?"):
        check_config(cfg, "it")  # type: ignore[arg-type]


def test_of_a_misspelt_argument_no_component_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dml.overrides._components", lambda group: pytest.fail(f"{group} was imported"))
    assert as_typed(["pooling.sharpnes=3"]) == ["pooling.sharpnes=3"]
