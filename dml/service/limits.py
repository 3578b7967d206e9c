"""What a service takes at most from whoever asks it."""

from __future__ import annotations

from dataclasses import dataclass

from dml.errors import InputError

__all__ = ["Limits", "TooLargeError"]


class TooLargeError(InputError):
    """A request, or an image in it, beyond one of the limits."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a request, and of all requests together.

    size:    bytes of a request.
    pixels:  of an image, by its header, before it is decoded.
    waiting: requests that are being answered or wait for it; further ones are told to come again.
    seconds: for a request, from its first byte to its answer.
    hits:    images in an answer, for each query.
    vectors: queries in a request.

    Raises:
        InputError: one of them is below 1.
    """

    size: int = 20 * 2**20
    pixels: int = 50_000_000
    waiting: int = 64
    seconds: float = 30.0
    hits: int = 1000
    vectors: int = 100

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 1:
                raise InputError(f"{name}={value}: a limit of the service is at least 1")
