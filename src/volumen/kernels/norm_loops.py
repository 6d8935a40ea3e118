"""Compiled loops for instance norm + leaky ReLU on channels-last activations, in float32 or bfloat16.

Why they exist: PyTorch's instance norm has no channels-last path. It copies every activation to channels-first and
back, which on a CPU costs more than the normalisation and eats the gain that the channels-last convolutions bring.

Every array here is (samples, voxels, channels), C-contiguous: float32, or uint16 that holds the bits of bfloat16. Sums
run in float32 over a block of `BLOCK_VOXELS` voxels that fits the innermost cache, around the block's own mean, and
blocks are merged in float64 (Chan, Golub and LeVeque 1979), so the variance of data far from zero stays right.

The kernels hold no lock and touch only their own range of voxels, so that threads can share one activation:
moments per range, merge, normalise per range. They loop over channels innermost; a caller with few channels may fold
several voxels into one long row (the arrays of parameters repeated to match), which is what fills the vector registers.

Two gradients exist. Without scale and shift the input follows from the *output* (leaky ReLU can be inverted), so the
input need not be kept and the forward pass may overwrite it, as in Rota Bulo, Porzi and Kontschieder 2018. With them
the input is kept, because a scale near zero cannot be inverted.
"""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.extending import intrinsic

from volumen.system.compiled import compiled

BLOCK_VOXELS = 128
_INT32 = ir.IntType(32)
_FLOAT32 = ir.FloatType()


@intrinsic
def _widen_number(typing_context: Any, value: Any) -> Any:
    """One stored number (float32, or the bits of a bfloat16) as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if value == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], _INT32), _INT32(16))
        return builder.bitcast(bits, _FLOAT32)

    return types.float32(value), generate


@intrinsic
def _narrow_number(typing_context: Any, value: Any, like: Any) -> Any:
    """A float32 in the stored type of `like`; bfloat16 rounds to nearest even and keeps NaN a NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if like == types.float32:
            return arguments[0]
        bits = builder.bitcast(arguments[0], _INT32)
        odd = builder.and_(builder.lshr(bits, _INT32(16)), _INT32(1))
        rounded = builder.lshr(builder.add(builder.add(bits, _INT32(0x7FFF)), odd), _INT32(16))
        is_number = builder.fcmp_ordered("ord", arguments[0], arguments[0])
        return builder.trunc(builder.select(is_number, rounded, _INT32(0x7FC0)), ir.IntType(16))

    return like(types.float32, like), generate


# The intrinsics' first argument is numba's own, which no caller passes.
_widen: Any = _widen_number
_narrow: Any = _narrow_number


@compiled(error_model="numpy")
def add_moments(values: Any, start: int, stop: int, count: int, mean: Any, squares: Any) -> None:
    """Merge voxels start..stop of one sample [voxels, channels] into running moments of `count` voxels so far.

    `mean` and `squares`, the squared deviations from it, are float64 [channels] and updated.
    """
    channels = values.shape[1]
    block_sum = np.empty(channels, np.float32)
    block_mean = np.empty(channels, np.float32)
    block_squares = np.empty(channels, np.float32)
    for first in range(start, stop, BLOCK_VOXELS):
        last = min(first + BLOCK_VOXELS, stop)
        size = last - first
        block_sum[:] = 0
        block_squares[:] = 0
        for voxel in range(first, last):
            for channel in range(channels):
                block_sum[channel] += _widen(values[voxel, channel])
        for channel in range(channels):
            block_mean[channel] = block_sum[channel] / np.float32(size)
            block_sum[channel] = 0
        for voxel in range(first, last):
            for channel in range(channels):
                deviation = _widen(values[voxel, channel]) - block_mean[channel]
                block_sum[channel] += deviation
                block_squares[channel] += deviation * deviation
        total = count + size
        for channel in range(channels):
            # The float32 mean is rounded: the residual sum puts back what that lost.
            residual = np.float64(block_sum[channel]) / size
            delta = np.float64(block_mean[channel]) + residual - mean[channel]
            mean[channel] += delta * size / total
            spread = np.float64(block_squares[channel]) - residual * residual * size
            squares[channel] += spread + delta * delta * count * size / total
        count = total


