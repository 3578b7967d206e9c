import numpy as np
import pytest
import torch

from dml.pooling import GeneralizedMaxPooling, GlobalAveragePooling


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def make(ridge: float = 1.0) -> GeneralizedMaxPooling:
    return GeneralizedMaxPooling(6, ridge=ridge)


@pytest.mark.parametrize("ridge", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("count", [1, 4, 10])
def test_it_is_the_published_primal_solution_in_the_unit_of_the_features(ridge: float, count: int) -> None:
    features = 3 * normal(2, count, 6)
    vectors = make(ridge)(features).vectors
    for b in range(2):
        columns = features[b].numpy().T  # Φ, channels × locations
        scale = sum(float(f @ f) for f in columns.T) / count
        primal = np.linalg.inv(columns @ columns.T + ridge * scale * np.eye(6)) @ columns @ np.ones(count)
        np.testing.assert_allclose(vectors[b].numpy(), scale * primal, rtol=1e-9)


def test_with_little_ridge_every_location_is_equally_similar_to_the_vector() -> None:
    features = normal(2, 4, 6)
    similarity = torch.einsum("bnc,bc->bn", features, make(1e-4)(features).vectors)
    torch.testing.assert_close(similarity, similarity.mean(1, keepdim=True).expand(2, 4), rtol=1e-3, atol=0)


def test_a_location_that_occurs_often_counts_no_more_than_one_that_occurs_once() -> None:
    once = torch.eye(6)[:2].double().unsqueeze(0)
    often = torch.cat([once[:, :1].expand(1, 20, 6), once[:, 1:]], 1)
    vectors = make(1e-4)(often).vectors[0]
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-3, atol=0)
    assert GlobalAveragePooling(6)(often).vectors[0, 0] > 19 * vectors[1] / 21


def test_a_large_ridge_has_the_direction_of_global_average_pooling() -> None:
    features = normal(2, 6, 3, 4)
    actual, average = make(1e6)(features), GlobalAveragePooling(6)(features)
    torch.testing.assert_close(
        torch.cosine_similarity(actual.vectors, average.vectors), torch.ones(2).double()
    )
    torch.testing.assert_close(actual.weights, average.weights, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-8, 1e4])
def test_the_vector_has_the_scale_of_the_features_and_the_weights_have_none(scale: float) -> None:
    features = normal(2, 10, 6).float()
    plain, scaled = make()(features), make()(scale * features)
    torch.testing.assert_close(scaled.vectors, scale * plain.vectors, rtol=1e-4, atol=1e-6 * scale)
    torch.testing.assert_close(scaled.weights, plain.weights, rtol=1e-4, atol=1e-6)


def test_gradients_are_exact_in_float64() -> None:
    features = normal(2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: make()(x)[::2], features)


@pytest.mark.parametrize("ridge", [0.0, -1.0, 9e-5, float("inf"), float("nan")])
def test_a_ridge_out_of_range_is_refused(ridge: float) -> None:
    with pytest.raises(ValueError, match=r"pooling.ridge=.*: give a finite number from 0.0001 on"):
        make(ridge)
