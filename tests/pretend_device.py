"""A pretended GPU: tensors that say they are on ``cuda:0``, compute on the CPU and refuse what CUDA refuses.

    def test_something(pretend_gpu): train(compose_smoke("trainer.device=cuda"), folder)

Inside the fixture, or a block of ``pretend_gpus(count)``, ``torch.cuda`` has so many devices, ``.to("cuda:0")`` gives a
`PretendTensor`, and each operation runs on the plain tensor that it wraps. So values, branches on values, autograd,
autocast, optimizers and checkpoints are real. What CUDA refuses is refused: an operation on tensors of two devices
(single numbers on the CPU are let through), ``.numpy()``, and a generator of another device.

Not imitated: kernels (so neither TF32 nor the order in which a GPU adds), streams, memory, pinned memory, NCCL, changes
of shape in place, and ``torch.compile``, which looks inside the subclass. Of autocast, what LOWERED and RAISED name.

How: to C++ such a tensor is on ``meta``, which autograd handles on the calling thread; to Python its ``device`` is the
pretended one; and a dispatch mode sees every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

__all__ = ["PretendTensor", "pretend_gpus"]

aten = torch.ops.aten
CPU = torch.device("cpu")
MOVES = (aten.copy_, aten._to_copy, aten.to)  # from one device to another
INDEXES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)  # also by indices on the CPU
ARBITRARY = {  # what CUDA adds up in any order, and refuses to do where determinism is asked for
    *(aten.put_, aten.histc, aten.kthvalue, aten.max_unpool2d, aten.nll_loss2d_forward, aten._ctc_loss),
    *(aten._adaptive_avg_pool2d_backward, aten.adaptive_max_pool2d_backward, aten.avg_pool3d_backward),
    *(aten.upsample_bilinear2d_backward, aten.upsample_bicubic2d_backward, aten.grid_sampler_2d_backward),
    *(aten.reflection_pad2d_backward, aten.replication_pad2d_backward, aten._embedding_bag),
}
LOWERED = "conv1d conv2d conv3d linear matmul __matmul__ mm mv bmm addmm baddbmm einsum scaled_dot_product_attention"
RAISED = (
    "softmax log_softmax logsumexp layer_norm group_norm exp log log1p pow __pow__ norm cdist prod sum cumsum "
    "cosine_similarity cross_entropy nll_loss mse_loss softplus rsqrt reciprocal"
)


class PretendTensor(Tensor):
    """A tensor whose ``device`` is a GPU that is not there; ``inner`` holds its values, on the CPU."""

    inner: Tensor
    pretended: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> PretendTensor:
        with torch.inference_mode(
            inner.is_inference()
        ):  # a view of a tensor from outside is none of inference
            shape = torch.empty_strided(inner.shape, inner.stride(), dtype=inner.dtype, device="meta")
            self = Tensor._make_subclass(cls, shape, device_for_backend_keys=device)
        self.inner, self.pretended = inner, device
        return self

    device = property(lambda self: self.pretended)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)
    is_cpu = property(lambda self: False)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of pretend_gpus()")

    def __repr__(self) -> str:
        return f"PretendTensor({self.inner!r}, device='{self.pretended}')"

    def numpy(self, **options: Any) -> Any:
        raise TypeError(
            f"can't convert {self.pretended} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
            "memory first."
        )

    __array__ = numpy

    def tolist(self) -> Any:
        return self.inner.tolist()

    def get_device(self) -> int:
        return self.pretended.index

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # a checkpoint holds values

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        copy.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("inner", "pretended")})
        memo[id(self)] = copy
        return copy


class PretendGenerator(torch.Generator):
    """A generator of a GPU that is not there; from a seed it draws what one of the CPU draws."""

    def __new__(cls, device: torch.device | str = CPU) -> torch.Generator:
        device = _indexed(torch.device(device))
        self = super().__new__(cls if device.type == "cuda" else PretendGenerator.__base__)
        if device.type == "cuda":
            self.pretended = device
        return self

    device = property(lambda self: self.pretended)


class _PretendFunctions(TorchFunctionMode):
    """What has to happen above the dispatcher: autocast, and data that C++ would read into ``meta``, that is, lose."""

    _dtypes = dict.fromkeys(LOWERED.split()) | dict.fromkeys(RAISED.split(), torch.float32)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if torch.is_autocast_enabled("cuda") and name in self._dtypes:
            dtype = self._dtypes[name] or torch.get_autocast_dtype("cuda")
            args, kwargs = tree_map(lambda x: _cast(x, dtype), (args, kwargs))
        if "generator" in kwargs:
            _refuse_generator(args, kwargs)
        if name in ("__getitem__", "__setitem__"):
            args = (args[0], _as_index(args[1]), *args[2:])
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": _indexed(torch.device(kwargs["device"]))}
        if name == "to" and isinstance((*args, None)[1], (str, torch.device)):
            args = (args[0], _indexed(torch.device(args[1])), *args[2:])
        if name == "new_tensor":
            return torch.tensor(args[1], **{"dtype": args[0].dtype, "device": args[0].device, **kwargs})
        return func(*args, **kwargs)


def _as_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_as_index, index))
    return torch.as_tensor(index) if isinstance(index, (list, np.ndarray)) else index


def _cast(value: Any, dtype: torch.dtype) -> Any:
    half = (torch.float32, torch.float16, torch.bfloat16)
    return value.to(dtype) if isinstance(value, PretendTensor) and value.dtype in half else value


class _PretendMode(TorchDispatchMode):
    """Runs each operation on the wrapped tensors, and wraps what it gives."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = list(_tensors(args)) + list(_tensors(kwargs.values()))
        device = _target(func, args, kwargs, [t for t in tensors if isinstance(t, PretendTensor)])
        if device is None:
            return func(*args, **kwargs)
        if func.overloadpacket not in MOVES:
            _refuse_mixed(func, args, tensors, device)
        _refuse_arbitrary(func, tensors)
        out = func(*_mapped(_on_cpu, args), **{key: _mapped(_on_cpu, value) for key, value in kwargs.items()})
        return _mapped(_wrapper(func, tensors, device), out)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """The function of everything in lists and tuples, which is all that operations take and give."""
    if isinstance(value, (list, tuple)):
        return type(value)([_mapped(function, part) for part in value])
    return function(value)


