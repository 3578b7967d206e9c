"""Where each file of a run lies.

config.yaml           the resolved configuration, complete, with the version of its format
environment.json      versions, git revision, command line, seed, device
history.csv           validation metrics and training scalars, a row per validation
steps.csv             loss and gradient norm of every step, with all digits
checkpoints/last.pt   everything that is needed to go on; best.pt: the weights that are reported, chosen by the
                      validation classes, or the last ones under protocol=conventional
best_on_test.json     the test metrics of the validation where they were best, if they were asked for
metrics.json          {"val": {...}, "test": {...}} of best.pt; under protocol=conventional "train" instead of "val",
                      and "best_on_test" if it was asked for; "step" that of best.pt, "untrained" the figures of the
                      val (or train) images at step 0; docs/reading_a_run.md describes each key
test_embeddings.npz   vectors, labels, class_names, files, is_query and is_gallery of the test set
report.html           all of this as one page for people
tensorboard/          event files; beside it wandb/ and wandb.json, mlruns/ and mlflow.json, if those follow the run
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, with a name for each path in it; whoever reads or writes there is given this value."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def steps(self) -> Path:
        return self.path / "steps.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pt"

    @property
    def best_on_test(self) -> Path:
        return self.path / "best_on_test.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def test_embeddings(self) -> Path:
        return self.path / "test_embeddings.npz"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def earlier_best_on_test(self, step: int) -> Path:
        """Where the best test metrics up to a step stay, after other test images were accepted."""
        return self.path / f"best_on_test.until_step_{step}.json"

    def earlier_config(self, step: int) -> Path:
        """Where the configuration stays that held up to a step, after another one was accepted."""
        return self.path / f"config.until_step_{step}.yaml"
