"""Before it trains, a model shows which layers draw, and for what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from timm.layers import RelPosMlp
from torch import Tensor, nn
from torchvision.models.densenet import _DenseLayer
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.models.vision_transformer import EncoderBlock

from dml.assembly import build_evaluator, build_model, build_objective, build_trainer
from dml.config import ConfigError, TrainConfig
from dml.run_folder import RunFolder
from dml.training import Trainer
from dml.training.draws import layers_that_draw, spot_shared_inputs
from dml.training.dropout import ImageDropout, draw_dropout_by_image
from tests.noise import noise_splits

Compose = Callable[..., TrainConfig]


class Functional(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, 0.5, training=self.training)


class Recurrent(nn.LSTM):
    def forward(self, values: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(values)[0]


class WithPositions(nn.Module):
    """Adds to tokens what an MLP with dropout makes of a table of positions, as timm's relative attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = RelPosMlp((2, 2), num_heads=4)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.positions.get_bias()[0].mean(0)


DRAWING = {
    "1 (Functional)": (Functional(), (3,)),
    "1 (Recurrent)": (Recurrent(4, 4, num_layers=2, dropout=0.5, batch_first=True), (3, 4)),
    "1.self_attention (MultiheadAttention)": (EncoderBlock(2, 4, 8, 0.0, 0.5), (3, 4)),
    "1 (ShiftedWindowAttention)": (
        ShiftedWindowAttention(4, [2, 2], [0, 0], 2, attention_dropout=0.5),
        (4, 4, 4),
    ),
    "1 (_DenseLayer)": (_DenseLayer(4, 4, 2, 0.5), (4, 4, 4)),
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_layer_whose_draws_depend_on_the_cut_is_found_by_name(name: str) -> None:
    layer, shape = DRAWING[name]
    model = nn.Sequential(nn.Dropout(0.5), layer)
    draw_dropout_by_image(model, 0).at(0, range(2))
    values = torch.rand(2, *shape)
    before = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    assert layers_that_draw(model, values) == [name]
    assert torch.get_rng_state().equal(before[0]) and not any(m._forward_hooks for m in model.modules())
    assert all(value.equal(before[1][key]) for key, value in model.state_dict().items())


def test_dropout_of_a_table_of_positions_has_one_mask_in_any_cut() -> None:
    model = WithPositions()
    noise, values = draw_dropout_by_image(model, 0), torch.rand(6, 4, 4)
    spot_shared_inputs(model, noise, values[:2])
    drawn = []
    for begin, end in ((0, 6), (0, 1), (1, 3), (3, 6)):
        noise.at(0, range(begin, end))
        drawn.append(model(values[begin:end]))
    assert torch.cat(drawn[1:]).equal(drawn[0])
    noise.at(1, range(6))
    assert not model(values).equal(drawn[0])


def test_dropout_of_images_stays_what_it_is_and_so_does_one_that_the_trial_does_not_reach() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(0, 1), nn.Dropout(0.5))
    noise = draw_dropout_by_image(model, 0)
    model.aside = ImageDropout(0.5, shared_axes=0, layer=2, noise=noise)
    model.forward = lambda values: model[2](model[1](model[0](values)))
    spot_shared_inputs(model, noise, torch.rand(2, 3, 4))
    assert all(layer.of_images for layer in (model[0], model[2], model.aside)) and model.training


@pytest.mark.parametrize("micro_batch", ["null", 4])
def test_a_run_refuses_such_a_layer_where_the_batch_is_cut_and_only_there(
    micro_batch: int | str, compose_smoke: Compose, tmp_path: Path
) -> None:
    def assemble() -> Trainer:
        cfg, data = compose_smoke(f"trainer.micro_batch={micro_batch}"), noise_splits()
        model = build_model(cfg)
        model.backbone.layers.append(Functional())
        return build_trainer(
            cfg,
            model,
            build_objective(cfg, data.train),
            data,
            build_evaluator(cfg, data),
            RunFolder(tmp_path),
        )

    if micro_batch == "null":
        assert assemble().options.micro_batch is None
        return
    with pytest.raises(ConfigError, match=r"^backbone\.layers\.\d \(Functional\): .* set its dropout to 0"):
        assemble()
