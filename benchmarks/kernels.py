"""How many kernels an accelerator would start for a piece of work, counted on a CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from torch.profiler import ProfilerActivity, profile

__all__ = ["kernels_of"]

# fmt: off
VIEWS = (
    "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "flatten", "mT", "new_empty", "numpy_T",
    "permute", "promote_types", "reshape", "resize_", "resolve_conj", "result_type", "select", "slice", "split",
    "squeeze", "t", "to", "transpose", "unflatten", "unsqueeze", "view", "_reshape_alias", "_unsafe_view",
)
# fmt: on
COMPOSITES = ("matmul", "linear", "conv2d", "sum_to_size")


def kernels_of(work: Callable[[], object]) -> Counter[str]:
    """The outermost ATen operators that work calls and that compute something, with their numbers, by torch.profiler.

    An operator is one kernel on an accelerator, but for a few such as sort, which are several. What an operator calls
    in turn on a CPU does not count. Views and allocations compute nothing.
    """
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        work()
    outermost = [event for event in profiler.events() or [] if event.cpu_parent is None]
    return Counter(name for event in outermost for name in _operators(event))


def _operators(event: Any) -> Iterator[str]:
    kind, _, name = event.name.partition("::")
    if kind == "aten" and name in VIEWS:
        return
    if kind == "aten" and name not in COMPOSITES:
        yield name
        return
    for inner in event.cpu_children:
        yield from _operators(inner)
