"""Answers as JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["Json"]


class Json(JSONResponse):
    """In ASCII, as `dml search --json` prints it: the name of a file may be no UTF-8, and has a place here, too."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
