import pytest
import torch

from dml.functional.regression import cross_half_regression, ridge_dual

RIDGE = 0.05


def example(
    batch: int = 7, attributes: int = 5, dim: int = 3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(batch, attributes, dtype=torch.float64, generator=generator)
    y = torch.randn(batch, dim, dtype=torch.float64, generator=generator)
    return z, y, torch.tensor([True, False, False, True, True, False, True][:batch])


def ridge_from_the_formula(z_a: torch.Tensor, z_b: torch.Tensor, y_b: torch.Tensor) -> torch.Tensor:
    gram = z_b @ z_b.T + RIDGE * torch.eye(len(z_b), dtype=z_b.dtype)
    return z_a @ z_b.T @ torch.linalg.inv(gram) @ y_b


def test_each_half_is_predicted_from_the_other_by_the_formula() -> None:
    z, y, a = example()
    predicted = cross_half_regression(z, y, a, ridge=RIDGE)
    torch.testing.assert_close(predicted[a], ridge_from_the_formula(z[a], z[~a], y[~a]))
    torch.testing.assert_close(predicted[~a], ridge_from_the_formula(z[~a], z[a], y[a]))


def test_the_dual_form_equals_the_primal_regression() -> None:
    z, y, a = example()
    primal = torch.linalg.solve(z[~a].T @ z[~a] + RIDGE * torch.eye(5, dtype=z.dtype), z[~a].T @ y[~a])
    torch.testing.assert_close(cross_half_regression(z, y, a, ridge=RIDGE)[a], z[a] @ primal)


def test_a_half_does_not_see_its_own_targets() -> None:
    z, y, a = example()
    changed = y.clone()
    changed[a] += 1
    before, after = (cross_half_regression(z, t, a, ridge=RIDGE) for t in (y, changed))
    torch.testing.assert_close(before[a], after[a], rtol=0, atol=0)
    assert not torch.allclose(before[~a], after[~a])


def test_gradients_are_exact() -> None:
    z, y, a = example()
    inputs = (z.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda z, y: cross_half_regression(z, y, a, ridge=RIDGE), inputs)


def test_equal_attributes_stay_solvable_in_float32() -> None:
    z = torch.full((32, 64), 1 / 64)
    predicted = cross_half_regression(z, torch.randn(32, 8), torch.arange(32) % 2 == 0, ridge=RIDGE)
    assert predicted.isfinite().all()


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_a_larger_ridge_shrinks_the_prediction_towards_zero(ridge: float) -> None:
    z, y, a = example()
    small, large = (cross_half_regression(z, y, a, ridge=r).norm() for r in (ridge, 100 * ridge))
    assert large < small


def local_features(batch: int = 2, channels: int = 4, locations: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, locations, dtype=torch.float64, generator=generator)


def test_dual_coefficients_solve_their_system_one_image_at_a_time() -> None:
    inputs = local_features()
    for columns, coefficients in zip(inputs, ridge_dual(inputs, ridge=RIDGE), strict=True):
        system = columns.T @ columns + RIDGE * torch.eye(6, dtype=torch.float64)
        torch.testing.assert_close(coefficients, torch.linalg.inv(system).sum(1))


def test_dual_coefficients_have_the_gradient_of_the_solution() -> None:
    inputs = local_features(batch=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ridge_dual(x, ridge=RIDGE), inputs)
    system = inputs.mT @ inputs + RIDGE * torch.eye(6, dtype=torch.float64)
    (expected,) = torch.autograd.grad(torch.linalg.inv(system).sum(2).sin().sum(), inputs)
    (actual,) = torch.autograd.grad(ridge_dual(inputs, ridge=RIDGE).sin().sum(), inputs)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(("ridge", "tolerance"), [(1.0, 1e-5), (1e-4, 1e-2)])
def test_dual_coefficients_give_accurate_sums_of_nearly_equal_columns_in_float32(
    ridge: float, tolerance: float
) -> None:
    inputs = torch.ones(2, 4, 196, dtype=torch.float64) / 2 + 0.005 * local_features(locations=196)
    exact, rounded = (
        torch.einsum("bcn,bn->bc", x, ridge_dual(x, ridge=ridge)) for x in (inputs, inputs.float())
    )
    assert (rounded - exact).norm() < tolerance * exact.norm()
