"""Images inside of tar and zip files, as a table of places that all processes on a machine share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dml.data.shard_index import Shard
from dml.data.shard_members import Member, read_member
from dml.data.sharing import pack_names

__all__ = ["ShardImages"]


class ShardImages:
    """Encoded images by row.

    Shards are opened by each process for itself. Places and names are tensors, so a data worker gets them by shared
    memory and not as copies.
    """

    def __init__(self, shards: Sequence[Shard], members: Sequence[tuple[int, Member]]) -> None:
        """Members with the number of their shard, one a row."""
        self._paths = tuple(str(shard.path) for shard in shards)
        self._states = tuple(shard.state for shard in shards)
        rows = [(number, *member[1:]) for number, member in members]
        self._places = torch.tensor(rows, dtype=torch.int64).reshape(-1, 6)
        self._names = pack_names([member.name for _, member in members])
        digest = hashlib.sha256(json.dumps([[shard.content, *shard.state] for shard in shards]).encode())
        for part in (self._names, self._places):
            digest.update(part.numpy().tobytes())
        self.identity = digest.digest()

    def __len__(self) -> int:
        return len(self._places)

    def name(self, row: int, /) -> str:
        """The shard and, in it, the member."""
        return f"{self._paths[int(self._places[row, 0])]}: {self._member_name(row)}"

    def sample(self, row: int, /) -> tuple[int, ...]:
        """Size and checksum, by the way it is stored."""
        return tuple(self._places[row, 3:].tolist())

    def read(self, row: int, /) -> bytes:
        """The file as it was put into the shard; raises FileError as read_member does."""
        number, *place = self._places[row].tolist()
        return read_member(self._paths[number], self._states[number], Member(self._member_name(row), *place))

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_ends"}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._names.numpy() == 0)

    def _member_name(self, row: int) -> str:
        start = 0 if row == 0 else int(self._ends[row - 1]) + 1
        return self._names.numpy()[start : self._ends[row]].tobytes().decode()
