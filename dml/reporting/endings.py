"""How a command ends: with a sentence where the user can mend the cause.

Neither torch nor Hydra is imported at once, so that help takes no longer than Python itself.
"""

from __future__ import annotations

import errno
import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import ParamSpec, TypeVar

from dml.command_line import PROGRAM, command_line
from dml.errors import UnavailableError, UserError, raised_in_dml
from dml.reporting.lost_output import is_output_lost
from dml.reporting.streams import accept_any_text
from dml.run_folder import RunFolder
from dml.signals import Interrupted

__all__ = ["needs", "readable_errors"]

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_said: set[str] = set()  # by the runs of a sweep
P = ParamSpec("P")
R = TypeVar("R")


def readable_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with one sentence where the user can mend the cause.

    Everything else is a defect of dml or of a library: its traceback is shown, and a sentence that says what was being
    done, where to report it and how the run goes on. ``DML_TRACEBACK=1`` lets every error through as it is.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        accept_any_text()
        try:
            result = command(*args, **kwargs)
            if is_output_lost() and not _trains():  # others have nothing but what they print
                sys.exit(1)
            return result
        except Interrupted as request:
            if _processes()[0] == 0:
                sys.stderr.write(f"{request}\n")
            sys.exit(request.exit_status)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; a run that has begun goes on with resume=FOLDER\n")
            sys.exit(130)
        except Exception as error:
            if os.environ.get("DML_TRACEBACK"):
                raise
            rank, size = _processes()
            users = _is_users(error)
            if not users:
                traceback.print_exception(error)
            process = f"process {rank} of {size}: " if size > 1 else ""
            sentence = f"{process}error: {error if users else _defect(error)}\n"
            _say(sentence)
            _remove_empty_folder()
            if _in_sweep():
                raise  # Hydra goes on with the other runs and reports the failure after them
            sys.exit(2 if users else 1)

    return wrapped


def _say(sentence: str) -> None:
    """Once for all runs of a sweep that end by it, and not again when Hydra reports the failure after them."""
    in_sweep = _in_sweep()
    if sentence not in _said:
        sys.stderr.write(sentence)
    if in_sweep:
        _said.add(sentence)
    else:
        _said.clear()


def needs(module: str, purpose: str, *, install: str = "") -> None:
    """Refuse to begin what a library of an extra is missing for.

    install: what pip is to be given, if it is not called as the module.

    Raises:
        UnavailableError: the library is not installed.
    """
    if find_spec(module) is None:
        raise UnavailableError(
            f"{purpose} needs {module}, which is not installed: pip install {install or module}"
        )


def _processes() -> tuple[int, int]:
    """The rank of this process and how many there are; without torch there is one."""
    if "dml.distributed" not in sys.modules:
        return 0, 1
    from dml.distributed import rank, world_size

    return rank(), world_size()


def _is_users(error: Exception) -> bool:
    """Whether the user can mend it, and needs no traceback for that."""
    from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

    full_disk = isinstance(error, OSError) and error.errno in FULL_DISK
    return full_disk or isinstance(error, UserError | MissingMandatoryValue | InterpolationResolutionError)


def _defect(error: Exception) -> str:
    """One sentence after the traceback of what nobody expected."""
    where = "dml" if raised_in_dml(error) else "dml or of a library below it"
    return (
        f"{command_line()} ended by {type(error).__name__}, a defect of {where}: please report it, with all of the "
        f"above, where you got dml from{_way_on()}"
    )


def _way_on() -> str:
    """How the run goes on, if there is one that has saved a checkpoint."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from dml.overrides import resume_command

    output = _output_folder()
    if output is None:
        return ""
    hydra = HydraConfig.get()
    typed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    named = [str(override.value()) for override in typed if override.key_or_group == "resume"]
    folder = named[-1] if named and named[-1] != "auto" else output
    if not RunFolder(Path(folder)).last.exists():
        return ""
    return f"; the run goes on from its last checkpoint by: {resume_command(folder)}"


def _trains() -> bool:
    """Whether this is ``dml train``, whose results lie in a folder, whatever becomes of what it prints."""
    return shlex.split(command_line())[:2] == [PROGRAM, "train"]


def _remove_empty_folder() -> None:
    """The folder that Hydra made for a run which was refused before it wrote anything."""
    if folder := _output_folder():
        with suppress(OSError):  # it is not empty, or not there
            Path(folder).rmdir()


def _output_folder() -> str | None:
    """What Hydra has made for the run under way, if there is one."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized() or OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return None
    return str(HydraConfig.get().runtime.output_dir)


def _in_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
