"""Value and gradient of instance norm + leaky ReLU as autograd functions around the compiled kernels.

Reductions over a sample are cut into one range per thread; their float64 partial sums are merged here.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from volumen.kernels import norm_loops as loops
from volumen.kernels.convolution import CHANNELS_LAST
from volumen.kernels.threads import run_shares, shares

Vector = NDArray[np.float32]

_ROW = 128  # numbers in one folded row: enough to fill the vector registers, little enough for the innermost cache
_SMALLEST_SHARE = 32_768  # numbers below which a second thread costs more than it gives


class _Rows:
    """A channels-last activation as arrays [samples, rows, channels * fold] that share its memory."""

    def __init__(self, tensor: Tensor) -> None:
        self.samples, self.channels = tensor.shape[:2]
        self.voxels = tensor[0, 0].numel()
        widest = max(1, min(_ROW // self.channels, self.voxels))
        self.fold = next(fold for fold in range(widest, 0, -1) if self.voxels % fold == 0)
        self.rows = self.voxels // self.fold
        self.shape = (self.samples, self.rows, self.channels * self.fold)

    def array(self, tensor: Tensor) -> NDArray[Any]:
        """View `tensor`, of this shape and channels last, as float32 or as the bits of bfloat16."""
        last = tensor.detach().permute(0, 2, 3, 4, 1)
        if tensor.dtype == torch.bfloat16:
            return last.view(torch.int16).numpy().view(np.uint16).reshape(self.shape)
        return last.numpy().reshape(self.shape)

    def folded(self, vectors: NDArray[Any]) -> Vector:
        """Repeat [samples, channels] for every voxel of a row."""
        return np.tile(vectors, (1, self.fold)).astype(np.float32)

    def ranges(self) -> list[tuple[int, int]]:
        return shares(self.rows, smallest=max(1, _SMALLEST_SHARE // self.shape[2]))


def _moments(rows: _Rows, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance, float64 [samples, channels]."""
    ranges = rows.ranges()
    mean = np.zeros((rows.samples, len(ranges), rows.shape[2]))
    squares = np.zeros_like(mean)

    def work(share: int, start: int, stop: int) -> None:
        for sample in range(rows.samples):
            loops.add_moments(values[sample], start, stop, 0, mean[sample, share], squares[sample, share])

    run_shares(work, ranges)
    parts = (rows.samples, len(ranges) * rows.fold, rows.channels)
    counts = np.repeat([stop - start for start, stop in ranges], rows.fold)[:, None]
    mean, squares = mean.reshape(parts), squares.reshape(parts)
    centre = (mean * counts).sum(axis=1) / rows.voxels
    variance = (squares + counts * (mean - centre[:, None]) ** 2).sum(axis=1) / rows.voxels
    return centre, variance


def _apply(rows: _Rows, values: NDArray[Any], out: NDArray[Any], parameters: tuple[Vector, ...], slope: float) -> None:
    """Write `out` from values and (mean, scale, shift), each folded."""

    def work(share: int, start: int, stop: int) -> None:
        for sample in range(rows.samples):
            mean, scale, shift = (vector[sample] for vector in parameters)
            loops.normalise(values[sample], out[sample], mean, scale, shift, np.float32(slope), start, stop)

    run_shares(work, rows.ranges())


