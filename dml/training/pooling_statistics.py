"""What a pooling does with a batch, in numbers: how far its weights vary, how many of its prototypes are in use."""

from __future__ import annotations

import warnings

from torch import Tensor

from dml.functional.sharpness import effective_share
from dml.types import Pooled

__all__ = ["collapse_warnings", "pooling_statistics", "prototype_use", "warn_of_collapse"]

LEAST_SPREAD = 0.02  # below, a location counts for 2 % more or less than another: that is average pooling
LARGEST_SHARE = 0.9  # above, the attributes of all images are nearly the same


def pooling_statistics(pooled: Pooled) -> dict[str, Tensor]:
    """Scalars by name, for what the pooling gives: nothing for one without weights and prototypes.

    weights/spread:              standard deviation of the weights over their mean, averaged over the images; 0 for
                                 average pooling.
    weights/effective_locations: the share of the locations that would give the same ``Σ weights²`` if only they
                                 counted, all alike; averaged over the images.
    weights/effective_share:     likewise by the entropy of the weights, as `pooling.effective_share` asks for it.
    prototypes/largest_share:    of the prototype that has most of the attributes, in `prototype_use`.
    prototypes/effective_number: how many prototypes, all alike, would give the same ``Σ use²``.
    """
    statistics = {}
    if pooled.weights is not None:
        relative = (
            pooled.weights.detach() * pooled.weights.shape[1]
        )  # 1 where a location counts as in the mean
        statistics["weights/spread"] = (relative - 1).square().mean(dim=1).sqrt().mean()
        statistics["weights/effective_locations"] = relative.square().mean(dim=1).reciprocal().mean()
        statistics["weights/effective_share"] = effective_share(pooled.weights.detach()).mean()
    if pooled.attributes is not None:
        use = prototype_use(pooled.attributes)
        statistics["prototypes/largest_share"] = use.amax()
        statistics["prototypes/effective_number"] = use.square().sum().reciprocal()
    return statistics


def prototype_use(attributes: Tensor) -> Tensor:
    """The share of the attributes (B, M) of all images that each prototype has, (M,); they sum to 1."""
    return attributes.detach().mean(dim=0)


def warn_of_collapse(step: int, pooled: Pooled, said: set[str]) -> None:
    """Say what the pooling no longer does, each thing once in a run: what was ``said`` is kept there."""
    for statistic, sentence in collapse_warnings(pooled).items():
        if statistic not in said:
            said.add(statistic)
            warnings.warn(f"step {step}: {sentence}", stacklevel=2)


def collapse_warnings(pooled: Pooled) -> dict[str, str]:
    """A sentence for each way in which the pooling has stopped to select, by the name of the statistic that says so.

    Weights that are equal to the last bit are meant to be: average pooling, or a transport ratio of 1. Without
    attributes the pooling is not GSP, and equal weights need not be average pooling: balanced transport always has
    them, and slots or channels may be weighed besides.
    """
    statistics, sentences = pooling_statistics(pooled), {}
    weights, attributes = pooled.weights, pooled.attributes
    if weights is not None and attributes is not None and bool(weights.amin() < weights.amax()):
        spread = statistics["weights/spread"].item()
        if spread < LEAST_SPREAD:
            sentences["weights/spread"] = (
                f"the weights of the locations spread by {spread:.2%} around uniform, less than {LEAST_SPREAD:.0%}: "
                "this pooling has become average pooling. It selects more with a larger pooling.sharpness; pooling=gap "
                "gives the same for less"
            )
    if attributes is not None and attributes.shape[1] > 1:
        largest = statistics["prototypes/largest_share"].item()
        if largest > LARGEST_SHARE:
            sentences["prototypes/largest_share"] = (
                f"one of {attributes.shape[1]} prototypes has {largest:.1%} of all attributes, more than "
                f"{LARGEST_SHARE:.0%}: they tell no image from another, and the zero-shot loss learns nothing from "
                "them. Try a smaller learning_rates.prototypes or pooling.sharpness"
            )
    return sentences
