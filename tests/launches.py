"""Kernel launches of a training step at real sizes, counted without a GPU and without computing anything.

    gpu = Counted()
    with gpu:
        net.to("cuda"), batch.to("cuda")
        loss = ...; loss.backward(); optimizer.step()
    gpu.launches

A pretended GPU whose tensors have sizes and no numbers (PyTorch's meta device). Each operation that would run on the
GPU is one launch, but for views and new memory, which are none, and those of WEIGHTS. What a kernel library makes of a
call is an estimate: the counts compare one commit with the next; a profiler on a GPU tells the launches.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
import torch._meta_registrations
import torch.nn.functional as F
from gpu_training import FULL, made_up
from pretended_gpu import PretendedGPU, mark
from torch import Tensor

from hycon.data.batch import form_of
from hycon.output import task_loss
from hycon.train import _optimizer, seed_everything
from studies.registry import build_model, resolve

# no kernel: memory is got, or another tensor looks at the same
FREE = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided",
    "aten::detach", "aten::detach_", "aten::alias", "aten::_unsafe_view", "aten::resize_", "aten::set_",
    "aten::lift_fresh",
}  # fmt: skip
SORTED = 9  # sort the indices, then add up rows of like index: deterministic accumulation
LOOKED_UP = 3072  # indices up to which a table's gradient is zeros and one kernel (ATen/native/cuda/Embedding.cu)
WEIGHTS = {
    "aten::index_add": SORTED, "aten::index_add_": SORTED,
    "aten::scatter": 25, "aten::scatter_add": 25,  # deterministic: by index_put, whose indices are made first
    "aten::scatter_": 25, "aten::scatter_add_": 25,
    "aten::sort": 4, "aten::topk": 2, "aten::cumsum": 1, "aten::repeat_interleave": 3,
    "aten::constant_pad_nd": 2,  # fill, copy
    "aten::native_batch_norm": 2, "aten::native_batch_norm_backward": 2,
    "aten::convolution_backward": 3, "aten::cudnn_convolution": 2,
    "aten::_scaled_dot_product_efficient_attention_backward": 3,
}  # fmt: skip
PUTTING = {"aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put"}
BLOCKS, CHUNK = 320, 65536  # of one launch for many tensors (ATen/native/cuda/MultiTensorApply.cuh)
TENSORS = (110, 64, 48, 36, 30)  # of one such launch, by how many lists of tensors it reads


class Counted(PretendedGPU):
    """launches: of what has run since the last `reset`.  by: the same, by operation."""

    memory = torch.device("meta")

    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[str] = Counter()

    @property
    def launches(self) -> int:
        return sum(self.by.values())

    def reset(self) -> None:
        super().reset()
        self.by.clear()

    def copied(self, x: Tensor, to_gpu: bool, blocking: bool) -> Tensor:
        where = "to the GPU" if to_gpu else "to the host"
        self.transferred(f"copy {where} {tuple(x.shape)}", blocking or not to_gpu)
        with self.quiet():
            if to_gpu:
                return mark(torch.empty(x.shape, dtype=x.dtype, device="meta"))
            return torch.zeros(x.shape, dtype=x.dtype)

    def ran(self, name: str, args: tuple[Any, ...]) -> None:
        if name not in FREE:
            self.by[name] += _launches(name, args)

    def _called(self, func, args, kwargs) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False  # there is no number; that the host waited for one is noted
        return super()._called(func, args, kwargs)

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        return torch.native_dropout(x, p, training)[0] if training and 0 < p < 1 else NotImplemented

    def lstm(self, func, args) -> tuple[Tensor, ...]:
        """cuDNN's, of a packed sequence: one product of all inputs, then a product and the cell at each step."""
        x, sizes, _, weights, _, layers = args[:6]
        hidden = weights[1].shape[1]
        out = _Library.apply(self, len(sizes) * layers, hidden, x, *weights)
        return out, out.new_empty(layers, int(sizes[0]), hidden), out.new_empty(layers, int(sizes[0]), hidden)

    def attention(self, q, k, v, attn_mask=None, dropout_p=0.0, **rest) -> Any:
        """The fused kernel where the heads' width allows it, else what PyTorch makes of it in several operations."""
        if q.shape[-1] % (16 // q.element_size()):
            return NotImplemented
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                attn_mask = torch.where(attn_mask, 0.0, attn_mask.new_full((), -math.inf, dtype=q.dtype))
            if any(stride % 8 for stride in attn_mask.stride()[:-1]):  # padded, so that its rows are aligned
                attn_mask = F.pad(attn_mask, (0, -attn_mask.shape[-1] % 8))[..., : attn_mask.shape[-1]]
            attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, True, dropout_p)[0]


class _Library(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gpu, steps, hidden, x, *weights):
        ctx.gpu, ctx.steps = gpu, steps
        ctx.save_for_backward(x, *weights)
        gpu.by["cudnn_lstm"] += 1 + 2 * steps
        return x.new_empty(len(x), hidden)

    @staticmethod
    def backward(ctx, grad):
        ctx.gpu.by["cudnn_lstm"] += 4 + 2 * ctx.steps
        return None, None, None, *map(torch.empty_like, ctx.saved_tensors)


def _launches(name: str, args: tuple[Any, ...]) -> int:
    if name in PUTTING:
        return SORTED if len(args) > 3 and args[3] else 1
    if name == "aten::embedding_dense_backward":
        return 2 if args[1].numel() <= LOOKED_UP else SORTED
    if name.startswith(("aten::_foreach", "aten::_fused")):
        return _of_many(args)
    if name == "aten::native_layer_norm_backward":  # args[7]: which gradients are wanted
        return args[7][0] + (args[7][1] or args[7][2])
    return WEIGHTS.get(name, 1)


def _of_many(args: tuple[Any, ...]) -> int:
    """Launches of an operation on lists of tensors."""
    lists = [x for x in args if isinstance(x, (list, tuple)) and x and isinstance(x[0], Tensor)]
    blocks = sum(math.ceil(x.numel() / CHUNK) for x in lists[0])
    return max(math.ceil(blocks / BLOCKS), math.ceil(len(lists[0]) / TENSORS[min(len(lists), len(TENSORS)) - 1]))


def _clip(grads: list[Tensor], largest: float) -> None:
    """As torch.nn.utils.clip_grad_norm_ does it on a GPU, and not on tensors without numbers."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (largest / (norm + 1e-6)).clamp(max=1.0))


def step_launches(model: str, text: str, **config: Any) -> Counted:
    """Of a second training step (the first also makes the optimiser's state) on a batch of CMU-MOSI's size."""
    size, training = FULL, resolve(model, text, config)[1]
    split = made_up(text, size, 1284)
    with torch.device("meta"):
        dims = {**size.dims, "text": 768 if form_of(text) == "tokens" else 300}
        net = build_model(model, text=text, dims=dims, **config).to("meta")
    gpu = Counted()
    with gpu:
        for tensor in (*net.parameters(), *net.buffers()):
            mark(tensor)
        split = split.to("cuda")
        batch = split.slice(0, training.batch_size)
        if prepare := getattr(net, "prepare_training", None):
            prepare(split)
        optimizer = _optimizer(net.train(), training)
        seed_everything(0, "cuda")
        for _ in range(2):
            gpu.reset()
            compute = getattr(net, "loss", None)
            output = net(batch)
            loss = compute(output, batch, training.loss) if compute else task_loss(output.prediction, batch.label)
            optimizer.zero_grad()
            loss.backward()
            if training.clip is not None:
                _clip([p.grad for p in net.parameters() if p.grad is not None], training.clip)
            optimizer.step()
    return gpu