def _backward(rows: _Rows, add_sums: Any, write: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run the two passes of a gradient; returns sum(g) and sum(g * normal), float64 [samples, channels].

    `add_sums(sample, start, stop, total, product)` adds to float64 rows; `write(sample, start, stop, mean_gradient,
    mean_product)` writes the gradient of one sample.
    """
    ranges = rows.ranges()
    sums = np.zeros((2, len(ranges), rows.samples, rows.shape[2]))

    def collect(share: int, start: int, stop: int) -> None:
        for sample in range(rows.samples):
            add_sums(sample, start, stop, sums[0, share, sample], sums[1, share, sample])

    run_shares(collect, ranges)
    total, product = sums.reshape(2, len(ranges), rows.samples, rows.fold, rows.channels).sum(axis=(1, 3))
    mean_gradient, mean_product = rows.folded(total / rows.voxels), rows.folded(product / rows.voxels)

    def finish(share: int, start: int, stop: int) -> None:
        for sample in range(rows.samples):
            write(sample, start, stop, mean_gradient[sample], mean_product[sample])

    run_shares(finish, ranges)
    return total, product


class Norm(torch.autograd.Function):
    """Without scale and shift: keeps the output only."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, cancelled_bias: Tensor | None, slope: float, eps: float, inplace: bool
    ) -> Tensor:
        out = values if inplace else torch.empty_like(values, memory_format=CHANNELS_LAST)
        rows = _Rows(values)
        array = rows.array(values)
        mean, variance = _moments(rows, array)
        scale = rows.folded(1 / np.sqrt(variance + eps))
        _apply(rows, array, rows.array(out), (rows.folded(mean), scale, np.zeros_like(scale)), slope)
        if inplace:
            ctx.mark_dirty(values)
        ctx.save_for_backward(out)
        ctx.rows, ctx.scale, ctx.slope, ctx.cancelled_bias = rows, scale, np.float32(slope), cancelled_bias
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        (out,) = ctx.saved_tensors
        rows, scale, slope = ctx.rows, ctx.scale, ctx.slope
        result = torch.empty_like(out)
        kept, written = rows.array(out), rows.array(result)
        arriving = rows.array(gradient.contiguous(memory_format=CHANNELS_LAST))

        def add_sums(sample: int, start: int, stop: int, total: Any, product: Any) -> None:
            loops.add_sums_from_output(arriving[sample], kept[sample], slope, start, stop, total, product)

        def write(sample: int, start: int, stop: int, mean_gradient: Any, mean_product: Any) -> None:
            loops.gradient_from_output(
                arriving[sample], kept[sample], written[sample], scale[sample], mean_gradient, mean_product, slope,
                start, stop,
            )  # fmt: skip

        _backward(rows, add_sums, write)
        return result, _zero(ctx.cancelled_bias), None, None, None


class AffineNorm(torch.autograd.Function):
    """With scale and shift: keeps the input."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, cancelled_bias: Tensor | None, slope: float, eps: float
    ) -> Tensor:
        out = torch.empty_like(values, memory_format=CHANNELS_LAST)
        rows = _Rows(values)
        array = rows.array(values)
        mean, variance = _moments(rows, array)
        deviation = 1 / np.sqrt(variance + eps)
        gain = np.broadcast_to(weight.detach().float().numpy(), mean.shape)
        shift = rows.folded(np.broadcast_to(bias.detach().float().numpy(), mean.shape))
        _apply(rows, array, rows.array(out), (rows.folded(mean), rows.folded(deviation * gain), shift), slope)
        ctx.save_for_backward(values, weight, bias)
        ctx.parameters = (rows.folded(mean), rows.folded(deviation), rows.folded(gain), shift)
        ctx.rows, ctx.slope, ctx.cancelled_bias = rows, np.float32(slope), cancelled_bias
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None, None]:
        values, weight, bias = ctx.saved_tensors
        rows, slope = ctx.rows, ctx.slope
        result = torch.empty_like(values, memory_format=CHANNELS_LAST)
        kept, written = rows.array(values), rows.array(result)
        arriving = rows.array(gradient.contiguous(memory_format=CHANNELS_LAST))

        def add_sums(sample: int, start: int, stop: int, total: Any, product: Any) -> None:
            mean, deviation, gain, shift = (vector[sample] for vector in ctx.parameters)
            loops.add_sums_from_input(
                arriving[sample], kept[sample], mean, deviation, gain, shift, slope, start, stop, total, product
            )

        def write(sample: int, start: int, stop: int, mean_gradient: Any, mean_product: Any) -> None:
            mean, deviation, gain, shift = (vector[sample] for vector in ctx.parameters)
            loops.gradient_from_input(
                arriving[sample], kept[sample], written[sample], mean, deviation, gain, shift,
                mean_gradient, mean_product, slope, start, stop,
            )  # fmt: skip

        total, product = (torch.from_numpy(sums.sum(axis=0)) for sums in _backward(rows, add_sums, write))
        return result, product.to(weight), total.to(bias), _zero(ctx.cancelled_bias), None, None


def _zero(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else torch.zeros_like(parameter)
