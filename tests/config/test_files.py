from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from dml.config import ConfigError, TrainConfig, check_config, load_config, settle, to_plain

Compose = Callable[..., TrainConfig]


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


def test_a_settled_configuration_is_complete_and_cannot_be_changed(compose_smoke: Compose) -> None:
    cfg = settle(compose_smoke("loss=soft_triple", "loss.embedding_size=7"), num_classes=5)
    assert (cfg.loss.num_classes, cfg.loss.embedding_size) == (5, 7) and not OmegaConf.missing_keys(cfg)
    for change in ("loss.margin", "trainer.max_steps", "seed"):
        with pytest.raises(ReadonlyConfigError):
            OmegaConf.update(cfg, change, 1)  # type: ignore[arg-type]


def test_settling_changes_nothing_that_was_said(compose_smoke: Compose) -> None:
    cfg = compose_smoke()
    before = to_plain(cfg)
    assert to_plain(settle(cfg, num_classes=5)) == to_plain(cfg) == before


def test_what_refers_to_a_late_value_has_it_once_it_is_known(compose_smoke: Compose) -> None:
    cfg = compose_smoke("loss=normalized_softmax", "+loss.copied=${loss.num_classes}")
    assert to_plain(settle(cfg, num_classes=5))["loss"]["copied"] == 5


def test_a_saved_configuration_with_a_value_out_of_range_is_refused(compose_smoke: Compose) -> None:
    cfg = compose_smoke("trainer.eval_every=0")
    with pytest.raises(ConfigError, match=r"^trainer.eval_every=0 must be at least 1$"):
        check_config(cfg, "config.yaml")
