"""Cut a volume into overlapping tiles and put predictions back together, every voxel covered.

A sliding window that walks in whole steps and stops short leaves a border that nobody predicted, and nothing in the
result tells. Here the last tile of each axis lies flush with the volume's end, and coverage is checked when merging.

The tiles are the product of three lists of starts and the importance weights are a product of three vectors, so the
sum of all weights at a voxel is a product of three vectors as well: merging needs one accumulator and no second volume.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from volumen.data.emptiness import Value
from volumen.errors import UserError

Triple = tuple[int, int, int]
SIGMA_SHARE = 0.125  # sigma of the importance weights as a share of the tile's side
WEIGHT_FLOOR = (
    1e-3  # least weight along an axis: the product over three axes (1e-9) stays far above float32's underflow
)


class CoverageError(RuntimeError):
    """Tiles do not cover a volume exactly as planned; a defect of the program, never of its input."""


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of a volume lie.

    A volume smaller than the tile along some axis is padded there, on both sides, up to the tile; `starts` are
    positions in the padded volume.
    """

    shape: Triple
    """The volume, z y x."""
    tile: Triple
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """First voxel of the tiles along each axis, increasing."""

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    @property
    def origins(self) -> Iterable[Triple]:
        """First voxel of every tile, z slowest."""
        return itertools.product(*self.starts)

    @property
    def padded_shape(self) -> Triple:
        """The volume's shape once it is at least as large as the tile."""
        z, y, x = (max(side, tile) for side, tile in zip(self.shape, self.tile, strict=True))
        return z, y, x

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Voxels added before and after, along each axis; all 0 unless the volume is smaller than the tile."""
        extra = [padded - side for padded, side in zip(self.padded_shape, self.shape, strict=True)]
        return tuple((added // 2, added - added // 2) for added in extra)

    @property
    def is_padded(self) -> bool:
        """Whether the volume is smaller than the tile along some axis."""
        return self.padded_shape != self.shape

    @property
    def interior(self) -> tuple[slice, ...]:
        """The volume inside of the padded volume."""
        return tuple(slice(before, before + side) for (before, _), side in zip(self.padding, self.shape, strict=True))

    def window(self, origin: Triple) -> tuple[slice, ...]:
        """The tile at an origin as slices of the padded volume."""
        return tuple(slice(start, start + side) for start, side in zip(origin, self.tile, strict=True))

    def pad(self, volume: NDArray[Value]) -> NDArray[Value]:
        """The volume with its nearest voxels repeated up to the padded shape, as training patches have them.

        Raises:
            UserError: It is not the volume that the tiles were planned for.
        """
        if volume.shape != self.shape:
            raise UserError(
                f"the tiles were planned for a volume of {list(self.shape)}, got {list(volume.shape)}: "
                "plan them for this volume"
            )
        return np.pad(volume, self.padding, mode="edge") if self.is_padded else volume

    @cached_property
    def axis_weights(self) -> tuple[NDArray[np.float32], ...]:
        """Importance of a tile's voxels along each axis; a tile's weights are the outer product of the three."""
        return tuple(importance(side) for side in self.tile)

    @cached_property
    def coverage(self) -> tuple[NDArray[np.float64], ...]:
        """Sum of the weights of all tiles along each axis of the padded volume; their outer product is the normaliser.

        Raises:
            CoverageError: Some voxel lies in no tile.
        """
        sums = []
        for axis, (starts, side) in enumerate(zip(self.starts, self.padded_shape, strict=True)):
            total = np.zeros(side, dtype=np.float64)
            for start in starts:
                total[start : start + self.tile[axis]] += self.axis_weights[axis]
            if not total.min() > 0:
                missed = int(np.count_nonzero(total <= 0))
                raise CoverageError(
                    f"{missed} of {side} voxels along axis {'zyx'[axis]} lie in no tile of {self.tile[axis]} "
                    f"starting at {list(starts)}"
                )
            sums.append(total)
        return tuple(sums)


def importance(side: int) -> NDArray[np.float32]:
    """Gaussian weights float32 [side] along an axis of a tile: most at its centre, where most context was seen."""
    offset = np.arange(side, dtype=np.float64) - (side - 1) / 2
    weights = np.exp(-0.5 * (offset / (SIGMA_SHARE * side)) ** 2)
    return np.maximum(weights, WEIGHT_FLOOR).astype(np.float32)


def plan_tiles(shape: Triple, tile: Triple, overlap: float) -> Tiles:
    """Plan tiles that cover every voxel: evenly spread, as few as the overlap allows, flush with both ends.

    Args:
        shape: The volume, z y x.
        tile: Size of a tile, z y x; where it exceeds the volume, the volume is padded.
        overlap: Share of a tile that neighbours have in common at least, 0 <= overlap < 1.

    Raises:
        UserError: A side below 1, not three axes, or an overlap outside of [0, 1).
    """
    for name, sides in (("volume", shape), ("tile", tile)):
        if len(sides) != 3 or min(sides) < 1:
            raise UserError(f"the {name} must have three axes of at least 1 voxel, z y x, got {list(sides)}")
    if not 0 <= overlap < 1:
        raise UserError(f"the overlap of tiles must be at least 0 and below 1, got {overlap:g}: 0.25 to 0.5 is usual")
    z, y, x = (_starts(side, length, overlap) for side, length in zip(shape, tile, strict=True))
    return Tiles((shape[0], shape[1], shape[2]), (tile[0], tile[1], tile[2]), (z, y, x))


def _starts(side: int, tile: int, overlap: float) -> tuple[int, ...]:
    room = side - tile
    if room <= 0:
        return (0,)
    step = max(1, math.floor(tile * (1 - overlap) + 1e-9))  # 10 * (1 - 0.9) is 0.9999999999999998
    gaps = -(-room // step)
    return tuple(
        number * room // gaps for number in range(gaps + 1)
    )  # neighbours at most ceil(room / gaps) <= step apart
