"""The figures of steps, read from the device some steps at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from dml.errors import UserError
from dml.losses import Losses

__all__ = ["NonFiniteLossError", "Readings", "check_weights"]


class NonFiniteLossError(UserError, ArithmeticError):
    """A term of the loss, or a weight, became NaN or infinite; the message names step and term."""


class Readings:
    """Keeps loss and gradient norm of the steps on the device until they are read, all in one transfer.

    To read a number from a GPU is to wait until it has done all that it was given. So the loop gives it the work of
    several steps before it reads. Whether a step was finite is sent ahead without waiting, and looked at in the
    step after it, when it has long arrived.

    Args:
        device: where the numbers arise; on a CPU nothing is sent ahead, since reading costs nothing there.
        norm_may_overflow: in half precision an infinite gradient norm skips a step, and is no failure.
    """

    def __init__(self, device: torch.device, *, norm_may_overflow: bool) -> None:
        self._device, self._norm_may_overflow = device, norm_may_overflow
        self._waiting: list[tuple[int, dict[str, Tensor]]] = []
        self._sent: tuple[Tensor, torch.cuda.Event] | None = None

    @property
    def cost_nothing(self) -> bool:
        """Whether the numbers can be read at each step."""
        return self._device.type == "cpu"

    def add(self, step: int, losses: Losses, gradient_norm: Tensor) -> None:
        """Take in what a step, from 1, had to say."""
        terms = {f"{name} loss": value.detach() for name, value in losses.terms().items()}
        self._waiting.append((step, {**terms, "gradient norm": gradient_norm}))
        if not self.cost_nothing:
            finite = torch.stack(self._must_be_finite(self._waiting[-1][1])).isfinite().all()
            self._sent = finite.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._sent[1].record()

    def were_finite(self) -> bool:
        """What the step before has sent ahead."""
        if self._sent is None:
            return True
        finite, arrival = self._sent
        arrival.synchronize()
        return bool(finite)

    def read(
        self, further: Mapping[str, Tensor | float], log: Callable[[int, float, float], None]
    ) -> dict[str, float]:
        """Log the steps since the last call, and give further scalars, all that lies on the device by one transfer.

        Args:
            further: by name; numbers pass as they are.
            log: takes step, loss and gradient norm of each step in turn.

        Raises:
            NonFiniteLossError: a loss or a gradient norm is NaN or infinite; the steps before it have been logged.
        """
        waiting, self._waiting, self._sent = self._waiting, [], None
        tensors = [figures[name] for _, figures in waiting for name in ("total loss", "gradient norm")]
        values = iter(_to_floats(tensors + [value for value in further.values() if torch.is_tensor(value)]))
        for step, figures in waiting:
            loss, gradient_norm = next(values), next(values)
            if not math.isfinite(loss) or not (self._norm_may_overflow or math.isfinite(gradient_norm)):
                raise _failure(step, figures)
            log(step, loss, gradient_norm)
        return {
            name: next(values) if torch.is_tensor(value) else float(value) for name, value in further.items()
        }

    def _must_be_finite(self, figures: Mapping[str, Tensor]) -> list[Tensor]:
        return [figures["total loss"]] + [figures["gradient norm"]] * (not self._norm_may_overflow)


def check_weights(step: int, weights: Iterable[Tensor]) -> None:
    """Refuse to save what a step with a finite loss and an enormous rate has made of the weights.

    Raises:
        NonFiniteLossError: a weight is NaN or infinite.
    """
    finite = torch.stack([weight.detach().isfinite().all() for weight in weights]).all()
    if not finite:
        raise NonFiniteLossError(
            f"after step {step} a weight is NaN or infinite: lower optimizer.lr or trainer.gradient_clip; the "
            "checkpoints stay as they were"
        )


def _failure(step: int, figures: Mapping[str, Tensor]) -> NonFiniteLossError:
    found = dict(zip(figures, _to_floats(list(figures.values())), strict=True))
    what = next(name for name, value in found.items() if not math.isfinite(value))
    return NonFiniteLossError(
        f"at step {step} the {what} is {found[what]}: lower optimizer.lr or trainer.gradient_clip; "
        "the checkpoints stay as they were"
    )


def _to_floats(scalars: list[Tensor]) -> list[float]:
    """float64 holds every digit of what is coarser."""
    values: list[float] = torch.stack([scalar.double() for scalar in scalars]).tolist() if scalars else []
    return values
