"""A volume as slabs along z that fit a device's memory one after the other.

Tiles come in rows of one z start, in the order of the plan. When the rows of a slab are done, the planes before the
next row's start are finished; what lies behind them is carried over into the next slab, so that every voxel is the sum
of the same tiles in the same order, however many slabs there are.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from volumen.inference.accumulator import Stitching
from volumen.inference.tiles import Triple

_FLOAT = 4
_PIECE_BYTES = 2**24


@dataclass(frozen=True)
class Row:
    """Tiles of one z start."""

    start: int
    """In the padded volume."""
    finished: int
    """The first plane that is not finished once this row and those before it are done; in the padded volume."""
    origins: tuple[Triple, ...]


@dataclass(frozen=True)
class Slab:
    """Rows that are predicted at a time."""

    rows: tuple[Row, ...]
    low: int
    """First plane of the sum, in the padded volume, as are the other numbers."""
    high: int
    """Behind the last plane of the sum."""
    image: tuple[int, int]
    """Planes of the image that the tiles see."""

    @property
    def finished(self) -> int:
        """The first plane that a later slab adds to, or the box's end."""
        return self.rows[-1].finished


def rows_of(box: Stitching) -> tuple[Row, ...]:
    """The tiles that are waited for, by their z start."""
    low, high = box.box[0].start, box.box[0].stop
    grouped = [(start, tuple(row)) for start, row in itertools.groupby(box.waiting, key=lambda origin: origin[0])]
    ends = [max(start, low) for start, _ in grouped[1:]] + [high]
    return tuple(Row(start, end, origins) for (start, origins), end in zip(grouped, ends, strict=True))


def plan_slabs(
    box: Stitching, itemsize: int, masked: bool, budget: int | None = None, most_rows: int | None = None
) -> tuple[Slab, ...]:
    """As few slabs as a budget allows; none at all where not even one row of tiles fits.

    Args:
        box: All tiles that touch it are still waited for.
        itemsize: Bytes of a voxel of the image as the device holds it.
        masked: Whether the mask of the scan lies on the device too.
        budget: Bytes of image, mask, sum and what is made of them; None: no limit.
        most_rows: Rows of tiles in a slab at most; None: no limit.
    """
    slabs: list[Slab] = []
    waiting = list(rows_of(box))
    while waiting:
        count = next(
            (
                number
                for number in range(min(len(waiting), most_rows or len(waiting)), 0, -1)
                if budget is None or slab_bytes(box, _slab(box, waiting[:number]), itemsize, masked) <= budget
            ),
            0,
        )
        if not count:
            return ()
        slabs.append(_slab(box, waiting[:count]))
        del waiting[:count]
    return tuple(slabs)


def slab_bytes(box: Stitching, slab: Slab, itemsize: int, masked: bool) -> int:
    """What the device holds while a slab is predicted, apart from the network and its tiles."""
    plane = math.prod(box.shape[1:])
    y, x = (part.stop - part.start for part in image_window(box)[1:])
    carried = box.tiles.tile[0] if slab.finished < box.box[0].stop or slab.low > box.box[0].start else 0
    planes = _FLOAT * plane * (slab.high - slab.low + carried) + int(masked) * plane * (slab.high - slab.low)
    piece = 10 * _FLOAT * plane * min(planes_of_piece(plane), slab.high - slab.low)  # in float64 and under way
    return int(planes + (slab.image[1] - slab.image[0]) * y * x * itemsize + piece)


def planes_of_piece(plane: int) -> int:
    """How many planes of so many voxels go to the host at a time."""
    return max(1, _PIECE_BYTES // (_FLOAT * plane))


def image_window(box: Stitching) -> tuple[slice, slice, slice]:
    """What the tiles that touch a box see, in the padded volume."""
    parts = []
    for part, starts, side in zip(box.box, box.tiles.starts, box.tiles.tile, strict=True):
        touching = [start for start in starts if start < part.stop and start + side > part.start]
        parts.append(slice(min(touching), max(touching) + side))
    return parts[0], parts[1], parts[2]


def _slab(box: Stitching, rows: Sequence[Row]) -> Slab:
    first, last, depth = rows[0].start, rows[-1].start, box.tiles.tile[0]
    low, high = max(first, box.box[0].start), min(last + depth, box.box[0].stop)
    return Slab(tuple(rows), low, high, (first, last + depth))
