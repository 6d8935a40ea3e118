"""What a scan does not hold: the one definition that statistics, sampling, training, prediction and submission share.

Reconstructions fill what lies outside of the scanned region with a value of their own, zeros mostly. A data set may
declare its values (`empty` in dataset.yaml); otherwise they are found. Nothing is taken for empty voxel by voxel: a
lone dark voxel is part of the object, a cube of 5 voxels of exactly one value is not.

Zeros are empty wherever such a cube holds nothing else. Besides, at most one other value is found: the fill of what
lies outside, which reaches inwards from the faces. What is bright may be a sheet that is saturated, and an image
without noise has constant cubes everywhere; there a value has to look like an outside too: whichever way one walks
through it, one comes to a face of the volume.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

EMPTY_VOXELS = 5
"""Side of the cube of one value that no object is expected to hold."""
CANDIDATES = 4
LEAST_OF_FACES = 0.02  # covered by a fill, if that is not certain by its grey value
CERTAIN = 0.98  # of a value's voxels in such cubes: noise that has it by chance lies outside of them
LEAST_OF_VALUE = 0.8  # for the greatest value, of which a saturated sheet is made too
MOST_INSIDE = 0.25
NEAREST = 0.05
FLAT = 0.8  # of neighbours alike
NEAR = 4
"""Voxels from the scan up to which its nearest voxel is shown; from there on the mirror image begins."""
FOLDS = (64, 32, 16, 8, 4)
"""Depths at which a mirror image turns back; of the first one at which a voxel's source lies in the scan."""
Mask: TypeAlias = NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)
Declared: TypeAlias = tuple[int, ...] | None
"""Values that somebody says are empty; none at all is (), None is to find them."""


@dataclass(frozen=True)
class Emptiness:
    """What a volume does not hold."""

    values: tuple[int, ...]
    """Grey values that were taken for empty."""
    scan: Mask | None
    """Where the scan holds something, [Z, Y, X]; None where it does everywhere."""
    share: float
    """Of the volume, 0..1."""


def find_emptiness(image: NDArray[Any], declared: Declared = None) -> Emptiness:
    """What a volume of stored integers [Z, Y, X] does not hold: voxels of `declared` values, or else of values found.

    A cube may reach beyond the volume's faces, where everything counts as filled: a margin of three voxels is empty, a
    thinner one where it covers a whole face or is continued by a thicker one.
    """
    image = np.asarray(image)
    border = _border_values(image)
    empty: dict[int, Mask] = {}
    for value in (0,) if declared is None else declared:
        if value == 0 and np.count_nonzero(image) == image.size:  # the usual case, five times faster than to compare
            continue
        is_value = image == value
        if is_value.any():
            empty[value] = _opened(is_value, beyond=value in border)
    if declared is None:
        rest = empty.get(0)
        tried = (value for value, _ in border.most_common() if value != 0)
        for _, value in zip(range(CANDIDATES), tried, strict=False):
            outside = _from_the_faces(_opened(image == value, beyond=True))
            if _is_fill(image, value, outside, rest):
                empty[value] = outside
                break
    empty = {value: where for value, where in empty.items() if where.any()}
    if not empty:
        return Emptiness((), None, 0.0)
    scan = ~np.logical_or.reduce(list(empty.values()))
    return Emptiness(tuple(sorted(empty)), scan, 1.0 - int(np.count_nonzero(scan)) / scan.size)


def fill_in(image: NDArray[Value], scan: Mask | None) -> NDArray[Value]:
    """What a network sees where the scan holds nothing: its nearest voxel, and further off its mirror image.

    Beside the scan the nearest voxel invents no sheets; further off the mirror image has the grey values and textures
    that instance norms count on. `image` is a patch or tile [Z, Y, X], normalised or not.
    """
    if scan is None or scan.all() or not scan.any():
        return image
    nearest = ndimage.distance_transform_edt(~scan, return_distances=False, return_indices=True)
    empty = np.flatnonzero(~scan)
    filled = np.array(image, order="C")
    filled.reshape(-1)[empty] = filled.reshape(-1)[_sources(scan, empty, nearest.reshape(3, -1)[:, empty])]
    return filled


def in_words(values: tuple[int, ...], share: float) -> str:
    """What was taken for empty, as an end of a sentence; nothing where nothing was."""
    if share == 1:
        return f"the scan holds nothing: every voxel is {' or '.join(map(str, values))}"
    which = f"grey value{'s' * (len(values) > 1)} {', '.join(map(str, values))}"
    return f"{100 * share:.1f} % of the volume taken for empty ({which})" if values else ""


def slide(volume: NDArray[Any], side: int, axis: int, combine: np.ufunc) -> NDArray[Any]:
    """Combine each window of `side` voxels along an axis, which gets `side - 1` shorter.

    `combine` is such as `np.maximum`: windows are doubled until they are long enough, so a value may count twice.
    """
    moved, width = np.moveaxis(volume, axis, 0), 1
    while width < side:
        shift = min(width, side - width)
        moved = combine(moved[:-shift], moved[shift:])
        width += shift
    return np.moveaxis(moved, 0, axis)


