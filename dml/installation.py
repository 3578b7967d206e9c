"""Where what comes with the code lies: beside the package in a checkout, inside of it where a wheel was installed."""

from pathlib import Path

__all__ = ["CONFIGS", "EMOJI"]

_PACKAGE = Path(__file__).parent
_SHARED = _PACKAGE / "share"  # pyproject.toml puts it into a wheel; a checkout has none
_ROOT = _SHARED if _SHARED.is_dir() else _PACKAGE.parent

CONFIGS = _ROOT / "configs"
"""The configurations that Hydra composes."""

EMOJI = _ROOT / "data" / "emoji"
"""The embedded data set."""
