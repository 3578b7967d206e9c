"""The page of a shared model: what it is, what it reached, on what, and what may be done with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dml.config import TrainConfig, settings
from dml.export.intervals import test_intervals
from dml.export.licences import licence_of_data, licence_of_weights
from dml.run_folder import RunFolder
from dml.shared_models import import_hub
from dml.training import load_checkpoint

__all__ = ["model_card"]


def model_card(
    run: RunFolder,
    cfg: TrainConfig,
    *,
    plain: Mapping[str, Any],
    name: str,
    fingerprint: str,
    measured: bool,
    licence: str | None,
    command: str,
) -> str:
    """README.md of a shared model, with the metadata that the Hugging Face Hub reads.

    Args:
        plain: the configuration as it is shared.
        name: how it is loaded, ``hf:USER/NAME`` or the name of its folder.
        fingerprint: of the model.
        measured: whether the figures of the run are those of this model.
        licence: an identifier that whoever shares it chose for the weights; None if none was.
        command: by which it was trained.
    """
    figures = _figures(run) if measured else {}
    intervals = test_intervals(run) if "test" in figures else {}
    sections = {
        "Figures": _table(figures, intervals),
        "Data": _data(run, cfg),
        "Licence": _licences(cfg, licence),
        "Settings": _settings(plain, command, fingerprint),
    }
    lines = [*_heading(cfg, name)]
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return f"---\n{_metadata(name, cfg, figures, licence)}\n---\n\n" + "\n".join(lines) + "\n"


def _heading(cfg: TrainConfig, name: str) -> Iterator[str]:
    pooling, backbone = (str(part["_target_"]).rpartition(".")[2] for part in (cfg.pooling, cfg.backbone))
    yield f"# {name.rpartition('/')[2]}"
    yield ""
    yield f"Image embeddings of {cfg.embedding_dim} numbers: {backbone} with {pooling}, trained by dml. The dot product"
    yield "of two vectors is the similarity of the images."
    yield ""
    yield "```python"
    yield "import dml"
    yield ""
    yield f'model = dml.load_model("{name}")  # runs no code of this page'
    yield 'vectors = model.embed(["a.jpg", "b.jpg"])'
    yield "```"


def _figures(run: RunFolder) -> dict[str, dict[str, float]]:
    """Those of metrics.json, by what was measured, without those before training; {} of a run that is not finished."""
    if not run.metrics.is_file():
        return {}
    content = json.loads(run.metrics.read_text(encoding="utf-8"))
    return {part: content[part] for part in ("test", "val", "train") if isinstance(content.get(part), dict)}


def _table(
    figures: Mapping[str, Mapping[str, float]], intervals: Mapping[str, tuple[float, float]]
) -> Iterator[str]:
    if not figures:
        yield "This checkpoint was not measured."
        return
    yield "| images | metric | % | 95 % interval |"
    yield "| --- | --- | ---: | --- |"
    for part, values in figures.items():
        for metric, value in values.items():
            if isinstance(value, float):  # the others are counts
                low, high = intervals.get(metric, (None, None)) if part == "test" else (None, None)
                interval = "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f}"
                yield f"| {part} | {metric} | {100 * value:.2f} | {interval} |"
    yield ""
    yield "*test* and *val* are of classes that were not trained on. The interval is over the test classes, drawn anew;"
    yield "another seed of the training is not in it."


def _data(run: RunFolder, cfg: TrainConfig) -> Iterator[str]:
    """Which images they were: their numbers, and a hash of the names of files and classes."""
    data = licence_of_data(cfg.dataset)
    yield f"{data.name}: {data.terms}."
    yield ""
    known = load_checkpoint(run.last).get("record", {}).get("data") if run.last.is_file() else None
    for part, content in (known or {}).items():
        yield f"- {part}: {len(content['classes']):,} classes, files and labels {content['images'][:16]}"
    protocol = {key: value for key, value in cfg.protocol.items() if key != "_partial_"}
    yield f"- split by {protocol.pop('_target_')}" + (f" with {json.dumps(protocol)}" if protocol else "")


def _licences(cfg: TrainConfig, licence: str | None) -> Iterator[str]:
    weights = licence_of_weights(cfg.backbone)
    yield f"The weights: {licence or 'none was stated by whoever shared them'}. They started from {weights.name}:"
    yield f"{weights.terms}. LICENSES has the texts."


def _settings(plain: Mapping[str, Any], command: str, fingerprint: str) -> Iterator[str]:
    yield f"    {command}"
    yield ""
    yield "| key | value |"
    yield "| --- | --- |"
    for key, value in settings(dict(plain)).items():
        yield f"| {key} | {json.dumps(value)} |"
    yield ""
    yield f"config.yaml has all of them. Fingerprint of the model: {fingerprint}"


def _metadata(
    name: str, cfg: TrainConfig, figures: Mapping[str, Mapping[str, float]], licence: str | None
) -> str:
    hub, data = import_hub(), licence_of_data(cfg.dataset)
    results = [
        hub.EvalResult(
            task_type="image-feature-extraction",
            dataset_type=str(cfg.dataset["_target_"]).rpartition(".")[2],
            dataset_name=data.name,
            dataset_split="test",
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in figures.get("test", {}).items()
        if isinstance(value, float)
    ]
    card = hub.ModelCardData(
        library_name="dml-gsp",
        pipeline_tag="image-feature-extraction",
        tags=["metric-learning", "image-retrieval"],
        license=licence or "other",
        model_name=name,
        eval_results=results or None,
    )
    return str(card.to_yaml()).strip()
