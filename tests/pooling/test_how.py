import math

import pytest
import torch

from dml.pooling import GlobalAveragePooling, NormAttentionPooling


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def smoothed(feature_map: torch.Tensor) -> torch.Tensor:
    """The mean of each location and its neighbours inside the map (C, H, W), one by one."""
    _, height, width = feature_map.shape
    result = torch.empty_like(feature_map)
    for y in range(height):
        for x in range(width):
            window = feature_map[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            result[:, y, x] = window.flatten(1).sum(1) / window[0].numel()
    return result


@pytest.mark.parametrize("size", [(4, 5), (2, 2), (1, 3), (1, 1)])
@pytest.mark.parametrize("smoothing", [False, True])
def test_local_descriptors_are_averaged_by_their_norm(size: tuple[int, int], smoothing: bool) -> None:
    features = normal(2, 6, *size)
    vectors = NormAttentionPooling(6, smoothing=smoothing)(features).vectors
    for b in range(2):
        norms = [math.sqrt(sum(v**2 for v in f)) for f in features[b].flatten(1).mT.tolist()]
        descriptors = (smoothed(features[b]) if smoothing else features[b]).flatten(1)
        expected = sum(norm * descriptors[:, i] for i, norm in enumerate(norms)) / sum(norms)
        torch.testing.assert_close(vectors[b], expected)


@pytest.mark.parametrize("smoothing", [False, True])
def test_the_weights_give_the_vector_from_the_features_themselves(smoothing: bool) -> None:
    features = normal(2, 6, 4, 5)
    pooled = NormAttentionPooling(6, smoothing=smoothing)(features)
    torch.testing.assert_close(
        pooled.vectors, torch.einsum("bcn,bn->bc", features.flatten(2), pooled.weights)
    )
    torch.testing.assert_close(pooled.weights.sum(1), torch.ones(2).double())


def test_tokens_are_not_smoothed() -> None:
    tokens = normal(2, 20, 6)
    results = [NormAttentionPooling(6, smoothing=smoothing)(tokens) for smoothing in (False, True)]
    torch.testing.assert_close(*results)


def test_descriptors_of_one_length_are_global_average_pooling() -> None:
    features = torch.nn.functional.normalize(normal(2, 6, 3, 4), dim=1)
    actual, expected = NormAttentionPooling(6, smoothing=False)(features), GlobalAveragePooling(6)(features)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("smoothing", [False, True])
def test_gradients_are_exact_in_float64(smoothing: bool) -> None:
    features = normal(2, 4, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: NormAttentionPooling(4, smoothing=smoothing)(x)[::2], features)


def test_a_map_without_any_response_gives_zeros_and_uniform_weights() -> None:
    pooled = NormAttentionPooling(6, smoothing=False)(torch.zeros(2, 6, 3, 4))
    assert not pooled.vectors.any()
    torch.testing.assert_close(pooled.weights, torch.full((2, 12), 1 / 12))
