"""The check that eight poolings make of their counts, in the words of their settings."""

from __future__ import annotations

from dml.errors import InputError

__all__ = ["check_counts"]


def check_counts(**settings: int) -> None:
    """Refuse a setting that is not a whole number of 1 or more, by its name, with an InputError."""
    for name, value in settings.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(
                f"pooling.{name}={value}: give a whole number of 1 or more; the file of the pooling in "
                "configs/pooling has one that works"
            )
