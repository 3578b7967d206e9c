import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ContrastiveLoss
from torch import Tensor

from dml.losses import CrossBatchMemory, Objective
from dml.types import Pooled


def batch(step: int, size: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    vectors = torch.nn.functional.normalize(torch.randn(size, 3, generator=generator), dim=1)
    return vectors, torch.randint(0, 3, (size,), generator=generator)


@given(st.integers(1, 11), st.lists(st.integers(1, 6), max_size=8), st.integers(0, 3))
def test_it_holds_the_last_rows_since_the_start(capacity: int, sizes: list[int], start: int) -> None:
    memory = CrossBatchMemory(capacity, 3, start_step=start)
    for step, size in enumerate(sizes):
        memory.remember(*batch(step, size))
    late = [batch(step, size) for step, size in enumerate(sizes) if step >= start]
    expected = torch.cat([torch.empty(0, 3), *(vectors for vectors, _ in late)])[-capacity:]
    assert {tuple(row) for row in memory.vectors.tolist()} == {tuple(row) for row in expected.tolist()}
    assert len(memory.vectors) == len(memory.labels) == len(expected)


def test_the_loss_is_that_of_the_batch_and_of_every_pair_with_the_past() -> None:
    loss = ContrastiveLoss(pos_margin=0.0, neg_margin=0.5)
    objective = Objective(
        loss, None, zero_shot_weight=0, memory=CrossBatchMemory(8, 3, start_step=0), memory_weight=0.7
    )
    past, past_labels = batch(1, 6)
    objective.remember(Pooled(past), past_labels)
    vectors, labels = batch(2, 5)
    positives, negatives = [], []  # mean over the pairs that cost something, as the loss does within a batch
    for v, label in zip(vectors, labels, strict=True):
        for p, other in zip(past, past_labels, strict=True):
            distance = (v - p).norm()
            (positives if label == other else negatives).append(
                distance if label == other else 0.5 - distance
            )
    expected = sum(
        torch.stack([c for c in costs if c > 0]).mean()
        for costs in (positives, negatives)
        if any(c > 0 for c in costs)
    )
    losses = objective(Pooled(vectors), labels)
    torch.testing.assert_close(losses.memory, torch.as_tensor(expected))
    torch.testing.assert_close(losses.total, loss(vectors, labels) + 0.7 * losses.memory)
    assert list(losses.terms()) == ["metric", "memory", "total"]


def test_an_empty_memory_adds_nothing_and_a_batch_never_meets_itself() -> None:
    objective = Objective(
        ContrastiveLoss(), None, zero_shot_weight=0, memory=CrossBatchMemory(8, 3, start_step=0)
    )
    vectors, labels = batch(0)
    assert objective(Pooled(vectors), labels).memory is None
    alone = torch.tensor([0, 1, 2, 3])  # no two alike: any positive pair would be an embedding with itself
    objective.remember(Pooled(vectors), alone)
    other = objective(Pooled(batch(1)[0]), alone + 4)
    assert other.memory is not None


@given(
    st.integers(1, 9), st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=6)
)
def test_without_own_images_a_batch_meets_the_last_rows_of_all_others(
    capacity: int, batches: list[list[int]]
) -> None:
    memory, kept = CrossBatchMemory(capacity, 3, start_step=0, own_images=False), []
    for step, images in enumerate(batches):
        expected = {tuple(vector) for image, vector in kept[-capacity:] if image not in images}
        found, labels = memory.references(torch.tensor(images))
        assert {tuple(vector) for vector in found.tolist()} == expected and len(labels) == len(found)
        vectors = batch(step, len(images))[0]
        memory.remember(vectors, torch.tensor(images) // 2, torch.tensor(images))
        kept += zip(images, vectors.tolist(), strict=True)


def test_an_image_that_is_alone_in_the_memory_with_itself_adds_nothing() -> None:
    vectors, images = batch(0)[0], torch.arange(4)
    for own_images, expected in ((True, True), (False, False)):
        memory = CrossBatchMemory(8, 3, start_step=0, own_images=own_images)
        objective = Objective(ContrastiveLoss(), None, zero_shot_weight=0, memory=memory)
        objective.remember(Pooled(vectors), images, images)
        assert (objective(Pooled(vectors), images, images).memory is not None) == expected


def test_the_images_are_in_the_state_where_they_count_and_nowhere_else() -> None:
    memory, again = (CrossBatchMemory(7, 3, start_step=0, own_images=False) for _ in range(2))
    memory.remember(*batch(0), torch.arange(4))
    again.load_state_dict(memory.state_dict())
    assert len(again.references(torch.tensor([1, 3]))[0]) == 2
    assert "ring_images" not in CrossBatchMemory(7, 3, start_step=0).state_dict()


def test_no_gradient_reaches_the_past() -> None:
    objective = Objective(
        ContrastiveLoss(), None, zero_shot_weight=0, memory=CrossBatchMemory(8, 3, start_step=0)
    )
    first, labels = batch(0)
    first.requires_grad_()
    objective.remember(Pooled(first), labels)
    second = batch(1)[0].requires_grad_()
    objective(Pooled(second), labels).total.backward()
    assert first.grad is None and second.grad is not None


def test_the_state_carries_pointer_fill_and_step() -> None:
    memory, again = (CrossBatchMemory(7, 3, start_step=2) for _ in range(2))
    for step in range(5):
        memory.remember(*batch(step))
    again.load_state_dict(memory.state_dict())
    for part in (memory, again):
        part.remember(*batch(9))
    assert memory.vectors.equal(again.vectors) and memory.get_extra_state() == again.get_extra_state()


@pytest.mark.parametrize(
    ("capacity", "start", "name"), [(0, 0, "memory.batches"), (3, -1, "memory.start_step=-1")]
)
def test_numbers_out_of_range_are_refused(capacity: int, start: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        CrossBatchMemory(capacity, 3, start_step=start)
