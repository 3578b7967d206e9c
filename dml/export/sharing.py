"""A run made ready for others: weights without code, configuration, preprocessing and a page that says what it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import dml
from dml.config import to_plain
from dml.errors import InputError, UnavailableError
from dml.export.licences import licences_text
from dml.export.model_card import model_card
from dml.export.placing import placed
from dml.export.preprocessing import preprocessing_of
from dml.index.fingerprint import fingerprint_of
from dml.model import EmbeddingModel
from dml.run_folder import RunFolder
from dml.runs import load_model, located_config, trained_model
from dml.shared_models import HUB, WEIGHTS, hub_name, import_hub, local_folder, write_weights

__all__ = ["share_run"]

SCHEME = re.compile(r"[a-z][a-z\d+.-]+:", re.IGNORECASE)  # of two letters or more: C: is a disk
OF_ENVIRONMENT = ("command", "seed", "python", "git_revision", "packages")


def share_run(
    run: str | os.PathLike[str],
    to: str,
    *,
    checkpoint: str = "best",
    licence: str | None = None,
    private: bool = False,
    trust: Sequence[str] = (),
) -> str:
    """Write what others need of a run, so that `dml.load_model` gives them the same model.

    Files and folders of this machine are left out of configuration, command and page: of each its own name stays.

    Args:
        to: a folder that is new, empty, or was made by this; or ``hf:USER/NAME`` on the Hugging Face Hub.
        checkpoint: ``best`` or ``last``.
        licence: for the weights, an identifier such as ``cc-by-4.0``; None states none.
        private: of a model that is new on the hub.
        trust: as in `dml.load_model`.

    Returns:
        Where it is.

    Raises:
        InputError: ``to`` is written in another way, or what was written does not give the same model.
        OccupiedError: the folder holds something else.
        UnavailableError: huggingface_hub is not installed, or the hub refuses.
    """
    _check_place(to)
    cfg = located_config(run, data=None, device="cpu", trust=trust)
    model = trained_model(cfg, run, checkpoint=checkpoint)
    source, fingerprint = RunFolder(local_folder(run)), fingerprint_of(model)
    config, environment = without_places(to_plain(cfg)), _environment(source)
    command = _without_paths(str(environment.get("command", "not known")))
    with _place(to) as folder:
        write_weights(folder, model.state_dict(), dml.__version__)
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        _write_preprocessing(folder, model)
        (folder / "environment.json").write_text(
            json.dumps(environment | {"command": command}, indent=2) + "\n", encoding="utf-8"
        )
        if source.metrics.is_file() and checkpoint == "best":
            shutil.copyfile(source.metrics, folder / "metrics.json")
        (folder / "LICENSES").write_text(licences_text(cfg.backbone, cfg.dataset), encoding="utf-8")
        name = to if to.startswith(HUB) else Path(to).name
        page = model_card(
            source,
            cfg,
            plain=config,
            name=name,
            fingerprint=fingerprint,
            measured=checkpoint == "best",
            licence=licence,
            command=command,
        )
        (folder / "README.md").write_text(page, encoding="utf-8")
        if fingerprint_of(load_model(folder, trust=trust)) != fingerprint:
            raise InputError(
                f"what was written for {to} gives another model than {run}: nothing was left behind; report it"
            )
        return _upload(folder, to, private=private) if to.startswith(HUB) else to


def _check_place(to: str) -> None:
    if to.startswith(HUB):
        if hub_name(to)[1] is not None:
            raise InputError(
                f"--to {to}: a revision is what the hub gives to each upload; leave out what follows @"
            )
        import_hub()
    elif SCHEME.match(to):
        raise InputError(f"--to {to}: accepted are a folder, and hf:USER/NAME on the Hugging Face Hub")


@contextmanager
def _place(to: str) -> Iterator[Path]:
    if to.startswith(HUB):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with placed(to, WEIGHTS) as folder:
            yield folder


def _upload(folder: Path, to: str, *, private: bool) -> str:
    hub, (name, _) = import_hub(), hub_name(to)
    try:
        api = hub.HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="Share a model of dml"))
    except Exception as error:  # of the hub, of its client for HTTP
        raise UnavailableError(
            f"{to} cannot be written: {error}. Check the name and the connection, and log in by `hf auth login` with a "
            "token that may write"
        ) from error


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration that says nothing of the machine: what lies below ``paths.data`` lies below ``data`` now, and of
    any other place the last part of its path stays.
    """
    data = str(config["paths"]["data"])

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items()}
        if isinstance(value, list):
            return [clean(one) for one in value]
        if not isinstance(value, str) or not Path(value).is_absolute():
            return value
        below = Path(value).is_relative_to(data)
        return str(Path("data", Path(value).relative_to(data))) if below else Path(value).name

    cleaned = clean(config)
    assert isinstance(cleaned, dict)
    cleaned["paths"]["data"] = "data"
    return cleaned


def _without_paths(command: str) -> str:
    """The same for a command: of each absolute path the last part."""
    return re.sub(r"(?<![\w.])/(?:[^\s/=,'\"\[\]]+/)*([^\s/=,'\"\[\]]+)", r"\1", command)


def _environment(source: RunFolder) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        content = json.loads(source.environment.read_text(encoding="utf-8"))
    return {key: content[key] for key in OF_ENVIRONMENT if key in content}


def _write_preprocessing(folder: Path, model: EmbeddingModel) -> None:
    """As far as it is that of this framework; config.yaml names any other."""
    with suppress(InputError):
        content = json.dumps(preprocessing_of(model), indent=2)
        (folder / "preprocess.json").write_text(content + "\n", encoding="utf-8")
