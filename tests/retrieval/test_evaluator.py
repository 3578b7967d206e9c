from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dml.data import EvaluationTransform, Records, evaluation_batches
from dml.retrieval import Evaluator, embed, retrieval_metrics
from dml.types import Pooled


class Colours(nn.Module):
    """The mean colour of an image, as a unit vector; remembers the mode it ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.modes = nn.Dropout(0.5), []

    def forward(self, images: Tensor) -> Pooled:
        self.modes.append((self.training, self.dropout.training, torch.is_grad_enabled()))
        return Pooled(nn.functional.normalize(images.double().mean((2, 3)), dim=1).float())


def records(count: int = 12) -> Records:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return Records(images, np.arange(count), np.arange(count) % 4, ("a", "b", "c", "d"), ("",) * count)


def evaluator(recall_at: tuple[int, ...] = (1, 2)) -> Evaluator:
    batches = partial(
        evaluation_batches, transform=EvaluationTransform(size=8, resize=8), batch_size=5, num_workers=0
    )
    return Evaluator(batches, recall_at=recall_at, backend="faiss", device=torch.device("cpu"))


def test_the_figures_are_those_of_the_embeddings() -> None:
    evaluation = evaluator()(Colours(), records())
    assert evaluation.embeddings.labels.tolist() == records().labels.tolist()
    assert evaluation.metrics == retrieval_metrics(*evaluation.embeddings, recall_at=(1, 2))


def test_the_model_runs_in_evaluation_mode_and_gets_its_modes_back() -> None:
    model = Colours().train()
    model.dropout.eval()
    evaluator()(model, records())
    assert set(model.modes) == {(False, False, False)}
    assert model.training and not model.dropout.training


def test_embeddings_follow_the_order_of_the_set() -> None:
    model, data = Colours(), records()
    batches = evaluation_batches(data, EvaluationTransform(size=8, resize=8), batch_size=1, num_workers=0)
    singly = embed(model, batches, device=torch.device("cpu"))
    torch.testing.assert_close(singly.vectors, evaluator()(model, data).embeddings.vectors)


def test_recall_beyond_the_gallery_is_refused_beforehand() -> None:
    with pytest.raises(ValueError, match=r"recall_at has 12.*test set has only 11.*up to 11"):
        evaluator((1, 12)).check(records(), "test")
