"""A folded backbone is the same function with the same parameters."""

import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from dml.assembly import build_model
from dml.backbones import fold_batchnorm
from dml.config import TrainConfig

Compose = Callable[..., TrainConfig]


class Shared(nn.Module):
    """The convolution's output goes to the BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        values = self.convolution(images)
        return self.norm(values) + values


def network(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers)
    for seed, module in enumerate(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        generator = torch.Generator().manual_seed(seed)
        for values in (module.weight.data, module.bias.data, module.running_mean):
            values.normal_(generator=generator)
        module.running_var.uniform_(0.5, 2, generator=generator)
        module.eval().requires_grad_(False)
    return model


def layers() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=True),
        BatchNormAct2d(8),
        Conv2dSame(8, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
    ]


def outcome(model: nn.Module) -> tuple[Tensor, list[Tensor]]:
    images = torch.randn(2, 3, 13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = model.double()(images)
    model.zero_grad()
    output.square().sum().backward()
    return output, [p.grad for p in model.parameters() if p.grad is not None]


def test_output_and_gradients_are_those_of_the_unfolded_network_and_so_are_the_names() -> None:
    plain = network(*layers())
    folded = copy.deepcopy(plain)
    assert fold_batchnorm(folded, 13) == 3
    torch.testing.assert_close(outcome(folded), outcome(plain), rtol=1e-9, atol=1e-9)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in plain.named_modules()]


def test_a_copy_of_a_folded_network_is_folded_with_its_own_batchnorm() -> None:
    folded = network(*layers())
    fold_batchnorm(folded, 13)
    copied = copy.deepcopy(folded)
    before = outcome(copied)[0]
    folded[1].running_mean.add_(100)
    assert outcome(copied)[0].equal(before) and not outcome(folded)[0].allclose(before)


def test_the_batchnorm_itself_does_nothing_while_frozen_and_its_work_while_it_trains() -> None:
    plain, folded = network(*layers()), network(*layers())
    folded.load_state_dict(plain.state_dict())
    fold_batchnorm(folded, 13)
    values = torch.randn(2, 8, 5, 5)
    assert folded[1](values) is values
    for model in (plain, folded):
        model.train()
    torch.testing.assert_close(outcome(folded), outcome(plain), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(folded[1].running_mean, plain[1].running_mean)


def test_a_convolution_that_others_read_too_is_left_alone() -> None:
    model = network(Shared())
    images = torch.randn(2, 3, 9, 9)
    before = model(images)
    assert fold_batchnorm(model, 9) == 0
    assert model(images).equal(before) and type(model[0].convolution) is nn.Conv2d


def test_a_batchnorm_for_two_convolutions_and_one_without_statistics_are_left_alone() -> None:
    norm = nn.BatchNorm2d(3)
    assert fold_batchnorm(network(nn.Conv2d(3, 3, 1), norm, nn.Conv2d(3, 3, 1), norm), 4) == 0
    bare = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False))
    assert fold_batchnorm(bare, 4) == 0


@pytest.mark.parametrize(
    ("overrides", "count"),
    [
        (["backbone=efficientnet_lite0"], 49),
        (["backbone=resnet50"], 53),
        (["backbone=bn_inception"], 69),
        (["backbone=tiny"], 3),
    ],
)
def test_every_batchnorm_of_the_backbones_is_folded(
    overrides: list[str], count: int, compose_config: Compose
) -> None:
    model = build_model(compose_config(*overrides, "transform.size=64"), pretrained=False)
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == count and all(type(m).__name__.startswith("Passing") for m in norms)


def test_what_something_else_sees_is_not_folded_even_where_batchnorm_is_still_the_identity() -> None:
    assert fold_batchnorm(Shared().eval(), 16) == 0
    assert fold_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 16) == 1


def test_looking_for_what_can_be_folded_changes_no_value() -> None:
    model = network(*layers())
    before = copy.deepcopy(model.state_dict())
    assert fold_batchnorm(model, 16) == 3
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
