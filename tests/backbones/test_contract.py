"""What every backbone promises, for every YAML file."""

from pathlib import Path

import pytest
import torch

from dml.types import Normalisation

CONFIGS = Path(__file__).parents[2] / "configs" / "backbone"
NAMES = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
WITHOUT_FILES = {name: {"pretrained": False} for name in ("bn_inception", "resnet50", "timm")}


@pytest.fixture(scope="module", params=NAMES)
def backbone(request, build_backbone):
    return build_backbone(request.param, **WITHOUT_FILES.get(request.param, {})).eval()


def test_the_list_of_backbones_is_not_empty():
    assert {"bn_inception", "efficientnet_lite0", "resnet50", "timm", "tiny"} <= set(NAMES)


def test_the_map_has_the_published_channels_at_any_size_and_a_gradient_reaches_every_parameter(backbone):
    for height, width in [(64, 96), (127, 131)]:
        feature_map = backbone(torch.randn(2, 3, height, width))
        assert feature_map.shape[:2] == (2, backbone.out_channels)
        assert height / 32 - 1 < feature_map.shape[2] <= -(-height // 4)
        assert width / 32 - 1 < feature_map.shape[3] <= -(-width // 4)
        assert feature_map.isfinite().all()
    feature_map.square().sum().backward()
    gradients = [parameter.grad for parameter in backbone.parameters() if parameter.requires_grad]
    assert all(gradient is not None for gradient in gradients)
    assert gradients[0].abs().sum() > 0


def test_a_backbone_says_how_it_wants_its_images(backbone):
    assert isinstance(backbone.normalisation, Normalisation)
    assert all(0 <= mean <= 255 for mean in backbone.normalisation.mean)
    assert all(0 < std <= 255 for std in backbone.normalisation.std)
    assert len(backbone.normalisation.mean) == len(backbone.normalisation.std) == 3
