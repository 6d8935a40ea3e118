"""Put tiles back together into a volume or a part of one, in memory or in a file that the system pages in and out."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volumen.data.packed import Region
from volumen.errors import UserError
from volumen.inference.tiles import CoverageError, Tiles, Triple


class Stitching:
    """Which tiles of a volume, or of a box of it, are waited for, and where each lies in the box.

    Args:
        tiles: The plan of the whole volume.
        region: The box that is wanted; tiles that do not touch it are not waited for. None: all of the volume.

    Raises:
        UserError: A region that does not lie in the volume.
        CoverageError: The plan leaves a voxel out.
    """

    def __init__(self, tiles: Tiles, region: Region | None = None) -> None:
        self.tiles = tiles
        self.coverage = tiles.coverage
        self.box = _padded_box(tiles, region)
        """In the coordinates of the padded volume."""
        self._waiting = {origin: None for origin in tiles.origins if self._touches(origin)}  # a dict keeps the order

    def __len__(self) -> int:
        """How many tiles have not come in."""
        return len(self._waiting)

    def __contains__(self, origin: Triple) -> bool:
        """Whether a tile has not come in."""
        return origin in self._waiting

    @property
    def shape(self) -> Triple:
        """Of the box, z y x."""
        z, y, x = (part.stop - part.start for part in self.box)
        return z, y, x

    @property
    def waiting(self) -> tuple[Triple, ...]:
        """Origins of the tiles that have not come in, in the order of the plan."""
        return tuple(self._waiting)

    def skip(self, origin: Triple) -> None:
        """Count a tile as done that adds nothing; whoever skips it fills in its voxels afterwards.

        Raises:
            CoverageError: It came before, was never planned, or does not touch the region.
        """
        if origin not in self._waiting:
            raise CoverageError(f"the tile at {origin} came twice or was never planned")
        del self._waiting[origin]

    def check_complete(self) -> None:
        """Every tile came in.

        Raises:
            CoverageError: A tile is missing.
        """
        if self._waiting:
            first = next(iter(self._waiting))
            raise CoverageError(
                f"{len(self._waiting)} of {len(self.tiles)} tiles are missing, the one at {first} first"
            )

    def overlap(self, origin: Triple) -> tuple[Region, Region]:
        """Where a tile and the box meet: in the tile, and in the box."""
        inner, outer = [], []
        for start, side, part in zip(origin, self.tiles.tile, self.box, strict=True):
            low, high = max(start, part.start), min(start + side, part.stop)
            inner.append(slice(low - start, high - start))
            outer.append(slice(low - part.start, high - part.start))
        return (inner[0], inner[1], inner[2]), (outer[0], outer[1], outer[2])

    def _touches(self, origin: Triple) -> bool:
        spans = zip(origin, self.tiles.tile, self.box, strict=True)
        return all(start < part.stop and start + side > part.start for start, side, part in spans)


class Accumulator(Stitching):
    """The weighted sum of tiles that have come in so far, in the host's memory.

    Args:
        tiles: The plan of the whole volume.
        region: The box that is wanted; tiles that do not touch it are not waited for. None: all of the volume.
        scratch: Folder for a file that holds the sum, for volumes larger than memory.

    Raises:
        UserError: A region that does not lie in the volume, or no room in the scratch folder.
        CoverageError: The plan leaves a voxel out.
    """

    def __init__(self, tiles: Tiles, region: Region | None = None, scratch: Path | None = None) -> None:
        super().__init__(tiles, region)
        z, y, x = tiles.axis_weights
        self._weights = z[:, None, None] * y[:, None] * x
        self._sum = np.zeros(self.shape, np.float32) if scratch is None else file_array(scratch, self.shape)

    def add(self, origin: Triple, values: NDArray[np.float32]) -> None:
        """Blend in one tile: values [Z, Y, X] of the tile's shape, or what broadcasts to them.

        Raises:
            CoverageError: It came before, was never planned, or does not touch the region.
        """
        self.skip(origin)
        inner, outer = self.overlap(origin)
        full = np.broadcast_to(values, self.tiles.tile)
        self._sum[outer] += self._weights[inner] * full[inner]

    def finish(self) -> NDArray[np.float32]:
        """The blended box, float32 [Z, Y, X], without the volume's padding; a view of the file where there is one.

        Raises:
            CoverageError: A tile is missing.
        """
        self.check_complete()
        z, y, x = (total[part] for total, part in zip(self.coverage, self.box, strict=True))
        plane = y[:, None] * x
        for index, total in enumerate(z):  # slice by slice: no second volume
            self._sum[index] /= plane * total
        return self._sum


def merge(tiles: Tiles, parts: Iterable[tuple[Triple, NDArray[np.float32]]]) -> NDArray[np.float32]:
    """Blend what was computed on each tile into one volume, float32 [Z, Y, X] without the padding, by importance.

    Args:
        tiles: The plan.
        parts: Each tile's origin and values [Z, Y, X] (or what broadcasts to them), in any order; one needs to exist.

    Raises:
        CoverageError: A tile is missing, comes twice or was never planned, or a voxel lies in no tile.
    """
    whole = Accumulator(tiles)
    for origin, values in parts:
        whole.add(origin, values)
    return whole.finish()


def region_of(shape: tuple[int, ...], region: Region | None) -> Region:
    """The box with its numbers filled in; the whole volume for None.

    Raises:
        UserError: Not a box with at least one voxel inside of the volume.
    """
    z, y, x = (slice(0, side) for side in shape)
    if region is None:
        return z, y, x
    full = [
        slice(part.start or 0, side if part.stop is None else part.stop)
        for part, side in zip(region, shape, strict=True)
    ]
    if any(part.step not in (None, 1) for part in region) or any(
        not 0 <= part.start < part.stop <= side for part, side in zip(full, shape, strict=True)
    ):
        said = ", ".join(f"{part.start}:{part.stop}" for part in full)
        raise UserError(
            f"the region {said} does not lie in the volume of {list(shape)}: give z0:z1,y0:y1,x0:x1 inside it"
        )
    return full[0], full[1], full[2]


def _padded_box(tiles: Tiles, region: Region | None) -> Region:
    """The region in the coordinates of the padded volume."""
    parts = zip(region_of(tiles.shape, region), tiles.padding, strict=True)
    z, y, x = (slice(part.start + before, part.stop + before) for part, (before, _) in parts)
    return z, y, x


def file_array(folder: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros float32 in a file that nobody sees and that is gone with the array.

    Raises:
        UserError: No room in the folder.
    """
    size = 4 * int(np.prod(shape))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a fault at some later write
            return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
    except OSError as error:
        raise UserError(
            f"{folder} has no room for {size / 1e9:.1f} GB of intermediate results ({error.strerror}): make room, "
            "or give another folder"
        ) from error
