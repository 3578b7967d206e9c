import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet50

from dml.backbones import ResNet50


def test_the_map_is_what_the_classifier_pools():
    torch.manual_seed(0)
    whole = resnet50().eval()
    backbone = ResNet50(weights="IMAGENET1K_V1", pretrained=False).eval()
    body = {name: tensor for name, tensor in whole.state_dict().items() if not name.startswith("fc.")}
    backbone.layers.load_state_dict(body)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(whole.fc(backbone(images).mean(dim=(2, 3))), whole(images))


def test_normalisation_is_that_of_the_weights():
    normalisation = ResNet50(weights="IMAGENET1K_V2", pretrained=False).normalisation
    assert normalisation.mean == pytest.approx((123.675, 116.28, 103.53))
    assert normalisation.std == pytest.approx((58.395, 57.12, 57.375))
    assert not normalisation.bgr


def test_the_named_weights_are_downloaded(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "dml.backbones.resnet50.resnet50", lambda weights: asked.append(weights) or resnet50()
    )
    ResNet50(weights="IMAGENET1K_V2", pretrained=True)
    assert asked == [ResNet50_Weights.IMAGENET1K_V2]


def test_unknown_weights_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'V3' is unknown .* IMAGENET1K_V1, IMAGENET1K_V2"):
        ResNet50(weights="V3", pretrained=False)


def test_a_failed_download_says_where_to_put_the_file(monkeypatch):
    def fail(weights):
        raise OSError("no route to host")

    monkeypatch.setattr("dml.backbones.resnet50.resnet50", fail)
    with pytest.raises(RuntimeError, match=r"resnet50-0676ba61\.pth.*checkpoints") as caught:
        ResNet50(weights="IMAGENET1K_V1", pretrained=True)
    assert "no route" in str(caught.value.__cause__)
