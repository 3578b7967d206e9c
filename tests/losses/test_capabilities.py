import pytest
import torch
from torch import Tensor, nn

from dml.losses import compares_with_references, lists_tuples, takes_mined_tuples
from tests.losses.cases import DIM, configured, names

# What pytorch-metric-learning does with the two arguments, read from its code.
TAKE_REFERENCES = {
    "angular",
    "c1",
    "circle",
    "contrastive",
    "generalized_lifted_structure",
    "histogram",
    "margin",
    "multi_similarity",
    "nca",
    "nt_xent",
    "recall_at_k",
    "smooth_ap",
    "snr_contrastive",
    "sup_con",
    "triplet",
    "tuplet_margin",
}
NO_PAIRS_TO_CHOOSE = {"nca", "recall_at_k", "smooth_ap"}
BATCH_ALONE = {"intra_pair_variance", "lifted_structure", "n_pairs", "threshold_consistent_margin"}


@pytest.mark.parametrize("name", names("loss"))
def test_it_is_found_out_which_losses_a_memory_and_a_miner_fit(name: str) -> None:
    loss = configured("loss", name, dim=DIM).float()
    assert compares_with_references(loss, DIM) == (name in TAKE_REFERENCES)
    assert takes_mined_tuples(loss, DIM) == (name in TAKE_REFERENCES - NO_PAIRS_TO_CHOOSE | BATCH_ALONE)


def test_a_loss_that_draws_its_triplets_takes_both() -> None:
    loss = configured("loss", "triplet")
    loss.triplets_per_anchor = 1
    assert compares_with_references(loss, DIM) and takes_mined_tuples(loss, DIM)


class Inattentive(nn.Module):
    """Takes everything and looks at the vectors alone."""

    def forward(
        self, vectors: Tensor, labels: Tensor, indices_tuple: object = None, **references: Tensor
    ) -> Tensor:
        return vectors.sum()


def test_a_loss_that_passes_over_what_it_is_given_takes_nothing() -> None:
    assert not compares_with_references(Inattentive(), DIM) and not takes_mined_tuples(Inattentive(), DIM)


def test_the_parameters_of_a_loss_are_left_as_they_are() -> None:
    loss = configured("loss", "p2s_grad").float()
    before = loss.weight.detach().clone()
    compares_with_references(loss, DIM), takes_mined_tuples(loss, DIM)
    assert torch.equal(loss.weight, before)


@pytest.mark.parametrize("dim", [2, 128])
@pytest.mark.parametrize("name", names("miner"))
def test_every_miner_lists_something(name: str, dim: int) -> None:
    assert name == "none" or lists_tuples(configured("miner", name).float(), dim)
