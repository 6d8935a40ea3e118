"""Sheets that a mask fused, cut apart again where the probabilities dip between them."""

import itertools
from collections.abc import Sequence

import cc3d
import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError
from volumen.postprocess.columns import blocks, column_counts, largest_shadow, pieces_of
from volumen.system.compiled import Array, compiled, grown

BLOCK_VOXELS = 64
MINIMUM_COLUMNS = 64  # a smaller scrap of a component at the edge of a block says nothing about its shape
CUT = -1
INSIDE = -2


def split_fused(
    mask: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    levels: Sequence[float],
    minimum_voxels: int,
    maximum_folded_share: float,
) -> NDArray[np.uint8]:
    """Cut components that fit badly as one sheet at higher thresholds.

    Fit is judged in overlapping blocks, because a long sheet may wind and still be one sheet everywhere: a component
    fits badly when in some block the share of columns that meet one of its pieces twice or more exceeds
    `maximum_folded_share`. The worst block decides, as a single bridge between two sheets shows in few blocks.

    At the first level at which such a component breaks into two or more large pieces, these grow back through it, one
    voxel of distance at a time, and the voxels in which they would meet are dropped. Pieces that still fit badly are
    tried at the levels that remain. Components that fit, or never break, stay as they are. Ties of the growth follow
    the order of the voxels, and blocks start at the first voxel, so the result need not commute with flips.

    Args:
        mask: uint8 [Z, Y, X], 0 or 1.
        probabilities: float32 [Z, Y, X]; NaN is below every level.
        levels: Increasing thresholds between 0 and 1, above the one that made the mask.
        minimum_voxels: Size of the smallest piece that a component may be cut into; smaller ones are absorbed.
        maximum_folded_share: 0 to 1.

    Returns:
        Mask, uint8 [Z, Y, X], a subset of the mask given.

    Raises:
        UserError: Different shapes, levels that do not increase, or a size or share out of range.
    """
    _check(mask, probabilities, levels, minimum_voxels, maximum_folded_share)
    result = mask.copy(order="C")
    labels, count = pieces_of(mask)
    statistics = cc3d.statistics(labels)
    for component in _folded(labels, count, maximum_folded_share):
        if statistics["voxel_counts"][component] < 2 * minimum_voxels:
            continue
        box = statistics["bounding_boxes"][component]
        own = (labels[box] == component).view(np.uint8)
        cut = _cut(own, probabilities[box], levels, minimum_voxels, maximum_folded_share)
        result[box] &= (own ^ 1) | cut
    return result


def _check(
    mask: NDArray[np.uint8], probabilities: NDArray[np.float32], levels: Sequence[float], minimum: int, share: float
) -> None:
    if mask.shape != probabilities.shape:
        raise UserError(
            f"splitting needs one shape, the mask has {mask.shape}, the probabilities {probabilities.shape}"
        )
    ladder = [0.0, *levels, 1.0]
    if not levels or not all(low < high for low, high in itertools.pairwise(ladder)):
        raise UserError(f"levels must increase and lie between 0 and 1, both excluded, got {list(levels)}")
    if minimum < 1:
        raise UserError(f"the smallest piece must have 1 voxel or more, got {minimum}")
    if not 0 <= share <= 1:
        raise UserError(f"the folded share must lie between 0 and 1, got {share:g}")


def _folded(labels: NDArray[np.uint32], count: int, maximum_share: float) -> list[int]:
    """The components, in ascending order, that are no single sheet in some block of labels [Z, Y, X]."""
    worst = np.zeros(count + 1)
    for box in blocks(labels.shape, BLOCK_VOXELS):
        block = np.ascontiguousarray(labels[box])
        pieces, number = pieces_of((block != 0).view(np.uint8))
        if number == 0:
            continue
        _, columns, folded = largest_shadow(*column_counts(pieces, number))
        component = np.zeros(number + 1, np.int64)
        component[pieces] = block
        shares = np.where(columns >= MINIMUM_COLUMNS, folded / np.maximum(columns, 1), 0)
        np.maximum.at(worst, component[1:], shares[1:])
    return [int(label) for label in np.flatnonzero(worst > maximum_share)]


