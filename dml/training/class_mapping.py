"""What was learned of each class, for classes that have changed since: it goes by the name."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from dml.losses import CrossBatchMemory, Objective

__all__ = ["ClassMapping"]


@dataclass(frozen=True)
class ClassMapping:
    """Which class of now is which of a checkpoint.

    sources:    for each class of now, the label that it had; -1 for a new one.
    count:      how many classes there were.
    axes:       the parameters of the objective that have something for each class, by name, and the axis of classes.
    new_figure: the validation classes or their images are others, so that no figure of before can be compared.
    """

    sources: tuple[int, ...]
    count: int
    axes: Mapping[str, int]
    new_figure: bool = False

    @staticmethod
    def by_name(
        before: Sequence[str], now: Sequence[str], axes: Mapping[str, int], *, new_figure: bool
    ) -> ClassMapping:
        """The classes of the same names are the same."""
        label = {name: i for i, name in enumerate(before)}
        return ClassMapping(tuple(label.get(name, -1) for name in now), len(before), axes, new_figure)

    @property
    def labels(self) -> Tensor:
        """For each class of the checkpoint its label now, (count,); -1 for one that is gone."""
        labels = torch.full((self.count,), -1)
        for label, source in enumerate(self.sources):
            if source >= 0:
                labels[source] = label
        return labels

    def carry_over(self, state: dict[str, Any], objective: Objective, optimizer: Optimizer) -> dict[str, Any]:
        """The checkpoint as one of the classes of now; new ones are as the objective has them, without moments.

        objective, optimizer: just built, of the classes of now.
        """
        saved = state["objective"]
        fresh = {name: tensor.cpu() for name, tensor in objective.state_dict().items() if name in self.axes}
        moved = {name: self._moved(saved[name], fresh[name], axis) for name, axis in self.axes.items()}
        moments = dict(state["optimizer"]["state"])
        for number, name in _places(objective, optimizer):
            if name in self.axes and number in moments:
                moments[number] = {
                    key: self._moved(value, torch.zeros_like(fresh[name], dtype=value.dtype), self.axes[name])
                    if torch.is_tensor(value) and value.shape == saved[name].shape
                    else value
                    for key, value in moments[number].items()
                }
        return {
            **state,
            "objective": {**saved, **moved, **self._memory(saved, objective.memory)},
            "optimizer": {**state["optimizer"], "state": moments},
        }

    def _memory(self, saved: Mapping[str, Any], memory: CrossBatchMemory | None) -> dict[str, Any]:
        """What was remembered, by its new labels, as the objective names it; nothing without a memory."""
        part = "memory."
        found = {name.removeprefix(part): value for name, value in saved.items() if name.startswith(part)}
        if memory is None or not found:
            return {}
        memory = copy.deepcopy(memory).cpu()
        memory.load_state_dict(found)
        memory.relabel(self.labels)
        return {part + name: value for name, value in memory.state_dict().items()}

    def _moved(self, old: Tensor, new: Tensor, axis: int) -> Tensor:
        """What was at each class of before, where that class is now; the rest as it is."""
        each = new.shape[axis] // len(self.sources)  # some losses have several centres, class after class
        known = [label for label, source in enumerate(self.sources) if source >= 0]
        places = torch.tensor(known).reshape(-1, 1) * each + torch.arange(each)
        origins = torch.tensor([self.sources[label] for label in known]).reshape(-1, 1) * each + torch.arange(
            each
        )
        return new.index_copy(axis, places.flatten(), old.index_select(axis, origins.flatten()))


def _places(objective: Objective, optimizer: Optimizer) -> Iterator[tuple[int, str]]:
    """The numbers by which the state of an optimizer knows the parameters of the objective."""
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    for number, parameter in enumerate(parameters):
        if id(parameter) in names:
            yield number, names[id(parameter)]