def _target(func: Any, args: Any, kwargs: Any, pretended: list[PretendTensor]) -> torch.device | None:
    """Where the result lies; None if no pretended device takes part."""
    asked = kwargs.get("device")
    for argument, value in zip(func._schema.arguments, args, strict=False):
        asked = value if argument.name == "device" else asked
    if asked is not None and asked.type == "cuda":
        return _indexed(asked)
    if pretended:
        return CPU if asked is not None and asked.type == "cpu" else pretended[0].pretended
    return _indexed(torch.device("cuda")) if asked is not None and asked.type == "meta" else None


def _refuse_mixed(func: Any, args: Any, tensors: list[Tensor], device: torch.device) -> None:
    if func.overloadpacket in INDEXES and isinstance(args[0], PretendTensor):
        tensors = [args[0], *(x for x in args[2:] if isinstance(x, Tensor))]
    devices = {str(t.device) for t in tensors if isinstance(t, PretendTensor) or t.ndim > 0} | {str(device)}
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(sorted(devices))}! ({func})"
        )


def _refuse_arbitrary(func: Any, tensors: list[Tensor]) -> None:
    kind = func.overloadpacket
    sums = kind in (aten.cumsum, aten.cumsum_) and tensors[0].is_floating_point()
    if torch.are_deterministic_algorithms_enabled() and (kind in ARBITRARY or sums):
        raise RuntimeError(f"{kind} does not have a deterministic implementation")


def _refuse_generator(args: Any, kwargs: Any) -> None:
    """Above the dispatcher, below which a generator has lost its class."""
    generator = kwargs["generator"]
    tensors = [x.device for x in args if isinstance(x, Tensor)]
    device = _indexed(torch.device(kwargs.get("device") or (tensors or [CPU])[0]))
    if generator is not None and generator.device != device:
        raise RuntimeError(f"Expected a '{device}' device type for generator but found '{generator.device}'")


def _on_cpu(value: Any) -> Any:
    if isinstance(value, PretendTensor):
        return value.inner
    return CPU if isinstance(value, torch.device) else value


def _wrapper(func: Any, tensors: list[Tensor], device: torch.device) -> Any:
    """What becomes of each tensor that an operation gives back."""
    given = {id(t.inner if isinstance(t, PretendTensor) else t): t for t in tensors}

    def wrap(out: Any) -> Any:
        if not isinstance(out, Tensor):
            return out
        same = given.get(id(out))
        if same is not None and (func.overloadpacket is aten.copy_ or same.device == device):
            assert same.shape == out.shape, f"{func} changed a shape in place, which is not imitated"
            return same
        moved = out if same is None else out.clone()
        return moved if device == CPU else PretendTensor(moved, device)

    return wrap


def _indexed(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


@contextmanager
def pretend_gpus(count: int = 1) -> Iterator[dict[str, int]]:
    """Have so many GPUs for the block; gives ``{"current": index}``."""
    state = {"current": 0}

    def set_device(device: Any) -> None:
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.index is None:
            raise ValueError(
                f"Expected a torch.device with a specified index or an integer, but got:{device}"
            )
        if device.index >= count:
            raise RuntimeError("CUDA error: invalid device ordinal")
        state["current"] = device.index

    patches = {
        "is_available": lambda: count > 0,
        "device_count": lambda: count,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "current_device": lambda: state["current"],
        "set_device": set_device,
        "get_device_name": lambda device=None: "Pretended GPU",
        "get_device_capability": lambda device=None: (9, 0),
        "is_bf16_supported": lambda including_emulation=True: True,
        "is_current_stream_capturing": lambda: False,
        "Event": mock.Mock,  # all has happened already
        "synchronize": lambda device=None: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
    }
    before = torch._C._only_lift_cpu_tensors()
    float32, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **patches))
        stack.enter_context(mock.patch("torch.Generator", PretendGenerator))
        stack.enter_context(
            mock.patch.object(
                Optimizer, "_accelerator_graph_capture_health_check", lambda self: None, create=True
            )
        )
        if hasattr(torch, "accelerator"):  # which the thread that pins memory asks
            placed = {"current_device_index": lambda: state["current"], "set_device_index": set_device}
            stack.enter_context(mock.patch.multiple(torch.accelerator, **placed))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self, device=None: self))
        stack.enter_context(_PretendMode())
        stack.enter_context(_PretendFunctions())
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(..., device=) asks the driver
        try:
            yield state
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)
            torch._C._set_only_lift_cpu_tensors(before)
            torch.set_float32_matmul_precision(float32)
            torch.backends.cudnn.allow_tf32 = convolutions
            torch.use_deterministic_algorithms(False)