def _sources(scan: Mask, empty: NDArray[np.intp], edge: NDArray[np.int32]) -> NDArray[np.intp]:
    """Where the values of empty voxels come from, from the nearest voxels [3, N]; places in the flattened volume."""
    step = edge - np.stack(np.unravel_index(empty, scan.shape)).astype(np.int32)
    distance = np.sqrt((step**2).sum(axis=0))
    sources = np.ravel_multi_index(tuple(edge), scan.shape)
    left = np.flatnonzero(distance > NEAR)
    for fold in FOLDS:
        far = distance[left]
        ratio = (fold - np.abs(fold - (far - NEAR) % (2 * fold))) / far
        place = np.rint(edge[:, left] + step[:, left] * ratio).astype(np.int32)
        flat = np.ravel_multi_index(tuple(place), scan.shape, mode="clip")
        found = scan.reshape(-1)[flat]
        for along, side in zip(place, scan.shape, strict=True):
            found &= (along >= 0) & (along < side)
        sources[left[found]] = flat[found]
        left = left[~found]
    return np.asarray(sources)


def _opened(is_value: Mask, beyond: bool) -> Mask:
    """What cubes about a voxel of the volume reach, or also those that only touch it from `beyond`."""
    reach = EMPTY_VOXELS // 2
    pads = (2 * reach, 0) if beyond else (reach, reach)
    for pad, outside, combine in zip(pads, (True, False), (np.logical_and, np.logical_or), strict=True):
        is_value = np.pad(is_value, pad, constant_values=outside)
        for axis in range(3):
            is_value = slide(is_value, EMPTY_VOXELS, axis, combine)
    return is_value


def _border_values(image: NDArray[Any]) -> Counter[int]:
    """Values that fill a cube about a voxel of a face, or a whole face, with the number of such voxels."""
    reach = EMPTY_VOXELS // 2
    found: Counter[int] = Counter()
    for layers in _faces(image, reach + 1):
        face = layers[0]
        least, most = layers.min(axis=0), layers.max(axis=0)
        if face.min() == face.max():
            found[int(face.flat[0])] += face.size
        elif (least == most).any():
            for axis in range(2):
                width = [(reach, reach) if one == axis else (0, 0) for one in range(2)]
                least = slide(np.pad(least, width, mode="edge"), EMPTY_VOXELS, axis, np.minimum)
                most = slide(np.pad(most, width, mode="edge"), EMPTY_VOXELS, axis, np.maximum)
            for value, count in zip(*np.unique(face[least == most], return_counts=True), strict=True):
                found[int(value)] += int(count)
    return found


def _faces(volume: NDArray[Any], depth: int) -> Iterator[NDArray[Any]]:
    """The outermost layers at each of the six faces, the face itself first."""
    for axis in range(3):
        layers = np.moveaxis(volume, axis, 0)
        yield np.ascontiguousarray(layers[:depth])
        yield np.ascontiguousarray(layers[::-1][:depth])


def _from_the_faces(where: Mask) -> Mask:
    """The parts of a mask that reach the volume's faces."""
    labels, count = cc3d.connected_components(where, connectivity=6, return_N=True)
    reaches = np.zeros(count + 1, dtype=bool)
    for face in _faces(labels, 1):
        reaches[np.unique(face)] = True
    reaches[0] = False
    return np.asarray(reaches[labels])


def _is_fill(image: NDArray[Any], value: int, outside: Mask, empty: Mask | None) -> bool:
    """Whether a value is what a reconstruction fills the outside with, and no part of what was scanned."""
    if outside.all():
        return True
    is_value = image == value
    others = ~is_value if empty is None else ~(is_value | empty)
    rest = image[others]
    if not rest.size:
        return False
    whole = np.count_nonzero(outside) / np.count_nonzero(is_value)
    is_saturated = value > rest.max()
    if whole >= CERTAIN and not is_saturated and not _is_flat(image, others):
        return True
    faces = np.concatenate([face.ravel() for face in _faces(outside, 1)])
    if faces.all():
        return True
    if np.count_nonzero(faces) < LEAST_OF_FACES * faces.size or (is_saturated and whole < LEAST_OF_VALUE):
        return False
    is_between = rest.min() < value < rest.max()
    return _lies_outside(outside) and (is_between or _breaks_off(image, value, outside, rest))


def _breaks_off(image: NDArray[Any], value: int, where: Mask, rest: NDArray[Any]) -> bool:
    """Whether what adjoins differs from a value as any of the rest may; what a clipped range cut off shades into it."""
    beside = np.abs(image[ndimage.binary_dilation(where) & ~where].astype(np.float64) - value)
    return bool(beside.size and np.median(beside) > np.quantile(np.abs(rest.astype(np.float64) - value), NEAREST))


def _is_flat(image: NDArray[Any], where: Mask) -> bool:
    """Whether neighbours mostly have the same value, as in images without noise."""
    pairs = where[..., 1:] & where[..., :-1]
    same = np.count_nonzero(pairs & (image[..., 1:] == image[..., :-1]))
    return bool(same > FLAT * np.count_nonzero(pairs))


def _lies_outside(where: Mask) -> bool:
    """Whether the walk along each axis mostly leads from a voxel of the mask to a face without leaving it."""
    total = np.count_nonzero(where)
    for axis in range(3):
        line = np.moveaxis(where, axis, 0)
        reached = np.logical_and.accumulate(line, axis=0) | np.logical_and.accumulate(line[::-1], axis=0)[::-1]
        if total - np.count_nonzero(reached) > MOST_INSIDE * total:
            return False
    return True
