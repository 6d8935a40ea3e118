"""Surface elements: where a mask has a surface, and how large it is there.

Every 2 x 2 x 2 neighbourhood of voxels that is neither empty nor full is a surface element. Its area is that of the
marching-cubes polygons of its pattern: a sum of plane patches, each given here by its vector area at unit spacing. For
another spacing a component is scaled by the spacings of the two other axes.

Source: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy" (2018).
"""

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from volumen.system.compiled import Array, compiled

Spacing = tuple[float, float, float]
VectorArea = tuple[float, float, float]

UNIT: Spacing = (1.0, 1.0, 1.0)

_CORNER: VectorArea = (1 / 8, 1 / 8, 1 / 8)
_EDGE_ALONG_X: VectorArea = (1 / 2, 1 / 2, 0)
_EDGE_ALONG_Z: VectorArea = (0, 1 / 2, 1 / 2)
_L_IN_A_PLANE: tuple[VectorArea, ...] = ((1 / 2, 0, 0), (3 / 8, 3 / 8, 3 / 8))  # three corners of a face across z

# The patches (z, y, x), up to sign, of the least code of each class of patterns under the symmetries of the cube and
# the complement; corner (z, y, x) has bit weight 128 >> (4 z + 2 y + x).
_PATCHES: dict[int, tuple[VectorArea, ...]] = {
    0: (),
    1: (_CORNER,),
    3: (_EDGE_ALONG_X,),
    6: (_CORNER,) * 2,
    7: _L_IN_A_PLANE,
    15: ((1, 0, 0),),
    22: (_CORNER,) * 3,
    23: ((3 / 4, 3 / 4, 3 / 4),),
    24: (_CORNER,) * 2,
    25: (_EDGE_ALONG_Z, _CORNER),
    27: ((0, 1 / 4, 1 / 4), (1 / 4, 0, 1 / 4), (1 / 4, 1 / 4, 1 / 4), (1 / 4, 1 / 4, 1 / 4)),  # edges along z, x, y
    30: (*_L_IN_A_PLANE, _CORNER),
    60: (_EDGE_ALONG_X,) * 2,
    105: (_CORNER,) * 4,
}


def _cube_symmetries() -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The 48 symmetries of a cube: which axis each axis of the image comes from, and where each corner goes."""
    corners = list(itertools.product((0, 1), repeat=3))
    for axes in itertools.permutations(range(3)):
        for flips in corners:
            images = [tuple(corner[axis] ^ flips[axis] for axis in axes) for corner in corners]
            yield axes, tuple(4 * z + 2 * y + x for z, y, x in images)


@cache
def _turned_patches() -> tuple[NDArray[np.float64], ...]:
    """The patches of each of the 256 patterns, [patches, 3] over (z, y, x)."""
    symmetries = list(_cube_symmetries())
    found = []
    for code in range(256):
        images = []
        for pattern in (code, 255 - code):
            corners = [k for k in range(8) if pattern & (128 >> k)]
            images += [(sum(128 >> image[k] for k in corners), axes) for axes, image in symmetries]
        least, axes = min(images)
        patches = np.zeros((len(_PATCHES[least]), 3))
        for row, patch in zip(patches, _PATCHES[least], strict=True):
            row[list(axes)] = patch
        found.append(patches)
    return tuple(found)


@cache
def element_areas(spacing: Spacing = UNIT) -> NDArray[np.float64]:
    """Area of the surface element of each of the 256 patterns for voxels of a spacing (z, y, x); shape [256]."""
    z, y, x = spacing
    scale = np.array((y * x, z * x, z * y))
    areas = np.array([np.sqrt(np.square(patches * scale).sum(axis=1)).sum() for patches in _turned_patches()])
    areas.setflags(write=False)
    return areas


@compiled
def surface_elements(packed: Array) -> Array:
    """The surface elements [Z+1, Y+1, words]: element (z, y, x) spans padded voxels z..z+1, y..y+1, x..x+1."""
    depth, height, words = packed.shape[0] - 1, packed.shape[1] - 1, packed.shape[2]
    surface = np.zeros((depth, height, words), np.uint64)
    for z in range(depth):
        for y in range(height):
            for k in range(words):
                a, b, c, d = packed[z, y, k], packed[z, y + 1, k], packed[z + 1, y, k], packed[z + 1, y + 1, k]
                some, every = a | b | c | d, a & b & c & d
                some_next, every_next = np.uint64(0), np.uint64(0)
                if k + 1 < words:
                    a, b = packed[z, y, k + 1], packed[z, y + 1, k + 1]
                    c, d = packed[z + 1, y, k + 1], packed[z + 1, y + 1, k + 1]
                    some_next, every_next = a | b | c | d, a & b & c & d
                some |= some >> np.uint64(1) | some_next << np.uint64(63)
                every &= every >> np.uint64(1) | every_next << np.uint64(63)
                surface[z, y, k] = some & ~every
    return surface
