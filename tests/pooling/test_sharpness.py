"""The rules by which generalized sum pooling finds its sharpness."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from dml.functional.sharpness import effective_share
from dml.pooling import GeneralizedSumGeMPooling, GeneralizedSumMaxPooling, GeneralizedSumPooling
from dml.pooling.sharpness import RULES

SETTINGS: dict[str, Any] = {"num_prototypes": 4, "transport_ratio": 0.3, "lloyd_iterations": 10}
KINDS = [GeneralizedSumPooling, GeneralizedSumMaxPooling, GeneralizedSumGeMPooling]


def make(rule: float | str, kind: type[GeneralizedSumPooling] = GeneralizedSumPooling, **more: Any) -> Any:
    torch.manual_seed(0)
    power = {"power": 3.0} if kind is GeneralizedSumGeMPooling else {}
    return kind(6, sharpness=rule, **{**SETTINGS, **power, **more})


def features(*, scale: float = 10.0, seed: int = 1) -> Tensor:
    return scale * torch.randn(8, 6, 5, 5, generator=torch.Generator().manual_seed(seed)).abs()


def started(rule: float | str, kind: type[GeneralizedSumPooling] = GeneralizedSumPooling, **more: Any) -> Any:
    layer = make(rule, kind, **more)
    layer.initialise_prototypes(features(), generator=torch.Generator().manual_seed(0))
    layer.fit_sharpness(features())
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_gives_the_first_batches_the_wanted_share(
    rule: str, kind: type[GeneralizedSumPooling]
) -> None:
    weights = started(rule, kind, effective_share=0.45)(features()).weights
    assert effective_share(weights).mean().item() == pytest.approx(0.45, abs=1e-4)


def test_auto_is_the_number_that_it_found() -> None:
    fitted = started("auto")
    number = make(fitted.sharpness.fitted.item())
    number.load_state_dict(fitted.state_dict(), strict=False)
    torch.testing.assert_close(fitted(features(seed=2)), number(features(seed=2)), rtol=0, atol=0)
    torch.testing.assert_close(fitted.plan(features()), number.plan(features()), rtol=0, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_a_state_dict_carries_the_sharpness(rule: str) -> None:
    fitted, other = started(rule), make(rule)
    other.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(other(features(seed=2)), fitted(features(seed=2)), rtol=0, atol=0)


def test_a_number_keeps_nothing_and_fits_nothing() -> None:
    layer = make(5.0)
    layer.fit_sharpness(features())
    assert layer.state_dict().keys() == {"prototypes"} and not layer.sharpness.is_fitted


def test_per_image_gives_every_image_the_share_whatever_the_batch() -> None:
    layer, images = make("per_image"), features(seed=3)
    shares = effective_share(layer(images).weights)
    torch.testing.assert_close(shares, torch.full_like(shares, 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(layer(images[2:3]).vectors, layer(images).vectors[2:3])


def test_a_learned_sharpness_gets_the_gradient_of_the_definition() -> None:
    layer, images = started("learned").double(), features().double()
    slow = layer.plan(images).plan
    (slow.sum(1) / 0.3 * torch.arange(4)).sum().backward()
    expected, layer.sharpness.logarithm.grad = layer.sharpness.logarithm.grad, None
    (layer(images).attributes * torch.arange(4)).sum().backward()
    assert expected.abs() > 1e-3
    torch.testing.assert_close(layer.sharpness.logarithm.grad, expected)


def test_the_sharpness_that_was_found_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = started("auto").sharpness.fitted.item()
    assert f"sharpness {found:.4g}: effective share of the locations 0.500" in caplog.text


def test_locations_that_are_all_alike_are_warned_of_and_a_single_one_is_not() -> None:
    layer = make("auto")
    with pytest.warns(UserWarning, match=r"no pooling\.sharpness gives .*effective_share=0\.5.*gives 1\.00"):
        layer.fit_sharpness(torch.ones(2, 6, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.fit_sharpness(torch.ones(2, 6, 1, 1))


@pytest.mark.parametrize(
    ("rule", "more", "message"),
    [
        ("automatic", {}, "accepted: a number above 0, auto, learned"),
        (0.0, {}, "expected a finite number above 0"),
        ("auto", {"effective_share": 0.3}, r"must lie between pooling.transport_ratio=0\.3"),
        ("auto", {"effective_share": 1.0}, "which is average pooling"),
    ],
)
def test_what_cannot_be_had_is_refused(rule: float | str, more: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(rule, **more)


@pytest.mark.parametrize("rule", ["auto", "learned", "standardised"])
@torch.no_grad()  # what is exported is for use, and not for training
def test_an_exported_layer_gives_the_same(rule: str) -> None:
    layer = started(rule).eval()
    exported = torch.export.export(layer, (features(),), strict=False)
    torch.testing.assert_close(exported.module()(features(seed=2)), layer(features(seed=2)))
