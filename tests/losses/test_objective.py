import pytest
import torch
from pytorch_metric_learning.losses import ContrastiveLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import nn

from dml.losses import CrossBatchMemory, Objective, ZeroShotLoss
from dml.types import Pooled


class MeanDistance(nn.Module):
    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert vectors.dtype == torch.float32
        return torch.cdist(vectors, vectors).mean()


def batch() -> tuple[Pooled, torch.Tensor]:
    torch.manual_seed(0)
    vectors = nn.functional.normalize(torch.randn(6, 3), dim=1)
    return Pooled(vectors, torch.rand(6, 4).softmax(dim=1)), torch.tensor([0, 0, 1, 1, 2, 2])


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    zero_shot = ZeroShotLoss(3, 3, ridge=0.05, scale=9.5)
    losses = Objective(MeanDistance(), zero_shot, zero_shot_weight=0.1)(*batch())
    torch.testing.assert_close(losses.total, 0.9 * losses.metric + 0.1 * losses.zero_shot)
    assert list(losses.terms()) == ["metric", "zero_shot", "total"]


def test_without_the_zero_shot_loss_the_total_is_the_metric_loss() -> None:
    losses = Objective(MeanDistance(), None, zero_shot_weight=0)(*batch())
    assert losses.total is losses.metric and list(losses.terms()) == ["metric", "total"]


def test_a_pooling_without_attributes_is_refused_with_what_to_do() -> None:
    pooled, labels = batch()
    objective = Objective(MeanDistance(), ZeroShotLoss(3, 3, ridge=0.05, scale=9.5), zero_shot_weight=0.1)
    with pytest.raises(ValueError, match=r"attributes.*pooling=gsp.*zero_shot.weight=0"):
        objective(pooled._replace(attributes=None), labels)


def test_losses_stay_in_float32_inside_autocast() -> None:
    pooled, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = Objective(MeanDistance(), None, zero_shot_weight=0)(
            pooled._replace(vectors=pooled.vectors.bfloat16()), labels
        )
    assert losses.total.dtype == torch.float32


def test_a_miner_chooses_the_pairs_within_the_batch_and_against_the_memory() -> None:
    metric, miner, memory = ContrastiveLoss(), BatchHardMiner(), CrossBatchMemory(6, 3, start_step=0)
    objective = Objective(metric, None, zero_shot_weight=0, miner=miner, memory=memory)
    pooled, labels = batch()
    past = nn.functional.normalize(torch.randn(6, 3), dim=1)
    objective.remember(Pooled(past), labels)
    losses, x = objective(pooled, labels), pooled.vectors
    within, against = (torch.cdist(x, other) for other in (x, past))
    alike = labels[:, None] == labels
    for value, d, positive in (
        (losses.metric, within, alike ^ torch.eye(6).bool()),
        (losses.memory, against, alike),
    ):
        farthest = d.masked_fill(~positive, 0).max(dim=1).values
        nearest = d.masked_fill(alike, 9).min(dim=1).values
        repulsion = (1 - nearest).clamp(min=0)
        torch.testing.assert_close(value, farthest.mean() + repulsion[repulsion > 0].mean())


def test_a_miner_that_finds_nothing_leaves_a_loss_of_zero() -> None:
    objective = Objective(ContrastiveLoss(), None, zero_shot_weight=0, miner=BatchHardMiner())
    vectors = batch()[0].vectors.requires_grad_()
    losses = objective(Pooled(vectors), torch.arange(6))
    losses.total.backward()
    assert losses.total == 0 and not vectors.grad.any()