def _cut(
    own: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    levels: Sequence[float],
    minimum_voxels: int,
    maximum_share: float,
) -> NDArray[np.uint8]:
    """One component [Z, Y, X], which fits badly, without the voxels between its parts; itself if it never breaks."""
    for number, level in enumerate(levels):
        parts = _parts(own, probabilities, level, minimum_voxels)
        if parts is not None:
            return _cut_parts(parts, probabilities, levels[number + 1 :], minimum_voxels, maximum_share)
    return own


def _parts(
    own: NDArray[np.uint8], probabilities: NDArray[np.float32], level: float, minimum_voxels: int
) -> NDArray[np.uint32] | None:
    """The parts of a component that a level breaks it into, grown back, labelled from 1; None where it does not."""
    pieces, count = pieces_of(own & (probabilities > level).view(np.uint8))
    large = cc3d.statistics(pieces, no_slice_conversion=True)["voxel_counts"][: count + 1] >= minimum_voxels
    large[0] = False
    if large.sum() < 2:
        return None
    parts = np.where(large, np.cumsum(large), INSIDE).astype(np.int32)[pieces]
    parts[own == 0] = 0
    _grow(parts)
    np.maximum(parts, 0, out=parts)
    return parts.view(np.uint32)


def _cut_parts(
    parts: NDArray[np.uint32],
    probabilities: NDArray[np.float32],
    levels: Sequence[float],
    minimum_voxels: int,
    maximum_share: float,
) -> NDArray[np.uint8]:
    """The mask of separate parts, labelled from 1, after cutting those of them that still fit badly."""
    result: NDArray[np.uint8] = (parts != 0).view(np.uint8)
    if not levels:
        return result
    count = int(parts.max())
    boxes = cc3d.statistics(parts)["bounding_boxes"]
    for part in _folded(parts, count, maximum_share):
        box = boxes[part]
        own = (parts[box] == part).view(np.uint8)
        cut = _cut(own, probabilities[box], levels, minimum_voxels, maximum_share)
        result[box] &= (own ^ 1) | cut
    return result


@compiled
def _grow(parts: Array) -> None:
    """Grow the parts, labelled from 1, through the voxels marked INSIDE, breadth first and 26-connected, in place.

    A voxel that touches two parts when its turn comes becomes CUT; so parts never touch, and since growth starts from
    parts that are components of a mask, each stays as it was at least. What lies behind a cut stays INSIDE.
    """
    depth, height, width = parts.shape
    flat = parts.reshape(-1)
    queue = np.empty(1024, np.int64)
    size = 0
    for place in range(len(flat)):
        if flat[place] > 0:
            if size == len(queue):
                queue = grown(queue)
            queue[size] = place
            size += 1
    first = 0
    while first < size:
        place = queue[first]
        first += 1
        z, y, x = place // (height * width), place // width % height, place % width
        for a in range(max(z - 1, 0), min(z + 2, depth)):
            for b in range(max(y - 1, 0), min(y + 2, height)):
                for c in range(max(x - 1, 0), min(x + 2, width)):
                    if parts[a, b, c] != INSIDE:
                        continue
                    if _touches_another(parts, a, b, c, flat[place]):
                        parts[a, b, c] = CUT
                        continue
                    parts[a, b, c] = flat[place]
                    if size == len(queue):
                        queue = grown(queue)
                    queue[size] = (a * height + b) * width + c
                    size += 1


@compiled
def _touches_another(parts: Array, z: int, y: int, x: int, part: int) -> bool:
    """Whether a voxel has a 26-neighbour in another part than `part`."""
    depth, height, width = parts.shape
    for a in range(max(z - 1, 0), min(z + 2, depth)):
        for b in range(max(y - 1, 0), min(y + 2, height)):
            for c in range(max(x - 1, 0), min(x + 2, width)):
                if parts[a, b, c] > 0 and parts[a, b, c] != part:
                    return True
    return False
