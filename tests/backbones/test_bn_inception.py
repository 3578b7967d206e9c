import pytest
import torch
import torch.nn.functional as F
from hydra.errors import InstantiationException

from dml.backbones import BNInception

# The table of the published network: input channels, 1×1, 3×3 (reduce, out), double 3×3 (reduce, out),
# pool projection; dashes of the paper are None.
TABLE = {
    "3a": (192, 64, 64, 64, 64, 96, 32),
    "3b": (256, 64, 64, 96, 64, 96, 64),
    "3c": (320, None, 128, 160, 64, 96, None),
    "4a": (576, 224, 64, 96, 96, 128, 128),
    "4b": (576, 192, 96, 128, 96, 128, 128),
    "4c": (576, 160, 128, 160, 128, 160, 128),
    "4d": (608, 96, 128, 192, 160, 192, 128),
    "4e": (608, None, 128, 192, 192, 256, None),
    "5a": (1056, 352, 192, 320, 160, 224, 128),
    "5b": (1024, 352, 192, 320, 192, 224, 128),
}


def published_convolutions():
    """Name -> (outputs, inputs, kernel size) of each convolution of the published file."""
    shapes = {"conv1_7x7_s2": (64, 3, 7), "conv2_3x3_reduce": (64, 64, 1), "conv2_3x3": (192, 64, 3)}
    for block, (inputs, single, reduce, triple, double_reduce, double, projection) in TABLE.items():
        branches = {
            "1x1": (single, inputs, 1),
            "3x3_reduce": (reduce, inputs, 1),
            "3x3": (triple, reduce, 3),
            "double_3x3_reduce": (double_reduce, inputs, 1),
            "double_3x3_1": (double, double_reduce, 3),
            "double_3x3_2": (double, double, 3),
            "pool_proj": (projection, inputs, 1),
        }
        shapes |= {f"inception_{block}_{name}": shape for name, shape in branches.items() if shape[0]}
    return shapes


def published_forward(state, x):
    """The network spelt out on bare tensors, pooling as in the Caffe original."""

    def layer(name, x, stride=1):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)
        norm = [state[f"{name}_bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(x, *norm, eps=1e-5))

    x = F.max_pool2d(layer("conv1_7x7_s2", x, 2), 3, 2, ceil_mode=True)
    x = F.max_pool2d(layer("conv2_3x3", layer("conv2_3x3_reduce", x)), 3, 2, ceil_mode=True)
    for block in TABLE:
        name, stride = f"inception_{block}", 2 if block in ("3c", "4e") else 1
        triple = layer(f"{name}_3x3", layer(f"{name}_3x3_reduce", x), stride)
        double = layer(f"{name}_double_3x3_1", layer(f"{name}_double_3x3_reduce", x))
        double = layer(f"{name}_double_3x3_2", double, stride)
        if stride == 2:
            x = torch.cat([triple, double, F.max_pool2d(x, 3, 2, ceil_mode=True)], dim=1)
            continue
        pooled = F.max_pool2d(x, 3, 1, 1) if block == "5b" else F.avg_pool2d(x, 3, 1, 1, ceil_mode=True)
        x = torch.cat([layer(f"{name}_1x1", x), triple, double, layer(f"{name}_pool_proj", pooled)], dim=1)
    return x


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return BNInception(weights="none", pretrained=False).eval()


@pytest.fixture
def published_file(network, tmp_path):
    """A look-alike of the published file: old format, no counters, (1, C) norms, a classifier."""
    tensors = {
        name: tensor[None] if "_bn." in name else tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors |= {"last_linear.weight": torch.zeros(1000, 1024), "last_linear.bias": torch.zeros(1000)}
    path = tmp_path / "bn_inception-52deb4733.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return path


def test_names_and_shapes_are_those_of_the_published_file(network):
    kernels = {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if tensor.ndim == 4
    }
    assert kernels == {name: (*shape, shape[-1]) for name, shape in published_convolutions().items()}
    norms = {name.split(".")[0] for name in network.state_dict() if "_bn." in name}
    assert norms == {f"{name}_bn" for name in kernels}


def test_the_parameter_count_is_that_of_the_table(network):
    shapes = published_convolutions().values()
    count = sum(outputs * inputs * size * size + 3 * outputs for outputs, inputs, size in shapes)
    assert count == 10_270_240  # with the classifier of 1000 classes: 11,295,240
    assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("size", [224, 227])
def test_the_map_is_7_by_7(network, size):
    with torch.no_grad():
        assert network(torch.randn(1, 3, size, size)).shape == (1, 1024, 7, 7)


def test_the_map_equals_the_network_spelt_out(network):
    images = 50 * torch.randn(1, 3, 128, 99)
    with torch.no_grad():
        torch.testing.assert_close(network(images), published_forward(network.state_dict(), images))


@pytest.mark.parametrize(
    ("size", "expected"), [((33, 65), (1, 2)), ((190, 217), (6, 7)), ((127, 131), (4, 4))]
)
def test_sizes_that_do_not_halve_evenly_are_accepted(network, size, expected):
    with torch.no_grad():
        assert network(torch.randn(1, 3, *size)).shape[2:] == expected


def test_the_published_file_is_loaded_by_its_own_names(network, published_file):
    loaded = BNInception(weights=published_file, pretrained=True).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


def test_a_missing_file_is_an_error_that_says_what_to_get_and_where_to_put_it(tmp_path):
    path = tmp_path / "weights" / "bn_inception-52deb4733.pth"
    with pytest.raises(
        FileNotFoundError, match=r"Get bn_inception-52deb4733\.pth .*pretrained=false"
    ) as caught:
        BNInception(weights=path, pretrained=True)
    assert f"put it into {path.parent}" in str(caught.value)


def test_the_file_is_looked_for_among_the_data(build_backbone):
    with pytest.raises(InstantiationException, match=r"data.*/weights/bn_inception-52deb4733"):
        build_backbone("bn_inception")


def test_input_is_bgr_with_the_mean_subtracted():
    assert BNInception.normalisation == ((104, 117, 128), (1, 1, 1), True)
