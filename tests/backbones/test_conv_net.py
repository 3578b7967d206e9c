import pytest
import torch

from dml.backbones import ConvNet


@pytest.mark.parametrize("widths", [[4, 5, 6], [4, 5, 6, 7, 8]])
def test_the_first_three_blocks_halve_the_map_and_the_others_leave_its_size(widths: list[int]) -> None:
    network = ConvNet(widths=widths)
    features = network(torch.randn(2, 3, 32, 40))
    assert features.shape == (2, widths[-1], 4, 5) and network.out_channels == widths[-1]
    assert features.amin() >= 0 and len(network.layers) == len(widths)


@pytest.mark.parametrize("widths", [[16, 32], [16, 0, 32]])
def test_too_few_blocks_or_channels_are_refused(widths: list[int]) -> None:
    with pytest.raises(ValueError, match=r"backbone.widths=.*3 or more blocks, such as"):
        ConvNet(widths=widths)
