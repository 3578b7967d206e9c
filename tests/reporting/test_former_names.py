import runpy
import sys
from pathlib import Path

import pytest

from dml.config import ConfigError
from dml.reporting.former_names import former_row, refuse_former_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("loss=c2", "type loss=contrastive"),
        ("loss=triplet,c2", "type loss=contrastive"),
        (
            "experiment=sop/conventional_resnet50/proxy_nca_pp_gsp_zero_shot",
            "type published=conventional_resnet50 dataset=sop loss=proxy_nca_pp pooling=gsp_max$",
        ),
        (
            "experiment=cars/mlrc/c2_xbm_gap,emoji/gap",
            "type published=mlrc dataset=cars loss=contrastive pooling=gap memory=xbm$",
        ),
    ],
)
def test_a_former_name_is_refused_with_the_new_one(argument: str, command: str) -> None:
    with pytest.raises(ConfigError, match=command):
        refuse_former_names(["seed=0", argument])


def test_other_arguments_pass() -> None:
    refuse_former_names(
        ["-m", "loss=c1,contrastive", "experiment=emoji/gap", "--cfg", "job", "loss.margin=0.2"]
    )


def test_a_row_knows_the_folder_that_it_formerly_had() -> None:
    assert former_row(["contrastive", "xbm", "gsp_gem"]) == "c2_xbm_gsp_zero_shot"
    assert former_row(["triplet", "gap_max"]) == "triplet_gap"


def test_train_py_says_it_in_one_line_before_anything_is_composed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "experiment=cub/mlrc/c1_gap"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith(
        "error: experiment=cub/mlrc/c1_gap is a product now: type published="
    )
