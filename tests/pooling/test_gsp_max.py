from typing import Any

import torch

from dml.pooling import GeneralizedSumMaxPooling, GeneralizedSumPooling, GlobalAverageMaxPooling

SETTINGS: dict[str, Any] = {
    "num_prototypes": 4,
    "transport_ratio": 0.3,
    "sharpness": 5.0,
    "lloyd_iterations": 2,
}


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_it_is_the_weighted_sum_plus_the_maximum() -> None:
    layer, plain = (kind(6, **SETTINGS) for kind in (GeneralizedSumMaxPooling, GeneralizedSumPooling))
    plain.load_state_dict(layer.state_dict())
    features = normal(2, 10, 6)
    pooled, summed = layer(features), plain(features)
    torch.testing.assert_close(pooled.vectors, summed.vectors + features.max(dim=1).values)
    torch.testing.assert_close((pooled.attributes, pooled.weights), (summed.attributes, summed.weights))


def test_a_ratio_of_one_is_average_plus_maximum() -> None:
    layer, features = GeneralizedSumMaxPooling(6, **{**SETTINGS, "transport_ratio": 1.0}), normal(2, 6, 3, 5)
    torch.testing.assert_close(layer(features).vectors, GlobalAverageMaxPooling(6)(features).vectors)


def test_it_pools_before_the_linear_map_and_names_its_prototypes_as_gsp_does() -> None:
    assert not GeneralizedSumMaxPooling.pools_embedded and GeneralizedSumMaxPooling.has_attributes
    assert [name for name, _ in GeneralizedSumMaxPooling(6, **SETTINGS).named_parameters()] == ["prototypes"]
