import pytest
import torch
from torch import Tensor

from dml.training import ReplicaError, replicas
from dml.training.replicas import check_replicas, checksum

KINDS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


def slow_checksum(tensors: list[Tensor]) -> int:
    """By Python's whole numbers."""
    total = 0
    for tensor in tensors:
        size = tensor.element_size()
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        words = [raw[i : i + size] for i in range(0, len(raw), size)]
        for start in range(0, max(len(words), 1), replicas._BLOCK):
            block = words[start : start + replicas._BLOCK]
            bits = (int.from_bytes(word, "little", signed=size > 1) for word in block)
            total = total * replicas._FACTOR + sum((2 * i + 1) * b for i, b in enumerate(bits))
    return (total + 2**63) % 2**64 - 2**63


def tensors() -> list[Tensor]:
    drawn = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 100
    return [drawn.to(kind) for kind in KINDS] + [drawn[0, 0], drawn.T, torch.zeros(0)]


@pytest.mark.parametrize("block", [4, 1 << 22])
def test_the_checksum_is_the_sum_of_its_formula(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "_BLOCK", block)
    assert int(checksum(tensors())) == slow_checksum(tensors())


def test_the_checksum_changes_with_every_bit_and_with_the_sign_of_zero() -> None:
    weights = torch.randn(6, generator=torch.Generator().manual_seed(0))
    sums = {int(checksum([weights]))}
    for bit in range(6 * 32):
        other = weights.clone()
        other.view(torch.int32)[bit // 32] ^= torch.tensor(1 << bit % 32).to(torch.int32)
        sums.add(int(checksum([other])))
    assert len(sums) == 1 + 6 * 32
    assert int(checksum([torch.tensor([0.0])])) != int(checksum([torch.tensor([-0.0])]))
    assert int(checksum([weights.flip(0)])) not in sums


def test_the_checksum_stays_on_the_device_of_the_tensors() -> None:
    assert checksum([torch.zeros(3, device="meta")]).device.type == "meta"


def test_a_counter_on_the_cpu_beside_weights_on_a_gpu_is_counted_in(pretend_gpu: object) -> None:
    weights, counter = torch.arange(3.0), torch.tensor(5.0)
    mixed = checksum([weights.to("cuda:0"), counter, weights.to("cuda:0")])
    assert mixed.is_cuda and int(mixed) == int(checksum([weights, counter, weights]))


def test_the_fewer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [[5, 1], [5, 2], [5, 1], [4, 1]]
    monkeypatch.setattr(replicas, "world_size", lambda: 4)
    monkeypatch.setattr(replicas, "gather_numbers", lambda *own: torch.tensor(told))
    with pytest.raises(ReplicaError, match=r"^processes 1, 3 of 0 \.\. 3 came to step 5 .* is at step 5:"):
        check_replicas([torch.zeros(1)], 5)
    told[:] = [told[0]] * 4
    check_replicas([torch.zeros(1)], 5)
