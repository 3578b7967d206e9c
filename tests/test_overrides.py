"""What is typed as a text arrives as that text, and what cannot be known says how to quote."""

import re
import shlex
import subprocess
from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dml.config import ConfigError, TrainConfig
from dml.overrides import argument, as_typed, beside_resume, resume_command, train_command

Compose = Callable[..., TrainConfig]
NAMES = (
    "2024_11_05", "007", "on", "12:30:00", "photos #2", "photos (2024)", "été", "a=b", "a,b", "true", "1e3", "NaN",
    "[old] photos", "it's", 'say "x"', "C:\\photos\\", " a ", "50%", "a: b", "x\\ y", "{a}", "?!&;<>|*$x", "日本",
)  # fmt: skip
KEYS = (
    "resume", "paths.runs", "trainer.select_by", "dataset.root", "dataset.path", "dataset.name", "dataset.cache_folder",
    "backbone.checkpoint", "backbone.weights", "hydra.run.dir", "hydra.sweep.dir", "hydra.job.name", "+dataset.root",
    "++resume",
)  # fmt: skip


def read(*typed: str) -> object:
    """What Hydra makes of the last argument."""
    return OverridesParser.create().parse_overrides(as_typed(typed)[-1:])[0].value()


@pytest.mark.parametrize("key", KEYS)
def test_a_text_arrives_as_it_is_typed(key: str) -> None:
    assert [read(f"{key}={name}") for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", ["2024_11_05", "photos #2, (2024)", "on", "12:30:00"])
def test_it_stands_so_in_the_configuration(name: str, compose_config: Compose) -> None:
    typed = [f"{key}={name}" for key in ("dataset.root", "resume", "paths.runs", "backbone.checkpoint")]
    cfg = compose_config(*as_typed(["dataset=folder", "backbone=timm", *typed]))
    assert cfg.dataset.root == cfg.resume == cfg.paths.runs == cfg.backbone.checkpoint == name


def test_over_the_folders_of_hydra_nothing_is_swept() -> None:
    assert read("-m", "hydra.sweep.dir=a,b") == "a,b"


@given(st.text(min_size=1))
@example("null")
@example("~")
@example("${a}")
@example("'a'")
@example("\\")
@example('\\"')
def test_an_argument_that_we_print_is_that_very_text(text: str) -> None:
    cfg = OmegaConf.create({"resume": read(argument("resume", text))})
    assert cfg.resume == text


def test_what_hydra_reads_as_it_stands_stays_as_it_stands() -> None:
    plain = [
        "dataset.root=photos",
        "resume=runs/a-1",
        "seed=7",
        "dataset=cub",
        "~optimizer.fused",
        "-m",
        "--help",
    ]
    assert as_typed(plain) == plain


def test_quotes_of_ones_own_null_and_look_ups_keep_their_meaning(compose_config: Compose) -> None:
    assert read("dataset.root='a, b'") == "a, b" and read('resume="null"') == "null"
    assert read("resume=null") is None and read("backbone.checkpoint=NULL") is None
    typed = as_typed(["dataset=folder", "dataset.root=${paths.data}/my photos (2)", "paths.data=07:10"])
    assert compose_config(*typed).dataset.root == "07:10/my photos (2)"


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/été (1)")
    assert read("dataset.root=~/photos") == "/home/été (1)/photos" and read("paths.data=~") == "/home/été (1)"
    assert read("dataset.root='~/photos'") == "~/photos" and read("dataset.root=a/~/b") == "a/~/b"


def test_lists_are_lists_of_texts() -> None:
    assert read("dataset.root=[2024_11_05.tar,007,'a,b',photos #2]") == [
        "2024_11_05.tar",
        "007",
        "a,b",
        "photos #2",
    ]
    assert read("trust=[on,b]") == ["on", "b"] and read("trust=[]") == []


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("dataset.root=photos #2,2024_11_05,plain", ["photos #2", "2024_11_05", "plain"]),
        ("resume='a,b',it's", ["a,b", "it's"]),
        ("dataset.root=choice(a,b)", ["a", "b"]),
    ],
)
def test_in_a_multirun_commas_part_texts(typed: str, values: list[str]) -> None:
    override = OverridesParser.create().parse_overrides(as_typed(["-m", typed])[1:])[0]
    found = [
        OverridesParser.create().parse_overrides([f"k={v}"])[0].value()
        for v in override.sweep_string_iterator()
    ]
    assert found == values


@pytest.mark.parametrize(
    "typed", ["loss.margin=a=b", "+loss.name=photos #2", "+mine.place=~/x", "pooling.kind=(a"]
)
def test_where_it_cannot_be_known_the_message_says_how_to_quote(typed: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^{re.escape(typed)}: Hydra cannot read.*quotes inside of"
    ) as error:
        as_typed([typed])
    (quoted,) = shlex.split(str(error.value).rpartition("shell: ")[2])
    assert read(quoted) == typed.partition("=")[2]


def test_a_key_that_is_none_is_left_to_hydra() -> None:
    assert as_typed(["é=3"]) == ["é=3"]


@pytest.mark.parametrize("name", [*NAMES, "'a'", "~/x", "null", "$HOME", "${paths.data}"])
def test_a_printed_command_survives_the_shell(name: str) -> None:
    said = subprocess.run(
        ["bash", "-c", f"dml() {{ printf '%s\\0' \"$@\"; }}; {resume_command(name)}"],
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    assert said[0] == "train" and OmegaConf.create({"resume": read(said[1])}).resume == name
    assert shlex.split(train_command("a b", "c")) == ["dml", "train", "a b", "c"]


def test_beside_resume_values_for_the_parts_of_the_run_may_be_new_to_hydra() -> None:
    free = ["dataset.cache=true", "loss.margin=0.3", "transform.train.flip=false"]
    others = ["sede=7", "learning_rates.bakbone=1", "pooling=gap", "+loss.x=1", "~optimizer.fused", "-m"]
    assert beside_resume(["resume=r", *free, *others]) == [
        "resume=r",
        *(f"++{word}" for word in free),
        *others,
    ]


@pytest.mark.parametrize("resume", ["seed=1", "resume=auto", "resume=null", "resume=r resume=auto"])
def test_without_a_folder_to_resume_what_hydra_does_not_know_stays_refused(resume: str) -> None:
    words = [*resume.split(), "dataset.cahce=true"]
    assert beside_resume(words) == words
