"""Compiled 3x3x3 minimum and maximum filters, with exact gradients, for the terms that look at neighbourhoods.

Soft clDice spends its time in pooling. PyTorch's pooling on the CPU is neither separable nor vectorised and keeps every
intermediate volume for the backward pass. These kernels work row by row on one volume [Z, Y, X] of float32 or float64,
recompute in the backward pass what is cheaper to recompute than to keep, and release the GIL.

At a tie the gradient is shared equally among the voxels that attain the extreme value. That is a valid subgradient (a
convex combination of one-sided choices) and, unlike "the first one wins", it does not depend on the scan order, so that
flipping a volume flips the gradient.

Some habits need a word. Rows beyond the volume are stood in for by a row of +inf (minimum) or -inf (maximum), which
never wins. What is not a number equals nothing, so that a pooled voxel may have no source. Float literals would promote
float32 to float64, so constants are made from the arrays' own type.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from volumen.system.compiled import compiled

Volume: TypeAlias = NDArray[Any]  # [Z, Y, X] or a plane or row of one, C-contiguous, float32 or float64


@compiled
def _row(volume: Volume, z: int, y: int, border: Volume) -> Volume:
    """Row (z, y) of a volume, or the border row where there is none."""
    if z < 0 or y < 0 or z >= volume.shape[0] or y >= volume.shape[1]:
        return border
    row: Volume = volume[z, y]
    return row


@compiled
def _share_among_three(first: Volume, middle: Volume, last: Volume, value: Volume, share: Volume) -> None:
    """Divide each pooled voxel's gradient by the number of its three sources that attain its value."""
    for x in range(value.size):
        count = np.int32(first[x] == value[x]) + np.int32(middle[x] == value[x]) + np.int32(last[x] == value[x])
        share[x] /= share.dtype.type(max(count, np.int32(1)))


@compiled
def _collect(source: Volume, value: Volume, share: Volume, gradient: Volume) -> None:
    """Add to each source voxel of a row its share of the pooled voxels whose value it attains."""
    zero = gradient.dtype.type(0)
    for x in range(source.size):
        gradient[x] += share[x] if source[x] == value[x] else zero


@compiled
def _count_along_row(source: Volume, value: Volume, count: NDArray[np.int32]) -> None:
    """Add, for each pooled voxel, how many of its two neighbours in the row attain its value."""
    earlier, later = source[:-1], source[1:]
    value_after, value_before = value[1:], value[:-1]
    count_after, count_before = count[1:], count[:-1]
    for x in range(earlier.size):
        count_after[x] += np.int32(earlier[x] == value_after[x])
    for x in range(later.size):
        count_before[x] += np.int32(later[x] == value_before[x])


@compiled
def _collect_along_row(source: Volume, value: Volume, share: Volume, gradient: Volume) -> None:
    """Add the shares of the pooled voxels at, before and after each source voxel of the row."""
    _collect(source, value, share, gradient)
    _collect(source[:-1], value[1:], share[1:], gradient[:-1])
    _collect(source[1:], value[:-1], share[:-1], gradient[1:])


@compiled
def erode(source: Volume, eroded: Volume) -> None:
    """Write the minimum over each voxel and its 6 face neighbours of `source` [Z, Y, X] to `eroded`."""
    depth, height, width = source.shape
    border = np.full(width, np.inf, source.dtype)
    for z in range(depth):
        for y in range(height):
            centre, output = source[z, y], eroded[z, y]
            front, back = _row(source, z - 1, y, border), _row(source, z + 1, y, border)
            upper, lower = _row(source, z, y - 1, border), _row(source, z, y + 1, border)
            for x in range(width):
                first = front[x] if front[x] < back[x] else back[x]
                second = upper[x] if upper[x] < lower[x] else lower[x]
                first = first if first < second else second
                output[x] = first if first < centre[x] else centre[x]
            earlier, later, after, before = centre[:-1], centre[1:], output[1:], output[:-1]
            for x in range(width - 1):
                after[x] = earlier[x] if earlier[x] < after[x] else after[x]
            for x in range(width - 1):
                before[x] = later[x] if later[x] < before[x] else before[x]


