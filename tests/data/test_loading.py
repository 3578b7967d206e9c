import dataclasses
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch

from dml.data import (
    ClassBalancedSampler,
    EvaluationTransform,
    Records,
    TrainingTransform,
    evaluation_batches,
    training_batches,
)
from dml.data.image_files import ImageFiles
from dml.types import Batch


def records(count: int = 12) -> Records:
    images = np.random.default_rng(0).integers(0, 256, (count, 20, 20, 3), dtype=np.uint8)
    labels = np.arange(count) % 3
    return Records(images, np.arange(count), labels, ("a", "b", "c"), tuple(f"{i}.png" for i in range(count)))


def batches(start: int, stop: int, num_workers: int = 0) -> list[Batch]:
    data = records()
    sampler = ClassBalancedSampler(data.labels, classes_per_batch=2, images_per_class=3, seed=5)
    transform = TrainingTransform(size=8, scale=(0.3, 1.0), ratio=(1.0, 1.0), flip=0.5)
    return list(
        training_batches(data, transform, sampler, seed=5, start=start, stop=stop, num_workers=num_workers)
    )


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_two_workers_give_the_same_batches_as_none() -> None:
    assert_equal(batches(0, 5), batches(0, 5, num_workers=2))


def test_no_more_workers_start_than_there_are_batches_and_no_gpu_is_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    def loader(dataset: object, *, num_workers: int, pin_memory: bool, **options: object) -> list[Batch]:
        started.append((num_workers, pin_memory))
        return []

    monkeypatch.setattr("dml.data.loading.DataLoader", loader)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    list(evaluation_batches(records(), EvaluationTransform(size=8, resize=8), batch_size=5, num_workers=8))
    batches(0, 2, num_workers=8), batches(0, 9, num_workers=8)
    assert started == [(3, False), (2, False), (8, False)]


def test_the_batches_from_a_later_step_are_those_of_the_whole_run() -> None:
    assert_equal(batches(0, 5)[3:], batches(3, 5))


def test_the_same_image_is_augmented_anew_at_each_step() -> None:
    seen: dict[int, torch.Tensor] = {}
    fresh = []
    for batch in batches(0, 6):
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            fresh.append(index in seen and not image.equal(seen[index]))
            seen[index] = image
    assert any(fresh)


def test_training_batches_leave_the_global_generators_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(0, 2)
    assert before.equal(torch.get_rng_state())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_gives_every_image_once_and_in_order(num_workers: int) -> None:
    loaded = list(
        evaluation_batches(
            records(), EvaluationTransform(size=8, resize=8), batch_size=5, num_workers=num_workers
        )
    )
    assert torch.cat([batch.indices for batch in loaded]).tolist() == list(range(12))
    assert torch.cat([batch.labels for batch in loaded]).tolist() == records().labels.tolist()
    assert loaded[0].images.dtype == torch.uint8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_picture_that_cannot_be_read_ends_loading_with_one_sentence(
    num_workers: int, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    data = dataclasses.replace(records(), images=ImageFiles(tmp_path, ("broken.png",) * 12, None))
    transform = EvaluationTransform(size=8, resize=8)
    with pytest.raises(
        OSError, match=r"^\S*broken\.png cannot be read as an image: .*; replace or remove it$"
    ):
        list(evaluation_batches(data, transform, batch_size=5, num_workers=num_workers))


def load_and_wait(pids: Connection) -> None:
    """A main process in the middle of its batches."""
    os.setsid()
    torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL = 0.2  # seconds, else 5
    transform = EvaluationTransform(size=8, resize=8)
    for _ in evaluation_batches(records(), transform, batch_size=5, num_workers=2):
        pids.send([child.pid for child in multiprocessing.active_children()])
        time.sleep(60)


def test_workers_end_with_a_main_process_that_is_killed() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    main = multiprocessing.get_context("fork").Process(target=load_and_wait, args=(sender,))
    main.start()
    workers = receiver.recv()
    main.kill()
    main.join()
    deadline = time.monotonic() + 20
    while (alive := [pid for pid in workers if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert len(workers) == 2 and not alive


def runs(pid: int) -> bool:
    """Whether a process is more than an entry that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
