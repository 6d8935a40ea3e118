"""Pooling and joining on a card, as autograd functions around the Triton kernels; all in channels last.

PyTorch's pooling adds its gradients atomically and keeps eight bytes a voxel for that, its average pooling copies to
channels first, and its concatenation reads one number at a time. What is pooled goes on beside the pooled as well (a
skip connection, the other branch of a block): its gradient is added where that of the pooling is written.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from volumen.kernels import triton_rows as rows
from volumen.kernels.triton_norm import finished


def _loops() -> Any:
    from volumen.kernels import triton_resample_loops

    return triton_resample_loops


def can_pool(values: Tensor) -> bool:
    """True where every side of [B, C, Z, Y, X] can be halved."""
    return all(side % 2 == 0 for side in values.shape[2:])


class TritonPool(torch.autograd.Function):
    """2x2x2 pooling, the largest or the mean: gives the pooled activation, and what was pooled."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
        samples, channels, depth, height, width = values.shape
        shape = (samples, channels, depth // 2, height // 2, width // 2)
        held, stride = rows.in_rows(values)
        out = rows.empty_rows(held, shape)
        places = torch.empty(out.numel() if largest else 0, dtype=torch.uint8, device=values.device)
        cut = rows.flat_plan_of(out)
        with rows.launching(values):
            _loops().pool[cut.apply_grid[:2]](
                held, out, places, out.numel() // channels, height // 2, width // 2, stride=stride, channels=channels,
                largest=largest, **cut.apply_block,
            )  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(places)
        ctx.shape, ctx.largest = values.shape, largest
        return out, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None, side: Tensor | None) -> tuple[Tensor | None, None]:
        if gradient is None:
            return side, None
        (places,) = ctx.saved_tensors
        result = rows.empty_rows(gradient, ctx.shape)
        gradient, stride = rows.in_rows(gradient)
        added, (side, side_stride) = side is not None, (result, 0) if side is None else rows.in_rows(side)
        channels, (height, width) = gradient.shape[1], gradient.shape[3:]
        cut = rows.flat_plan_of(gradient)
        with rows.launching(gradient):
            _loops().unpool[cut.apply_grid[:2]](
                gradient, places, side, result, gradient.numel() // channels, height, width, stride=stride,
                side_stride=side_stride, channels=channels, largest=ctx.largest, added=added, **cut.apply_block,
            )  # fmt: skip
        return result, None


class TritonJoin(torch.autograd.Function):
    """torch.cat([raised + bias, skip], 1), without a copy more; the gradient of `skip` is a view."""

    @staticmethod
    def forward(ctx: Any, raised: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
        first, second = raised.shape[1], skip.shape[1]
        wide = first + second
        out = rows.empty_rows(raised, (raised.shape[0], wide, *raised.shape[2:]))
        with rows.launching(raised):
            for part, offset in ((raised, 0), (skip, first)):
                held, stride = rows.in_rows(part)
                cut, channels = rows.flat_plan_of(held), held.shape[1]
                _loops().copy_rows[cut.apply_grid[:2]](
                    held, bias, out, held.numel() // channels, stride=stride, out_stride=wide, offset=offset,
                    channels=channels, biased=offset == 0, **cut.apply_block,
                )  # fmt: skip
        ctx.split, ctx.type = (first, second), bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = ctx.split
        samples, _, *size = gradient.shape
        raised = rows.empty_rows(gradient, (samples, first, *size))
        held, stride = rows.in_rows(gradient)
        cut = rows.flat_plan_of(raised)
        parts = torch.empty((1, 1, cut.chunks, first), dtype=torch.float32, device=gradient.device)
        with rows.launching(gradient):
            _loops().take_rows[cut.reduce_grid[:2]](
                held, raised, parts, raised.numel() // first, stride=stride, channels=first, **cut.reduce_block
            )
            sums = finished(parts, cut)
        return raised, sums.view(first).to(ctx.type), held.narrow(1, first, second)
