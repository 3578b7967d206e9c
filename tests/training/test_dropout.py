from copy import deepcopy

import pytest
import torch
from timm import layers
from timm.layers import DropBlock2d as TimmDropBlock2d
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torchvision.ops import DropBlock2d, DropBlock3d, StochasticDepth

from dml.training.dropout import ImageDropout, draw_dropout_by_image

LAYERS = [nn.Dropout(0.4), nn.Dropout2d(0.4), DropPath(0.4), StochasticDepth(0.4, "row")]


def dropped(layer: nn.Module, values: Tensor, positions: range, step: int = 3, seed: int = 0) -> Tensor:
    model = nn.Sequential(layer)
    noise = draw_dropout_by_image(model, seed)
    noise.at(step, positions)
    return model.train()(values)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_mask_of_an_image_does_not_depend_on_the_cut(layer: nn.Module) -> None:
    values = torch.ones(6, 5, 3, 3)
    whole = dropped(layer, values, range(6))
    parts = [dropped(layer, values[a:b], range(a, b)) for a, b in ((0, 1), (1, 4), (4, 6))]
    assert torch.cat(parts).equal(whole) and 0 < (whole == 0).float().mean() < 1


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_what_is_dropped_together_and_its_mean_are_those_of_the_layer(layer: nn.Module) -> None:
    values = dropped(layer, torch.ones(4000, 4, 2, 2), range(4000))
    assert values.mean().item() == pytest.approx(1, abs=0.05)
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.6])
    groups = {nn.Dropout: values.flatten().unsqueeze(1), nn.Dropout2d: values.flatten(2).flatten(0, 1)}
    together = groups.get(type(layer), values.flatten(1))
    assert (together.amin(1) == together.amax(1)).all()
    if not isinstance(layer, nn.Dropout):
        return
    assert (values.flatten(1).amin(1) != values.flatten(1).amax(1)).any()


def test_steps_seeds_and_layers_have_masks_of_their_own() -> None:
    values = torch.ones(2, 50)
    masks = [
        dropped(nn.Dropout(0.5), values, range(2), step, seed) for step, seed in ((0, 0), (1, 0), (0, 1))
    ]
    assert not masks[0].equal(masks[1]) and not masks[0].equal(masks[2])
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    draw_dropout_by_image(model, 0).at(0, range(2))
    assert not model[0](values).equal(model[1](values))


def test_windows_of_an_image_share_its_draw_of_numbers_but_not_one_mask() -> None:
    windows = dropped(nn.Dropout(0.5), torch.ones(6, 40), range(2))  # 2 images of 3 windows
    assert windows[:3].equal(dropped(nn.Dropout(0.5), torch.ones(3, 40), range(1)))
    assert not windows[0].equal(windows[1])


def test_evaluation_and_a_rate_of_zero_change_nothing_and_a_rate_of_one_drops_all() -> None:
    values = torch.rand(2, 3)
    assert dropped(nn.Dropout(0.0), values, range(2)) is values
    assert dropped(nn.Dropout(1.0), values, range(2)).equal(torch.zeros(2, 3))
    model = nn.Sequential(nn.Dropout(0.5))
    draw_dropout_by_image(model, 0)
    assert isinstance(model[0], ImageDropout) and model.eval()(values) is values


OTHERS = {
    "AlphaDropout": (nn.AlphaDropout(0.4), (5, 3)),
    "AlphaDropout in place": (nn.AlphaDropout(0.4, inplace=True), (5, 3)),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout(0.4), (5, 3)),
    "RReLU": (nn.RReLU(), (5, 3)),
    "DropBlock2d of timm": (TimmDropBlock2d(0.4, block_size=3), (2, 5, 5)),
    "DropBlock2d": (DropBlock2d(0.4, block_size=3), (2, 5, 5)),
    "DropBlock3d": (DropBlock3d(0.4, block_size=3), (2, 3, 5, 5)),
    "PatchDropout": (PatchDropout(0.5, num_prefix_tokens=1), (9, 4)),
    "StochasticDepth of the batch": (StochasticDepth(0.5, "batch"), (3,)),
    "Attention": (Attention(8, num_heads=2, attn_drop=0.4), (5, 8)),
}
if hasattr(layers, "DiffAttention"):  # not in the oldest timm
    OTHERS["DiffAttention"] = (layers.DiffAttention(8, num_heads=1, attn_drop=0.4), (5, 8))


@pytest.mark.parametrize("name", OTHERS)
def test_what_draws_in_a_way_of_its_own_draws_the_same_for_an_image_in_any_cut(name: str) -> None:
    layer, shape = OTHERS[name]
    values = torch.randn(6, *shape, requires_grad=True)
    steps = range(8)
    whole = [dropped(deepcopy(layer), values, range(6), step) for step in steps]
    for a, b in ((0, 1), (1, 4), (4, 6)):
        for step in steps:
            part = dropped(deepcopy(layer), values[a:b], range(a, b), step)
            torch.testing.assert_close(part, whole[step][a:b], rtol=1e-6, atol=1e-6)
    torch.stack(whole).sum().backward()
    assert values.grad is not None and any(not one.equal(whole[0]) for one in whole)


def test_stochastic_depth_of_the_batch_keeps_or_drops_it_as_a_whole() -> None:
    layer = StochasticDepth(0.5, "batch")
    kept = [dropped(layer, torch.ones(4, 3), range(4), step).unique().tolist() for step in range(20)]
    assert (
        sorted(kept) == [[0.0]] * kept.count([0.0]) + [[2.0]] * kept.count([2.0])
        and 2 < kept.count([0.0]) < 18
    )


def test_evaluation_draws_nothing_in_layers_that_draw_in_a_way_of_their_own() -> None:
    model = nn.Sequential(PatchDropout(0.5), nn.AlphaDropout(0.5))
    draw_dropout_by_image(model, 0)
    values = torch.rand(2, 9, 4)
    assert model.eval()(values).equal(values)


def test_attention_without_dropout_stays_fused() -> None:
    fused, slow = Attention(8, num_heads=2), Attention(8, num_heads=2, attn_drop=0.1)
    draw_dropout_by_image(nn.Sequential(fused, slow), 0)
    assert (fused.fused_attn, slow.fused_attn) == (True, False)
