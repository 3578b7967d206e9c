import torch

from dml.pooling import GlobalAverageMaxPooling


def test_vectors_are_mean_plus_maximum_for_maps_and_tokens() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([image.flatten(1).mean(1) + image.flatten(1).max(1).values for image in features])
    for given in (features, features.flatten(2).mT):
        pooled = GlobalAverageMaxPooling(3)(given)
        torch.testing.assert_close(pooled.vectors, expected)
        assert pooled.attributes is None and pooled.weights is None


def test_a_single_location_counts_twice() -> None:
    features = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(GlobalAverageMaxPooling(3)(features).vectors, 2 * features.flatten(1))


def test_gradients_are_exact_in_float64() -> None:
    features = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: GlobalAverageMaxPooling(4)(x).vectors, features)
