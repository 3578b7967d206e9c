"""The pretended GPU computes like the CPU and refuses like CUDA; so the rest of the tests can lean on it."""

import copy
import io

import pytest
import torch
from torch import nn

from tests.pretend_device import PretendTensor, pretend_gpus

pytestmark = pytest.mark.usefixtures("pretend_gpu")
GPU = torch.device("cuda:0")


def test_values_gradients_and_devices_are_those_of_a_gpu_that_computes_like_the_cpu() -> None:
    torch.manual_seed(0)
    plain = torch.randn(3, 4, requires_grad=True)
    moved = plain.detach().to(GPU).requires_grad_()
    for x in (plain, moved):
        (x.T @ x).softmax(1).square().sum().backward()
    assert moved.grad.device == GPU and moved.is_cuda and not moved.cpu().is_cuda
    assert torch.equal(moved.grad.cpu(), plain.grad) and moved.tolist() == plain.tolist()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: x + torch.zeros(3), "two devices, cpu and cuda:0"),
        (lambda x: torch.zeros(3).add_(x), "two devices, cpu and cuda:0"),
        (lambda x: torch.zeros(3)[x.long()], "two devices, cpu and cuda:0"),
        (lambda x: torch.cat([x, torch.zeros(3)]), "two devices, cpu and cuda:0"),
        (lambda x: x + torch.zeros(3, device="cuda:1"), "two devices, cuda:0 and cuda:1"),
        (lambda x: nn.Linear(3, 2)(x), "two devices, cpu and cuda:0"),
        (lambda x: x.numpy(), "can't convert cuda:0 device type tensor to numpy"),
        (
            lambda x: torch.rand(2, device=GPU, generator=torch.Generator()),
            "'cuda:0' device type for generator",
        ),
        (lambda x: torch.rand(2, generator=torch.Generator(GPU)), "'cpu' device type for generator"),
        (lambda x: torch.cuda.set_device("cuda"), "specified index"),
        (lambda x: torch.cuda.set_device(1), "invalid device ordinal"),
    ],
)
def test_what_cuda_refuses_is_refused(operation, message: str) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        operation(torch.arange(3.0, device=GPU))


def test_what_cuda_lets_through_is_let_through() -> None:
    x = torch.arange(3.0, device=GPU)
    assert (x * torch.tensor(2.0)).tolist() == [0, 2, 4]
    assert x[[2, 0]].tolist() == x[torch.tensor([2, 0])].tolist() == [2, 0]
    assert x.to("cuda").device == nn.Linear(2, 2).to("cuda").weight.device == GPU
    assert torch.zeros(3).copy_(x).tolist() == [0, 1, 2]
    assert x.new_tensor([1, 2]).device == torch.tensor([1, 2], device="cuda").device == GPU


def test_modules_move_copy_and_are_saved_with_their_values() -> None:
    layer = nn.Linear(2, 2).to(GPU)
    other, file = copy.deepcopy(layer), io.BytesIO()
    torch.save(layer.state_dict(), file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    assert isinstance(other.weight, PretendTensor) and isinstance(other.weight, nn.Parameter)
    assert loaded["weight"].device.type == "cpu" and torch.equal(loaded["weight"], other.weight.cpu())


def test_autocast_lowers_products_and_raises_sums() -> None:
    x = torch.ones(2, 2, device=GPU)
    with torch.autocast("cuda", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16 and (x @ x).sum().dtype == torch.float32


def test_a_view_under_inference_mode_of_a_tensor_from_outside_is_none_of_inference() -> None:
    x = torch.ones(2, 2, device=GPU)
    with torch.inference_mode():
        assert not x[:, 0].is_inference() and (x + 1).is_inference()


def test_afterwards_nothing_is_left() -> None:
    with pretend_gpus(3):
        assert torch.cuda.device_count() == 3
    assert torch.cuda.device_count() == 1  # of the fixture around
