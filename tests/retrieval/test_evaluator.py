import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dml.data import EvaluationTransform, Records, evaluation_batches
from dml.data.target_share import TargetShare
from dml.retrieval import Evaluator, embed, retrieval_metrics
from dml.types import Pooled
from tests.pretend_device import pretend_gpus


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


def evaluator(
    recall_at: tuple[int, ...] = (1, 2), *, backend: str = "faiss", device: str = "cpu"
) -> Evaluator:
    batches = partial(
        evaluation_batches, transform=EvaluationTransform(size=8, resize=8), batch_size=5, num_workers=0
    )
    return Evaluator(batches, recall_at=recall_at, backend=backend, device=torch.device(device))


def test_the_figures_are_those_of_the_embeddings() -> None:
    evaluation = evaluator()(Colours(), records())
    assert evaluation.embeddings.labels.tolist() == records().labels.tolist()
    assert evaluation.metrics == retrieval_metrics(*evaluation.embeddings[:2], recall_at=(1, 2))


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


def with_roles(is_query: list[bool]) -> Records:
    return dataclasses.replace(records(len(is_query)), is_query=np.array(is_query))


def test_queries_search_the_gallery_alone() -> None:
    data = with_roles([True] * 5 + [False] * 7)
    evaluation = evaluator()(Colours(), data)
    vectors, labels, _ = evaluation.embeddings
    assert evaluation.metrics == retrieval_metrics(
        vectors[:5], labels[:5], vectors[5:], labels[5:], recall_at=(1, 2)
    )
    assert evaluation.metrics["queries"] == 5 and evaluation.metrics["gallery"] == 7


def test_the_figures_of_queries_against_a_gallery_do_not_see_other_queries() -> None:
    """A query whose copy is a query of another class finds the gallery all the same."""
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    images[:2, ..., 0], images[2, ..., 0], images[3, ..., 1] = 200, 190, 200
    labels, names = np.array([0, 1, 0, 1]), ("a", "b")
    data = Records(images, np.arange(4), labels, names, ("",) * 4, np.array([True, True, False, False]))
    assert evaluator((1,))(Colours(), data).metrics["recall@1"] == 0.5


def test_recall_beyond_a_gallery_of_its_own_is_refused_beforehand() -> None:
    with pytest.raises(ValueError, match=r"recall_at has 5.*only 4 others to find"):
        evaluator((1, 5)).check(with_roles([True] * 8 + [False] * 4), "test")
    evaluator((1, 4)).check(with_roles([True] * 8 + [False] * 4), "test")


@pytest.mark.parametrize("is_query", [None, [True, True, False, False]])
def test_a_set_in_which_nothing_can_be_found_is_refused_beforehand(is_query: list[bool] | None) -> None:
    data = records(4) if is_query is None else with_roles(is_query)  # four classes of one image each
    with pytest.raises(
        ValueError, match=r"no query of the test set has another image of its class.*4 classes"
    ):
        evaluator((1,)).check(data, "test")


def half_marked() -> Records:
    """Images whose target lies in the upper left quarter of even rows, and everywhere in odd ones."""

    def target_tiles(row: int) -> np.ndarray:
        return np.array([[True, row % 2], [row % 2, row % 2]], dtype=bool)

    return dataclasses.replace(records(), measures={"selection_accuracy": TargetShare(target_tiles)})


class Weighing(Colours):
    """All weight on the upper left of four locations."""

    def forward(self, images: Tensor) -> Pooled:
        weights = torch.tensor([[0.7, 0.1, 0.1, 0.1]] * len(images), device=images.device)
        return super().forward(images)._replace(weights=weights)


def test_selection_accuracy_is_the_mean_share_of_the_weights_on_the_targets() -> None:
    evaluation = evaluator()(Weighing(), half_marked())
    torch.testing.assert_close(
        evaluation.embeddings.of_images["selection_accuracy"], torch.tensor([0.7, 1.0] * 6)
    )
    assert evaluation.metrics["selection_accuracy"] == pytest.approx(0.85)


def test_there_is_no_selection_accuracy_without_weights_or_without_known_targets() -> None:
    for model, data in ((Colours(), half_marked()), (Weighing(), records())):
        metrics = evaluator()(model, data).metrics
        assert "selection_accuracy" not in metrics


@pytest.mark.parametrize(
    ("backend", "searched_on"), [("auto", "cuda:0"), ("torch", "cuda:0"), ("faiss", "cpu")]
)
@pytest.mark.parametrize("is_query", [None, [True] * 5 + [False] * 7])
def test_embeddings_stay_where_the_search_is_until_the_end(
    backend: str, searched_on: str, is_query: list[bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, devices = half_marked(), []
    data = dataclasses.replace(data, is_query=None if is_query is None else np.array(is_query))

    def watched(query: Tensor, *rest: Tensor, **options: object) -> object:
        devices.append(str(query.device))
        return retrieval_metrics(query, *rest, **options)

    expected = evaluator()(Weighing(), data)
    monkeypatch.setattr("dml.retrieval.evaluator.retrieval_metrics", watched)
    with pretend_gpus():
        found = evaluator(backend=backend, device="cuda:0")(Weighing(), data)
    assert devices == [searched_on] and found.metrics == expected.metrics
    assert torch.equal(found.embeddings.vectors, expected.embeddings.vectors)
    assert {part.device.type for part in (*found.embeddings[:2], *found.embeddings.of_images.values())} == {
        "cpu"
    }


def test_an_unknown_backend_is_refused_before_anything_is_embedded() -> None:
    with pytest.raises(ValueError, match="no search backend 'annoy': choose one of auto, faiss, torch"):
        evaluator(backend="annoy")
