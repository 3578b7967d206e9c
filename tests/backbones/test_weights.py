import pickle

import pytest
import torch
from torch import nn

from dml.backbones.weights import load_exactly, read_tensors


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_a_missing_counter_of_batches_is_no_fault(network):
    tensors = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    del tensors["1.num_batches_tracked"]
    load_exactly(network, tensors, source="file")
    torch.testing.assert_close(network[1].running_mean, torch.ones(4))


def test_the_first_missing_tensor_is_named(network):
    tensors = network.state_dict()
    del tensors["0.bias"], tensors["1.bias"]
    with pytest.raises(ValueError, match=r"file lacks '0\.bias'"):
        load_exactly(network, tensors, source="file")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(network):
    tensors = network.state_dict() | {"1.weight": torch.ones(5)}
    with pytest.raises(ValueError, match=r"'1\.weight' of shape \(5,\), but the network needs \(4,\)"):
        load_exactly(network, tensors, source="file")


def test_a_superfluous_tensor_is_named(network):
    with pytest.raises(ValueError, match=r"file has '2\.weight', which the network does not know"):
        load_exactly(network, network.state_dict() | {"2.weight": torch.ones(1)}, source="file")


@pytest.mark.parametrize("content", [[torch.ones(1)], {"epoch": 3, "state_dict": {}}])
def test_a_file_of_anything_but_named_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match="holds no weights"):
        read_tensors(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [pickle.dumps(pickle.Pickler, 2), b"", b"no weights"])
def test_a_pickle_and_a_damaged_file_are_refused_by_name(content, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"file.pth is damaged or holds more than plain tensors"):
        read_tensors(tmp_path / "file.pth")
