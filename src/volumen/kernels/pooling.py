"""Differentiable cube dilation and soft skeleton of probabilities, exact and without repeating any erosion.

`soft_skeleton` is the iterative skeleton of clDice (Shit et al., CVPR 2021, arXiv:2003.07311). Written plainly, each
iteration erodes the same volume twice and autograd keeps every intermediate. Here the erosions E_0 = p,
E_{k+1} = erode(E_k) are computed once and shared: the residue of level k is max(0, E_k - dilate(E_{k+1})), and the
skeleton grows by S_k = S_{k-1} + residue_k (1 - S_{k-1}). Only E_k and S_k are kept; dilations are done again in the
backward pass.

On the CPU compiled kernels do the work, one thread per sample; elsewhere the same algorithm runs in tensor operations.
Both share the gradient equally at ties, and both are differentiable once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from volumen.kernels import pooling_loops as loops
from volumen.kernels import pooling_tensor as tensor_operations


def dilate_cube(probabilities: Tensor, radius: int = 1) -> Tensor:
    """Maximum over the cube of side 2 radius + 1 about each voxel of [B, Z, Y, X], float32 or float64."""
    for _ in range(radius):
        probabilities = _DilateCube.apply(probabilities)  # type: ignore[no-untyped-call]
    return probabilities


def soft_skeleton(probabilities: Tensor, iterations: int) -> Tensor:
    """Soft skeleton of clDice: what openings of ever more eroded copies lose, accumulated.

    Args:
        probabilities: [B, Z, Y, X] in [0, 1], float32 or float64.
        iterations: erosions after the first level. A sheet thicker than 2 iterations + 2 voxels leaves no skeleton.

    Returns:
        [B, Z, Y, X] in [0, 1].
    """
    skeleton: Tensor = _SoftSkeleton.apply(probabilities, iterations)  # type: ignore[no-untyped-call]
    return skeleton


def _per_sample(function: Callable[[int], None], batch: int) -> None:
    """Run `function` on every sample, in as many threads as PyTorch has been given."""
    threads = min(torch.get_num_threads(), batch)
    if threads <= 1:
        for index in range(batch):
            function(index)
        return
    with ThreadPoolExecutor(max_workers=threads) as executor:
        list(executor.map(function, range(batch)))


class _DilateCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor) -> Tensor:
        source = probabilities.detach().contiguous()
        ctx.save_for_backward(source)
        if source.device.type != "cpu":
            return tensor_operations.dilate(source)
        dilated = torch.empty_like(source)
        source_array, dilated_array = source.numpy(), dilated.numpy()
        _per_sample(lambda index: loops.dilate(source_array[index], dilated_array[index]), len(source))
        return dilated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dilated_gradient: Tensor) -> Tensor:
        (source,) = ctx.saved_tensors
        if source.device.type != "cpu":
            return tensor_operations.dilate_backward(source, dilated_gradient)
        gradient = torch.zeros_like(source)
        arrays = source.numpy(), dilated_gradient.contiguous().numpy(), gradient.numpy()
        _per_sample(lambda index: loops.dilate_backward(*(array[index] for array in arrays)), len(source))
        return gradient


class _SoftSkeleton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, iterations: int) -> Tensor:
        source = probabilities.detach().contiguous()
        keep = ctx.needs_input_grad[0]
        if source.device.type != "cpu":
            levels, skeletons = tensor_operations.skeleton_levels(source, iterations)
        else:
            levels, skeletons = _skeleton_levels(source, iterations, keep)
        if keep:
            ctx.save_for_backward(*levels, *skeletons[:-1])
            ctx.level_count = len(levels)
        return skeletons[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, skeleton_gradient: Tensor) -> tuple[Tensor, None]:
        levels = ctx.saved_tensors[: ctx.level_count]
        skeletons = ctx.saved_tensors[ctx.level_count :]
        if skeleton_gradient.device.type != "cpu":
            return tensor_operations.skeleton_backward(levels, skeletons, skeleton_gradient), None
        outer = skeleton_gradient.clone(memory_format=torch.contiguous_format)
        gradient = torch.empty_like(levels[0])
        level_arrays = [level.numpy() for level in levels]
        skeleton_arrays = [skeleton.numpy() for skeleton in skeletons]
        outer_array, gradient_array = outer.numpy(), gradient.numpy()

        def one_sample(index: int) -> None:
            gradient_array[index] = _skeleton_backward(
                [array[index] for array in level_arrays],
                [array[index] for array in skeleton_arrays],
                outer_array[index],
            )

        _per_sample(one_sample, len(gradient))
        return gradient, None


def _skeleton_levels(source: Tensor, iterations: int, keep: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Erosions E_0 .. E_{n+1} and skeletons S_{-1} = 0, S_0 .. S_n; without `keep` only the last skeleton is one."""
    if keep:
        levels = [source] + [torch.empty_like(source) for _ in range(iterations + 1)]
        skeletons = [torch.zeros_like(source)] + [torch.empty_like(source) for _ in range(iterations + 1)]
    else:
        # Two buffers take turns, since level k is dead once k + 2 is made; the source itself must survive.
        buffers = [torch.empty_like(source), torch.empty_like(source)]
        levels = [source] + [buffers[level % 2] for level in range(iterations + 1)]
        skeletons = [torch.zeros_like(source)] * (iterations + 2)
    level_arrays = [level.numpy() for level in levels]
    skeleton_arrays = [skeleton.numpy() for skeleton in skeletons]

    def one_sample(index: int) -> None:
        for level in range(iterations + 1):
            loops.erode(level_arrays[level][index], level_arrays[level + 1][index])
            loops.skeleton_forward_level(
                level_arrays[level][index],
                level_arrays[level + 1][index],
                skeleton_arrays[level][index],
                skeleton_arrays[level + 1][index],
            )

    _per_sample(one_sample, len(source))
    return levels, skeletons


def _skeleton_backward(
    levels: list[loops.Volume], skeletons: list[loops.Volume], skeleton_gradient: loops.Volume
) -> loops.Volume:
    """Gradient of the source of one sample; `skeleton_gradient` is overwritten."""
    eroded_gradient = np.zeros_like(levels[0])
    level_gradient = np.zeros_like(levels[0])
    for level in range(len(levels) - 2, -1, -1):
        loops.skeleton_backward_level(
            levels[level], levels[level + 1], skeletons[level], skeleton_gradient, level_gradient, eroded_gradient
        )
        loops.erode_backward(levels[level], levels[level + 1], eroded_gradient, level_gradient)
        eroded_gradient, level_gradient = level_gradient, eroded_gradient
        level_gradient.fill(0)
    return eroded_gradient
