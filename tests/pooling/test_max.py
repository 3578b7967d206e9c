import pytest
import torch

from dml.pooling import GlobalMaxPooling


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_each_channel_takes_its_maximum_and_its_weight_goes_where_it_was_taken() -> None:
    features = normal(2, 10, 6)
    pooled = GlobalMaxPooling(6)(features)
    for b in range(2):
        shares = [0.0] * 10
        for c in range(6):
            responses = features[b, :, c].tolist()
            assert pooled.vectors[b, c].item() == max(responses)
            shares[responses.index(max(responses))] += 1 / 6
        assert pooled.weights[b].tolist() == pytest.approx(shares)


def test_of_equal_responses_the_first_counts_in_weights_and_gradient() -> None:
    features = torch.tensor([[[1.0, 3.0], [2.0, 3.0], [2.0, 0.0]]], requires_grad=True)
    pooled = GlobalMaxPooling(2)(features)
    pooled.vectors.sum().backward()
    assert pooled.weights.tolist() == [[0.5, 0.5, 0.0]]
    assert features.grad.tolist() == [[[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]


def test_gradients_are_exact_in_float64() -> None:
    features = normal(2, 5, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: GlobalMaxPooling(3)(x).vectors, features)
