import os
from pathlib import Path

from dml.run_folder import RunFolder


def test_the_paths_of_a_run_lie_in_its_folder_under_their_names(smoke_run: Path) -> None:
    run = RunFolder(smoke_run)
    files = {path.relative_to(smoke_run) for path in smoke_run.rglob("*")}
    assert os.fspath(run) == str(run) == str(smoke_run)
    for path in (run.config, run.environment, run.history, run.steps, run.last, run.best, run.metrics):
        assert path.relative_to(smoke_run) in files
    assert run.test_embeddings.is_file() and run.tensorboard.is_dir() and not run.best_on_test.exists()
    assert run.earlier_config(7).name == "config.until_step_7.yaml"
