import math
from typing import Any

import pytest
import torch

from dml.pooling import GeneralizedSumPooling, GlobalAverageAttributesPooling, GlobalAveragePooling

SETTINGS: dict[str, Any] = {"num_prototypes": 4, "sharpness": 5.0, "lloyd_iterations": 2}


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def make(**changes: Any) -> GlobalAverageAttributesPooling:
    torch.manual_seed(0)
    return GlobalAverageAttributesPooling(6, **{**SETTINGS, **changes})


def make_gsp() -> GeneralizedSumPooling:
    torch.manual_seed(0)
    return GeneralizedSumPooling(6, transport_ratio=1.0, **SETTINGS)


def in_ball(vector: list[float]) -> list[float]:
    return [v / max(1.0, math.hypot(*vector)) for v in vector]


def test_attributes_are_the_mean_soft_assignment_to_prototypes() -> None:
    layer, features = make().double(), normal(2, 10, 6).double()
    pooled = layer(features)
    prototypes = [in_ball(p) for p in layer.prototypes.tolist()]
    for b in range(2):
        expected = torch.zeros(4, dtype=torch.float64)
        for location in features[b].tolist():
            kernel = [math.exp(-5.0 * math.dist(in_ball(location), p)) for p in prototypes]
            expected += torch.tensor(kernel).double() / sum(kernel) / 10
        torch.testing.assert_close(pooled.attributes[b], expected)


def test_vectors_and_weights_are_those_of_global_average_pooling() -> None:
    features = normal(2, 6, 3, 4)
    pooled, average = make()(features), GlobalAveragePooling(6)(features)
    assert torch.equal(pooled.vectors, average.vectors) and torch.equal(pooled.weights, average.weights)


def test_it_is_gsp_with_a_transport_ratio_of_one_and_starts_as_gsp_does() -> None:
    layer, gsp, features = make(), make_gsp(), normal(8, 6, 3, 4)
    placed = [
        one.initialise_prototypes(features, generator=torch.Generator().manual_seed(1))
        for one in (layer, gsp)
    ]
    assert placed == [4, 4] and torch.equal(layer.prototypes, gsp.prototypes)
    torch.testing.assert_close(layer(features), gsp(features))


def test_gradients_are_exact_in_float64() -> None:
    layer, features = make().double(), normal(2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, _: layer(x)[:2], (features, layer.prototypes))


def test_it_pools_embedded_features_and_names_its_prototypes_as_gsp_does() -> None:
    assert GlobalAverageAttributesPooling.pools_embedded and GlobalAverageAttributesPooling.has_attributes
    assert make().state_dict().keys() == make_gsp().state_dict().keys() == {"prototypes"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_prototypes": 0}, "num_prototypes is 0; expected 1 or more"),
        ({"sharpness": 0.0}, "sharpness is 0.0; expected a finite number above 0"),
        ({"lloyd_iterations": -1}, "lloyd_iterations is -1; expected 0 or more"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)
