"""A GPU that is not there: CPU tensors that say they are on "cuda:0", for tests without one.

    with PretendedGPU() as gpu:
        net.to("cuda"), batch.to("cuda")
        loss = ...; loss.backward(); optimizer.step()
    gpu.waits, gpu.uploads

Within it `x.device`, `x.is_cuda`, `.to("cuda")`, `.cuda()`, `.cpu()`, factories with device="cuda" and
module.to("cuda") behave as on a machine with one GPU, while the CPU computes the numbers. So the branches that a
program takes on a GPU run, and what they give can be compared with what the CPU's branches give. It raises `Mixed`
where an operation meets tensors of both sides that CUDA would refuse, and notes

    waits      what the host would wait for: .item(), .cpu(), bool(), nonzero, a mask as index, repeat_interleave
               without output_size, blocking copies either way
    uploads    copies to the GPU that do not block: from pinned memory, non_blocking

It cannot tell whether a CUDA kernel exists for a dtype or shape, its rounding, its determinism, its speed.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import fused_cells
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda", 0)
PACKAGES = ("hycon", "baselines", "studies")
WAITING = {  # the host learns a size or a value from them
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::equal", "aten::is_nonzero", "aten::bincount", "aten::histc",
    "aten::_linalg_eigh", "aten::_linalg_svd", "aten::linalg_inv_ex", "aten::linalg_cholesky_ex", "aten::allclose",
    "aten::_linalg_check_errors",
}  # fmt: skip
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
STAND_INS = {  # what PyTorch has on CUDA alone
    torch.ops.aten._thnn_fused_lstm_cell.default: fused_cells.cell,
    torch.ops.aten._thnn_fused_lstm_cell_backward_impl.default: fused_cells.cell_backward,
}
COPYING = {"aten::copy_", "aten::_copy_from"}


class Mixed(RuntimeError):
    """An operation met tensors of both devices."""


def tensors_in(*values: Any) -> list[Tensor]:
    """Those in lists, tuples and dicts too. PyTorch's `tree_leaves` does it, three times slower."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(*value)
        elif isinstance(value, dict):
            found += tensors_in(*value.values())
    return found


def is_cuda(device: Any) -> bool:
    return device is not None and not isinstance(device, int) and torch.device(device).type == "cuda"


def on_gpu(x: Any) -> bool:
    """Whether a tensor pretends to be on the GPU. The mark is on its storage, which its views share."""
    return isinstance(x, Tensor) and getattr(x.untyped_storage(), "_on_gpu", False)


def _pinned(x: Tensor) -> Tensor:
    """x in memory from which a copy does not block; any other is first copied there by the driver, and that does."""
    out = x.clone()
    out.untyped_storage()._pinned = True
    return out


def mark(x: Any, gpu: bool = True) -> Any:
    if isinstance(x, Tensor):
        x.untyped_storage()._on_gpu = gpu
    return x


