from typing import Any

import pytest
import torch

from dml.pooling import GeneralizedSumGeMPooling, GeneralizedSumPooling

SETTINGS: dict[str, Any] = {
    "num_prototypes": 4,
    "transport_ratio": 0.3,
    "sharpness": 5.0,
    "lloyd_iterations": 2,
}


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.01


def make(power: float, **changes: Any) -> GeneralizedSumGeMPooling:
    torch.manual_seed(0)
    return GeneralizedSumGeMPooling(6, power=power, **{**SETTINGS, **changes}).double()


@pytest.mark.parametrize("power", [1.0, 3.0, 40.0])
def test_it_is_the_weighted_power_mean_channel_by_channel(power: float) -> None:
    layer, features = make(power).requires_grad_(False), positive(2, 10, 6)
    pooled = layer(features)
    for b in range(2):
        for c in range(6):
            terms = [float(pooled.weights[b, i]) * float(features[b, i, c]) ** power for i in range(10)]
            assert pooled.vectors[b, c].item() == pytest.approx(sum(terms) ** (1 / power), rel=1e-9)


def test_power_one_is_generalized_sum_pooling() -> None:
    layer, plain, features = make(1.0), GeneralizedSumPooling(6, **SETTINGS).double(), positive(2, 6, 4, 4)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(features), plain(features))


def test_a_ratio_of_one_and_a_large_power_approach_the_maximum() -> None:
    features = 1000 * positive(2, 10, 6).float()
    vectors = make(400.0, transport_ratio=1.0).float()(features).vectors
    torch.testing.assert_close(vectors, features.max(dim=1).values, rtol=0.01, atol=0)


def test_dead_channels_have_finite_gradients() -> None:
    features = torch.zeros(2, 6, 3, 3, requires_grad=True)
    make(3.0).float()(features).vectors.sum().backward()
    assert features.grad.isfinite().all()


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make(3.0), positive(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x).vectors, features, atol=1e-4)


@pytest.mark.parametrize("power", [0.5, float("inf")])
def test_a_power_out_of_range_is_refused(power: float) -> None:
    with pytest.raises(ValueError, match=r"pooling.power=.*1 or more"):
        make(power)
