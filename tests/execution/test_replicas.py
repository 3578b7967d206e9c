"""Several processes train one model: they start from it, and a run in which they part ends."""

import json
from pathlib import Path

import pytest

from tests.children import together
from tests.execution.replica_cases import write_outcomes


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_that_part_end_the_run_by_name_and_keep_the_checkpoint(
    processes: int, tmp_path: Path
) -> None:
    together(processes, write_outcomes, tmp_path)
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["other_start"] == said["no_fault"] == [said["no_fault"][0]] * processes
    main_differs = said.pop("flipped_bit in the main process")
    expected = (
        f"process {0 if processes == 3 else 1} of 0 .. {processes - 1} came to step 2 with other weights"
    )
    assert all(sentence.startswith(expected) and step == 0 for sentence, step in main_differs)
    for fault, came_to, saved in (("other_step", 1, -1), ("flipped_bit", 2, 0), ("other_moment", 2, 0)):
        start = f"process {processes - 1} of 0 .. {processes - 1} came to step {came_to} with other weights"
        assert all(sentence.startswith(start) and step == saved for sentence, step in said[fault]), said[
            fault
        ]