@compiled
def erode_backward(source: Volume, eroded: Volume, eroded_gradient: Volume, gradient: Volume) -> None:
    """Add the gradient of `erode` to `gradient`; `eroded_gradient` is overwritten with each tied voxel's share."""
    depth, height, width = source.shape
    border = np.full(width, np.inf, source.dtype)
    count = np.empty(width, np.int32)
    for z in range(depth):
        for y in range(height):
            centre, value, share = source[z, y], eroded[z, y], eroded_gradient[z, y]
            front, back = _row(source, z - 1, y, border), _row(source, z + 1, y, border)
            upper, lower = _row(source, z, y - 1, border), _row(source, z, y + 1, border)
            for x in range(width):
                along_z = np.int32(front[x] == value[x]) + np.int32(back[x] == value[x])
                along_y = np.int32(upper[x] == value[x]) + np.int32(lower[x] == value[x])
                count[x] = np.int32(centre[x] == value[x]) + along_z + along_y
            _count_along_row(centre, value, count)
            for x in range(width):
                share[x] /= share.dtype.type(max(count[x], np.int32(1)))
    for z in range(depth):
        for y in range(height):
            centre, output = source[z, y], gradient[z, y]
            _collect_along_row(centre, eroded[z, y], eroded_gradient[z, y], output)
            for near_z, near_y in ((z - 1, y), (z + 1, y), (z, y - 1), (z, y + 1)):
                if 0 <= near_z < depth and 0 <= near_y < height:
                    _collect(centre, eroded[near_z, near_y], eroded_gradient[near_z, near_y], output)


@compiled
def _largest_of_three(first: Volume, middle: Volume, last: Volume, output: Volume) -> None:
    for x in range(output.size):
        largest = first[x] if first[x] > last[x] else last[x]
        output[x] = largest if largest > middle[x] else middle[x]


@compiled
def _dilate_plane(source: Volume, z: int, planes: Volume, border: Volume) -> None:
    """Dilate plane z of `source`; planes[0], [1], [2] receive the maximum along z, then also y, then also x."""
    height, width = source.shape[1:]
    for y in range(height):
        _largest_of_three(_row(source, z - 1, y, border), source[z, y], _row(source, z + 1, y, border), planes[0, y])
    for y in range(height):
        _largest_of_three(_row(planes, 0, y - 1, border), planes[0, y], _row(planes, 0, y + 1, border), planes[1, y])
        middle, output = planes[1, y], planes[2, y]
        output[:] = middle
        earlier, later, after, before = middle[:-1], middle[1:], output[1:], output[:-1]
        for x in range(width - 1):
            after[x] = earlier[x] if earlier[x] > after[x] else after[x]
        for x in range(width - 1):
            before[x] = later[x] if later[x] > before[x] else before[x]


@compiled
def _dilate_plane_backward(
    source: Volume, z: int, planes: Volume, plane_gradients: Volume, gradient: Volume, border: Volume
) -> None:
    """Add the gradient of `_dilate_plane` to `gradient` [Z, Y, X].

    `planes` are as that left them; plane_gradients[2] is the gradient of the result and all three are overwritten.
    """
    depth, height, width = source.shape
    count = np.empty(width, np.int32)
    plane_gradients[:2] = gradient.dtype.type(0)
    for y in range(height):
        middle, value, share = planes[1, y], planes[2, y], plane_gradients[2, y]
        for x in range(width):
            count[x] = np.int32(middle[x] == value[x])
        _count_along_row(middle, value, count)
        for x in range(width):
            share[x] /= share.dtype.type(max(count[x], np.int32(1)))
        _collect_along_row(middle, value, share, plane_gradients[1, y])
    for y in range(height):
        upper, lower = _row(planes, 0, y - 1, border), _row(planes, 0, y + 1, border)
        _share_among_three(upper, planes[0, y], lower, planes[1, y], plane_gradients[1, y])
    for y in range(height):
        for near in range(max(0, y - 1), min(height, y + 2)):
            _collect(planes[0, y], planes[1, near], plane_gradients[1, near], plane_gradients[0, y])
    for y in range(height):
        front, back = _row(source, z - 1, y, border), _row(source, z + 1, y, border)
        _share_among_three(front, source[z, y], back, planes[0, y], plane_gradients[0, y])
        for near in range(max(0, z - 1), min(depth, z + 2)):
            _collect(source[near, y], planes[0, y], plane_gradients[0, y], gradient[near, y])


