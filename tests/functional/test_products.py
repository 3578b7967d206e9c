"""Products as convolutions are the products."""

import pytest
import torch

from dml.functional import products


@pytest.fixture(params=[True, False], ids=["at hand", "on an accelerator"])
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(products, "eager_cpu", lambda tensor: False)
    return bool(request.param)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strided", [False, True])
def test_rows_by_a_matrix_and_their_sum_equal_the_plain_products(
    eager: bool, dtype: torch.dtype, strided: bool
) -> None:
    matrix, left = draw(5, 8, dtype=dtype), draw(3, 7, 5, dtype=dtype)
    rows = draw(3, 8, 7, dtype=dtype).mT if strided else draw(3, 7, 8, dtype=dtype)
    torch.testing.assert_close(products.rows_by(matrix, rows), torch.einsum("kd,bnd->bnk", matrix, rows))
    torch.testing.assert_close(products.summed_products(left, rows), torch.einsum("bnk,bnd->kd", left, rows))


def test_features_are_copied_into_rows_only_where_that_pays(eager: bool) -> None:
    features = draw(2, 3, 4)
    rows = products.tokens(features)
    assert torch.equal(rows, features.transpose(1, 2))
    assert rows.is_contiguous() == eager