class PretendedGPU(contextlib.AbstractContextManager):
    """waits, uploads: (what, file and line of the package that led there), in order."""

    memory = torch.device("cpu")  # where tensors that pretend to be on the GPU are

    def __init__(self) -> None:
        self.waits: list[tuple[str, str]] = []
        self.uploads: list[tuple[str, str]] = []
        self._given = [False]  # whether what is called was given tensors of the GPU; the innermost call last
        self._quiet = False  # nothing is noted
        self._honest = False  # tensors tell their true device
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PretendedGPU:
        patch = self._stack.enter_context

        def device(x: Tensor) -> torch.device:
            return CUDA if not self._honest and on_gpu(x) else x.untyped_storage().device

        for name, value in {
            "device": property(device),
            "is_cuda": property(lambda x: device(x).type == "cuda"),
            "is_cpu": property(lambda x: device(x).type == "cpu"),
            "get_device": lambda x: 0 if on_gpu(x) else -1,
            "pin_memory": _pinned,
        }.items():
            patch(_replaced(torch.Tensor, name, value))
        for name, value in {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "get_device_name": lambda *_: "pretended",
            "get_device_capability": lambda *_: (8, 0),
            "get_device_properties": lambda *_: type("Properties", (), {"uuid": "0"})(),
            "device": lambda *_: contextlib.nullcontext(),
            "reset_peak_memory_stats": lambda *_: None,
            "max_memory_reserved": lambda *_: 0,
        }.items():
            patch(_replaced(torch.cuda, name, value))
        patch(_replaced(torch, "autocast", _autocast(torch.autocast)))
        for name in ("is_autocast_enabled", "get_autocast_dtype"):
            patch(_replaced(torch, name, _of_the_cpu(getattr(torch, name))))
        patch(_replaced(torch.autograd, "_engine_run_backward", self._backward(torch.autograd._engine_run_backward)))
        patch(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*(cuDNN|CUDA is not available).*")
        self.operations = patch(_Operations(self))
        self.calls = patch(_Calls(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def reset(self) -> None:
        self.waits.clear()
        self.uploads.clear()

    def transferred(self, what: str, blocking: bool) -> None:
        if not self._quiet:
            (self.waits if blocking else self.uploads).append((what, _where()))

    def waited(self, what: str) -> None:
        self.transferred(what, blocking=True)

    @contextlib.contextmanager
    def given(self, gpu: bool) -> Iterator[None]:
        self._given.append(gpu)
        try:
            yield
        finally:
            self._given.pop()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        with _replaced(self, "_quiet", True):
            yield

    def _backward(self, run):
        """The engine is called from within `_Calls`, which is off then: on again, for what Python has of it."""

        def backward(outputs, *args, **kwargs):
            with self.given(any(map(on_gpu, outputs))), self.calls:
                return run(outputs, *args, **kwargs)

        return backward

    # ---------------------------------------------------------------------------------------------- copies

    def copied(self, x: Tensor, to_gpu: bool, blocking: bool) -> Tensor:
        """x on the other side, as a copy without history."""
        with self.quiet():
            out = mark(x.clone(), to_gpu)
        where = "to the GPU" if to_gpu else "to the host"
        self.transferred(f"copy {where} {tuple(x.shape)}", blocking or not to_gpu)
        return out

    def moved(self, name: str, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """x.cpu(), x.cuda(), x.to(...), x.tolist() and those of NumPy; NotImplemented where the CPU's own serves."""
        if name in ("numpy", "tolist", "__array__"):
            if not on_gpu(x):
                return NotImplemented
            if name != "tolist":
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            self.waited("tolist")
            with self.quiet():
                return torch._C.TensorBase.tolist(x)
        copy, dtype, layout = False, None, None
        if name in ("cpu", "cuda"):
            target: Any = torch.device(name)
            non_blocking = bool(kwargs.get("non_blocking"))
        elif args and isinstance(args[0], Tensor):
            target, dtype, non_blocking = CUDA if on_gpu(args[0]) else torch.device("cpu"), args[0].dtype, False
        else:
            copy = kwargs.pop("copy", False)
            target, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
        if target is None or target.type == "meta":
            return NotImplemented
        if is_cuda(target) != on_gpu(x):
            pinned = getattr(x.untyped_storage(), "_pinned", False)
            x = _Move.apply(x, self, is_cuda(target), not (non_blocking and pinned))
        rest = {"dtype": dtype or x.dtype, "copy": copy} | ({"memory_format": layout} if layout else {})
        return torch._C.TensorBase.to(x, **rest)

    # ---------------------------------------------------------------------------------------------- LSTMs

    def lstm(self, func, args) -> tuple[Tensor, ...]:
        """As cuDNN does it: lengths of a packed sequence on the host, a backward pass in training mode only."""
        packed = isinstance(args[1], Tensor)
        if packed and on_gpu(args[1]):
            raise Mixed("batch_sizes of a packed sequence must be on the CPU")
        if not all(on_gpu(x) for x in tensors_in(args) if x is not args[1]):
            raise Mixed("an LSTM with weights or inputs on the CPU")
        found = func(*args)
        training = args[7] if packed else args[6]
        return found if training or not found[0].requires_grad else _InTrainingOnly.apply(*found)

    def attention(self, *args: Any, **kwargs: Any) -> Any:
        """PyTorch's scaled_dot_product_attention; NotImplemented where the CPU's own serves."""
        return NotImplemented

    def dropout(self, *args: Any, **kwargs: Any) -> Any:
        """PyTorch's dropout, likewise."""
        return NotImplemented

    # ---------------------------------------------------------------------------------------------- every operation

    def operated(self, func, args, kwargs) -> Any:
        name = func._schema.name
        if name != "aten::lstm" and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self.operations:  # in inference mode such operations arrive whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = tensors_in(args, kwargs)
        marked = [x for x in tensors if on_gpu(x)]
        inside = not tensors and self._given[-1]  # made inside an operation of the GPU: zeros(..., x.options())
        if is_cuda(kwargs.get("device")) or (inside and "device" in kwargs):
            return self._made_on_gpu(func, name, args, kwargs, marked)
        if marked:
            self._check(name, args, [x for x in tensors if not on_gpu(x)])
        out = self._called(func, args, kwargs)
        if _is_view(func):
            return out
        if marked:  # a device that is named down here is the true one, which stands for the GPU
            self.ran(name, args)
            written = {id(x) for x in tensors}
            return tree_map(lambda x: x if id(x) in written else mark(x), out)
        if inside:
            return tree_map(mark, out)
        return out if func._schema.is_mutable else tree_map(lambda x: mark(x, False), out)

    def ran(self, name: str, args: tuple[Any, ...]) -> None:
        """Told of each operation that the GPU would have carried out, views left out."""

    def _called(self, func, args, kwargs) -> Any:
        """Whatever is written in Python down there sees the true device."""
        before, self._honest = self._honest, True
        try:
            return STAND_INS.get(func, func)(*args, **kwargs)
        finally:
            self._honest = before

    def _made_on_gpu(self, func, name: str, args, kwargs, marked: list[Tensor]) -> Any:
        """A factory with device="cuda", or a copy to it."""
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise Mixed(f"{name}: Expected a 'cuda' device type for generator but found 'cpu'")
        out = self._called(func, args, {**kwargs, "device": self.memory})
        self.ran(name, args)
        if name == "aten::_to_copy" and not marked:
            self.transferred(f"copy to the GPU {tuple(out.shape)}", not kwargs.get("non_blocking"))
        return tree_map(mark, out)

    def _check(self, name: str, args, elsewhere: list[Tensor]) -> None:
        """Of an operation that was given tensors of the GPU, and those `elsewhere`."""
        if name in COPYING and elsewhere:
            self.transferred(f"copy_ of {tuple(args[0].shape)}", not (len(args) > 2 and args[2]))
            return
        if name in WAITING:
            self.waited(name)
        allowed = [x for x in args[1] if x is not None] if name in INDEXING else []
        for index in allowed:
            if not on_gpu(index):
                self.waited(f"{name} by an index on the host {tuple(index.shape)}")
            elif index.dtype in (torch.bool, torch.uint8):
                self.waited(f"{name} by a mask")
        if name == "aten::lstm":  # the lengths of a packed sequence
            allowed = [args[1]]
        # a single number may come from the host, but for the fused optimisers' counts of steps
        numbers = not name.startswith("aten::_fused")
        refused = [x for x in elsewhere if not any(x is y for y in allowed) and not (numbers and x.dim() == 0)]
        if refused and name != "aten::_to_copy":
            shapes = [tuple(x.shape) for x in refused]
            raise Mixed(f"{name}: Expected all tensors to be on the same device, but found {shapes} on the CPU")


class _Operations(TorchDispatchMode):
    def __init__(self, gpu: PretendedGPU):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.gpu.operated(func, args, dict(kwargs or {}))


class _Calls(TorchFunctionMode):
    """What C++ would do without telling `_Operations`."""

    def __init__(self, gpu: PretendedGPU):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        gpu, kwargs, name = self.gpu, dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__":  # an attribute: nothing is computed
            return func(*args, **kwargs)
        given = any(map(on_gpu, tensors_in(args, kwargs)))
        with gpu.given(given):
            if func in (torch.tensor, torch.as_tensor) and is_cuda(kwargs.get("device")):
                del kwargs["device"]
                return gpu.copied(func(*args, **kwargs), True, blocking=True)
            if name in ("cpu", "numpy", "tolist", "__array__", "cuda", "to") and args and isinstance(args[0], Tensor):
                found = gpu.moved(name, *args, **kwargs)
                if found is not NotImplemented:
                    return found
            if func in (torch._VF.lstm, torch.lstm) and on_gpu(args[0]):
                return gpu.lstm(func, args)
            own = {F.scaled_dot_product_attention: gpu.attention, F.dropout: gpu.dropout}.get(func) if given else None
            if own is not None:
                found = own(*args, **kwargs)
                if found is not NotImplemented:
                    return found
            if given and func is F.one_hot:  # looks at its numbers on a CPU only
                with gpu.quiet():
                    return func(*args, **kwargs)
            if given and func is torch.repeat_interleave and kwargs.get("output_size") is None:
                gpu.waited("repeat_interleave without output_size")
            return func(*args, **kwargs)


class _Move(torch.autograd.Function):
    """A copy to the other side, and its gradient's copy back."""

    @staticmethod
    def forward(ctx, x, gpu, to_gpu, blocking):
        ctx.gpu, ctx.to_gpu = gpu, to_gpu
        return gpu.copied(x, to_gpu, blocking)

    @staticmethod
    def backward(ctx, grad):
        return ctx.gpu.copied(grad, not ctx.to_gpu, True), None, None, None


class _InTrainingOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *x):
        return tuple(y.view_as(y) for y in x)

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


def _is_view(func) -> bool:
    returns = func._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write


def _where() -> str:
    """The innermost line of the package that led here."""
    for frame, line in traceback.walk_stack(None):
        path = frame.f_code.co_filename
        if any(f"/{package}/" in path for package in PACKAGES):
            return f"{'/'.join(path.split('/')[-2:])}:{line}"
    return "?"


def _autocast(real):
    class autocast(real):
        def __init__(self, device_type, *args, **kwargs):
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return autocast


def _of_the_cpu(real):
    return lambda kind: real("cpu" if kind == "cuda" else kind)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    absent = name not in vars(owner)
    before = None if absent else vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name) if absent else setattr(owner, name, before)
