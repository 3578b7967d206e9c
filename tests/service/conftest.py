"""A service for all tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dml.index.building import build_index
from dml.service.limits import Limits
from tests.index.conftest import nine_images, photo_index, photos, pretend_run, run
from tests.service.clients import Client, answering

__all__ = ["photo_index", "photos", "run"]


@pytest.fixture(scope="package")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Takes images of 5,000 pixels and requests of 100,000 bytes."""
    folder = tmp_path_factory.mktemp("service")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as monkeypatch:
            run = pretend_run(folder / "seed-0", monkeypatch)
            build_index(run, [nine_images(folder / "photos")], folder / "index")
            limits = Limits(pixels=5000, size=100_000)
            client = stack.enter_context(answering(folder / "index", limits=limits))
        yield client