@compiled(error_model="numpy")
def normalise(values: Any, out: Any, mean: Any, scale: Any, shift: Any, slope: Any, start: int, stop: int) -> None:
    """out = leaky_relu((values - mean) * scale + shift) for voxels start..stop; `out` may be `values` itself."""
    channels = values.shape[1]
    for voxel in range(start, stop):
        for channel in range(channels):
            value = (_widen(values[voxel, channel]) - mean[channel]) * scale[channel] + shift[channel]
            out[voxel, channel] = _narrow(value if value > 0 else value * slope, out[voxel, channel])


@compiled(error_model="numpy")
def add_sums_from_output(gradient: Any, out: Any, slope: Any, start: int, stop: int, total: Any, product: Any) -> None:
    """Add sum(g) and sum(g * normal), g before the activation, over voxels start..stop to float64 [channels]."""
    channels = out.shape[1]
    block_total = np.empty(channels, np.float32)
    block_product = np.empty(channels, np.float32)
    for first in range(start, stop, BLOCK_VOXELS):
        block_total[:] = 0
        block_product[:] = 0
        for voxel in range(first, min(first + BLOCK_VOXELS, stop)):
            for channel in range(channels):
                activation = _widen(out[voxel, channel])
                arriving = _widen(gradient[voxel, channel])
                block_total[channel] += arriving if activation > 0 else arriving * slope
                block_product[channel] += arriving * activation  # the slope and its inverse cancel
        for channel in range(channels):
            total[channel] += block_total[channel]
            product[channel] += block_product[channel]


@compiled(error_model="numpy")
def gradient_from_output(
    gradient: Any, out: Any, result: Any, scale: Any, mean_gradient: Any, mean_product: Any, slope: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """result = scale * (g - mean(g) - normal * mean(g * normal)) for start..stop, `normal` inverted from `out`."""
    channels = out.shape[1]
    inverse = np.float32(1) / slope
    for voxel in range(start, stop):
        for channel in range(channels):
            activation = _widen(out[voxel, channel])
            arriving = _widen(gradient[voxel, channel])
            normal = activation if activation > 0 else activation * inverse
            local = arriving if activation > 0 else arriving * slope
            value = scale[channel] * (local - mean_gradient[channel] - normal * mean_product[channel])
            result[voxel, channel] = _narrow(value, result[voxel, channel])


@compiled(error_model="numpy")
def add_sums_from_input(
    gradient: Any, values: Any, mean: Any, deviation: Any, weight: Any, shift: Any, slope: Any,
    start: int, stop: int, total: Any, product: Any,
) -> None:  # fmt: skip
    """As `add_sums_from_output`, from the kept input; `deviation` is 1 / standard deviation [channels]."""
    channels = values.shape[1]
    block_total = np.empty(channels, np.float32)
    block_product = np.empty(channels, np.float32)
    for first in range(start, stop, BLOCK_VOXELS):
        block_total[:] = 0
        block_product[:] = 0
        for voxel in range(first, min(first + BLOCK_VOXELS, stop)):
            for channel in range(channels):
                normal = (_widen(values[voxel, channel]) - mean[channel]) * deviation[channel]
                arriving = _widen(gradient[voxel, channel])
                local = arriving if normal * weight[channel] + shift[channel] > 0 else arriving * slope
                block_total[channel] += local
                block_product[channel] += local * normal
        for channel in range(channels):
            total[channel] += block_total[channel]
            product[channel] += block_product[channel]


@compiled(error_model="numpy")
def gradient_from_input(
    gradient: Any, values: Any, result: Any, mean: Any, deviation: Any, weight: Any, shift: Any,
    mean_gradient: Any, mean_product: Any, slope: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """As `gradient_from_output`, from the kept input, times the weight of the channel."""
    channels = values.shape[1]
    for voxel in range(start, stop):
        for channel in range(channels):
            normal = (_widen(values[voxel, channel]) - mean[channel]) * deviation[channel]
            arriving = _widen(gradient[voxel, channel])
            local = arriving if normal * weight[channel] + shift[channel] > 0 else arriving * slope
            centred = local - mean_gradient[channel] - normal * mean_product[channel]
            result[voxel, channel] = _narrow(weight[channel] * deviation[channel] * centred, result[voxel, channel])