@compiled
def dilate(source: Volume, dilated: Volume) -> None:
    """Write the maximum over each voxel's 3x3x3 neighbourhood of `source` [Z, Y, X] to `dilated`."""
    depth, height, width = source.shape
    border = np.full(width, -np.inf, source.dtype)
    planes = np.empty((3, height, width), source.dtype)
    for z in range(depth):
        _dilate_plane(source, z, planes, border)
        dilated[z] = planes[2]


@compiled
def dilate_backward(source: Volume, dilated_gradient: Volume, gradient: Volume) -> None:
    """Add the gradient of `dilate` to `gradient`."""
    depth, height, width = source.shape
    border = np.full(width, -np.inf, source.dtype)
    planes = np.empty((3, height, width), source.dtype)
    plane_gradients = np.empty((3, height, width), source.dtype)
    for z in range(depth):
        _dilate_plane(source, z, planes, border)
        plane_gradients[2] = dilated_gradient[z]
        _dilate_plane_backward(source, z, planes, plane_gradients, gradient, border)


@compiled
def skeleton_forward_level(level: Volume, eroded: Volume, skeleton: Volume, updated: Volume) -> None:
    """One iteration of the soft skeleton: updated = skeleton + residue (1 - skeleton).

    residue = max(0, level - dilate(eroded)) is what an opening of `level` loses. `updated` may be `skeleton` itself.
    """
    depth, height, width = level.shape
    zero, one = level.dtype.type(0), level.dtype.type(1)
    border = np.full(width, -np.inf, level.dtype)
    planes = np.empty((3, height, width), level.dtype)
    for z in range(depth):
        _dilate_plane(eroded, z, planes, border)
        for y in range(height):
            row, opened, before, after = level[z, y], planes[2, y], skeleton[z, y], updated[z, y]
            for x in range(width):
                residue = row[x] - opened[x]
                residue = residue if residue > zero else zero
                after[x] = before[x] + residue * (one - before[x])


@compiled
def skeleton_backward_level(
    level: Volume,
    eroded: Volume,
    skeleton: Volume,
    skeleton_gradient: Volume,
    level_gradient: Volume,
    eroded_gradient: Volume,
) -> None:
    """Add the gradients of `skeleton_forward_level` to those of `level` and `eroded`.

    `skeleton` is the one from before the level; `skeleton_gradient` holds the gradient of the updated skeleton on
    entry and of the one before it on return.
    """
    depth, height, width = level.shape
    zero, one = level.dtype.type(0), level.dtype.type(1)
    border = np.full(width, -np.inf, level.dtype)
    planes = np.empty((3, height, width), level.dtype)
    plane_gradients = np.empty((3, height, width), level.dtype)
    for z in range(depth):
        _dilate_plane(eroded, z, planes, border)
        for y in range(height):
            row, opened, before, outer = level[z, y], planes[2, y], skeleton[z, y], skeleton_gradient[z, y]
            direct, through_opening = level_gradient[z, y], plane_gradients[2, y]
            for x in range(width):
                residue = row[x] - opened[x]
                inner = outer[x] * (one - before[x])
                inner = inner if residue > zero else zero
                residue = residue if residue > zero else zero
                direct[x] += inner
                through_opening[x] = -inner
                outer[x] *= one - residue
        _dilate_plane_backward(eroded, z, planes, plane_gradients, eroded_gradient, border)


@compiled
def ridge(distance: Volume, dilated: Volume, largest_slope: float, output: NDArray[np.uint8]) -> None:
    """Write 1 where `distance` stops rising: a local maximum, or a slope whose square is below `largest_slope`.

    The slope is taken by central differences, with the border voxel repeated beyond the border.
    """
    depth, height, width = distance.shape
    for z in range(depth):
        front, back = max(z - 1, 0), min(z + 1, depth - 1)
        for y in range(height):
            upper, lower = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                along_z = distance[back, y, x] - distance[front, y, x]
                along_y = distance[z, lower, x] - distance[z, upper, x]
                along_x = distance[z, y, min(x + 1, width - 1)] - distance[z, y, max(x - 1, 0)]
                slope = (along_z * along_z + along_y * along_y + along_x * along_x) / 4
                output[z, y, x] = slope < largest_slope or distance[z, y, x] >= dilated[z, y, x]
