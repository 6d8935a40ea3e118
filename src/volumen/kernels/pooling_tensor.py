"""The pooling of `pooling_loops` in tensor operations, for devices that the compiled kernels do not reach.

Same values, same sharing of the gradient at ties, on [B, Z, Y, X] and any device. The maximum over the 3x3x3 cube is
taken one axis after the other; the minimum over the face neighbours is one pooling over seven voxels. On a card with
Triton, `triton_pooling` does each of them in one pass.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from volumen.kernels import triton_pooling
from volumen.kernels.convolution import is_recorded
from volumen.system.triton_support import has_triton

_AXES = (1, 2, 3)
_MOST_VOXELS = 2**31 - 2**16  # that 32 bits count, with a block more


def _lower(volume: Tensor, axis: int) -> Tensor:
    return volume.narrow(axis, 0, volume.shape[axis] - 1)


def _upper(volume: Tensor, axis: int) -> Tensor:
    return volume.narrow(axis, 1, volume.shape[axis] - 1)


_BESIDE = ((_lower, _upper), (_upper, _lower))  # a voxel and its later neighbour; a voxel and its earlier neighbour


def _on_triton(volume: Tensor) -> bool:
    return volume.is_cuda and volume.numel() < _MOST_VOXELS and has_triton() and not is_recorded()


def _pool(source: Tensor, axes: Sequence[int], extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Extreme value over each voxel and its two neighbours along every one of `axes`."""
    if _on_triton(source):
        return triton_pooling.pool(source, axes, largest=extreme is torch.maximum)
    pooled = source.clone()
    for axis in axes:
        for here, beside in _BESIDE:
            view = here(pooled, axis)
            view.copy_(extreme(view, beside(source, axis)))
    return pooled


def _pool_backward(source: Tensor, pooled: Tensor, pooled_gradient: Tensor, axes: Sequence[int]) -> Tensor:
    """Share each pooled voxel's gradient equally among the sources that attain its value."""
    if _on_triton(source):
        return triton_pooling.pool_backward(source, pooled, pooled_gradient, axes)
    count = (source == pooled).to(source.dtype)
    for axis in axes:
        for here, beside in _BESIDE:
            here(count, axis).add_(here(pooled, axis) == beside(source, axis))
    share = pooled_gradient / count
    gradient = torch.where(source == pooled, share, 0)
    for axis in axes:
        for here, beside in _BESIDE:
            attains = here(source, axis) == beside(pooled, axis)
            here(gradient, axis).add_(torch.where(attains, beside(share, axis), 0))
    return gradient


def erode(source: Tensor) -> Tensor:
    """Minimum over each voxel and its 6 face neighbours."""
    return _pool(source, _AXES, torch.minimum)


def erode_backward(source: Tensor, eroded: Tensor, eroded_gradient: Tensor) -> Tensor:
    """Gradient of `erode`."""
    return _pool_backward(source, eroded, eroded_gradient, _AXES)


def _dilation_steps(source: Tensor) -> list[Tensor]:
    steps = [source]
    for axis in _AXES:
        steps.append(_pool(steps[-1], (axis,), torch.maximum))
    return steps


def dilate(source: Tensor) -> Tensor:
    """Maximum over each voxel's 3x3x3 neighbourhood."""
    return _dilation_steps(source)[-1]


def dilate_backward(source: Tensor, dilated_gradient: Tensor) -> Tensor:
    """Gradient of `dilate`."""
    steps = _dilation_steps(source)
    gradient = dilated_gradient
    for axis in reversed(_AXES):
        gradient = _pool_backward(steps[axis - 1], steps[axis], gradient, (axis,))
    return gradient


def skeleton_levels(source: Tensor, iterations: int) -> tuple[list[Tensor], list[Tensor]]:
    """Erosions E_0 .. E_{n+1} and skeletons S_{-1} = 0, S_0 .. S_n of the soft skeleton."""
    levels, skeletons = [source], [torch.zeros_like(source)]
    for _ in range(iterations + 1):
        levels.append(erode(levels[-1]))
        residue = (levels[-2] - dilate(levels[-1])).clamp_(min=0)
        skeletons.append(skeletons[-1] + residue * (1 - skeletons[-1]))
    return levels, skeletons


def skeleton_backward(levels: Sequence[Tensor], skeletons: Sequence[Tensor], skeleton_gradient: Tensor) -> Tensor:
    """Gradient of the source, from the erosions and all skeletons but the last."""
    outer = skeleton_gradient
    eroded_gradient = torch.zeros_like(outer)
    for level in range(len(levels) - 2, -1, -1):
        residue = levels[level] - dilate(levels[level + 1])
        inner = torch.where(residue > 0, outer * (1 - skeletons[level]), 0)
        eroded_gradient = eroded_gradient + dilate_backward(levels[level + 1], -inner)
        eroded_gradient = inner + erode_backward(levels[level], levels[level + 1], eroded_gradient)
        outer = outer * (1 - residue.clamp(min=0))
    return eroded_gradient
