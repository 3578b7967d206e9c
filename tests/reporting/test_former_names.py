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
        ("trainer.warmup_steps=100", "type trainer.frozen_backbone_steps=100$"),
        ("+trainer.warmup_steps=1,2", "type trainer.frozen_backbone_steps=1,2$"),
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


@pytest.mark.parametrize(
    ("setting", "loss", "pooling", "folder"),
    [
        ("conventional_resnet50", "contrastive memory=xbm", "gsp_gem", "c2_xbm_gsp_zero_shot"),
        ("mlrc", "triplet", "gap", "triplet_gap"),
        ("mlrc", "triplet", "gap_max", None),
        ("conventional_resnet50", "c1", "gsp_max", None),
        ("mlrc", "c1 loss.margin=0.4", "gap", None),
        ("mlrc", "c1", "gsp zero_shot.weight=0", None),
    ],
)
def test_a_row_that_was_a_file_knows_its_former_folder_and_no_other_row_takes_it(
    setting: str, loss: str, pooling: str, folder: str | None
) -> None:
    assert former_row("cub", setting, loss.split(), pooling.split()) == folder
    assert former_row("emoji", setting, loss.split(), pooling.split()) is None


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
