import pytest
import torch

from dml.randomness import derive_seed, numpy_generator, torch_generator, torch_seed


def test_equal_keys_give_equal_seeds_and_others_do_not() -> None:
    keys = [
        (0, "crop", 1, 2),
        (0, "crop", 12),
        (0, "crop", 1, 3),
        (1, "crop", 1, 2),
        (0, "flip", 1, 2),
        ("0", "crop", 1, 2),
    ]
    assert len({derive_seed(*key) for key in keys}) == len(keys)
    assert derive_seed(*keys[0]) == derive_seed(*keys[0])


def test_seeds_stay_the_same_between_versions() -> None:
    assert derive_seed(0, "crop", 1, 2) == 2131357121035850732


def test_generators_depend_on_the_key_alone() -> None:
    assert numpy_generator(3, "a").random() == numpy_generator(3, "a").random()
    assert torch.rand(2, generator=torch_generator(3)).equal(torch.rand(2, generator=torch_generator(3)))


def test_torch_seed_restores_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with torch_seed(5):
        inside = torch.rand(1)
    assert torch.rand(1).equal(expected) and not inside.equal(expected)


def test_a_gpu_that_nothing_has_used_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # current_device would ask the driver
    with torch_seed(5):
        assert torch.rand(1).numel() == 1
