"""Where each voxel of a varied patch comes from: cut, quarter turns, flips and warp as one map, drawn on the host.

A voxel o of the patch is, before turns and flips, the voxel p = turn @ o + offset (whole numbers), and lies in the
region that was cut at p, or with a warp at begin + matrix @ p (float64, in the order of `augment.resample_affine`, so
that both round alike).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.data.augment import Shape, Variation, first_coordinate, turned


@dataclass(frozen=True)
class Grid:
    """The map of one sample."""

    patch: Shape
    region: Shape
    turn: NDArray[np.int64]
    """3 x 3, one 1 or -1 in each row and column."""
    offset: NDArray[np.int64]
    matrix: NDArray[np.float64] | None
    begin: NDArray[np.float64]
    """Where the patch's first voxel lies in the region."""


@dataclass(frozen=True)
class Field:
    """A volume on the device, of which a region is looked at."""

    volume: Tensor
    """[Z, Y, X], contiguous."""
    start: Shape
    """First voxel of the region in it; may be negative."""


@dataclass(frozen=True)
class Source:
    """What one sample is cut from."""

    image: Field
    """uint8, or int16 that holds the bits of uint16, with a `table`; or float32, normalised."""
    lesson: Field
    """Canonical codes, uint8."""
    table: Tensor | None
    """Normalised value by stored value, float32."""


_CORNERS = np.moveaxis(np.indices((2, 2, 2)), 0, -1)


def grid_of(variation: Variation, patch: Shape) -> Grid:
    """The map of a variation."""
    ends = np.array(patch) - 1
    corners = turned(_CORNERS * ends, variation)
    offset = corners[0, 0, 0]
    turn = (np.stack([corners[1, 0, 0], corners[0, 1, 0], corners[0, 0, 1]], axis=1) - offset[:, None]) // ends
    region, matrix = variation.region(patch), variation.matrix
    begin = np.zeros(3) if matrix is None else first_coordinate(matrix, region, patch)
    return Grid(patch, region, turn, offset, matrix, begin)


def numbers_of(grid: Grid, source: Source) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A grid and where it lies, as numbers: patch, turn, offset, region, then start and shape of image and lesson;
    matrix and begin.
    """
    places = [number for field in (source.image, source.lesson) for number in (*field.start, *field.volume.shape)]
    whole = np.array([*grid.patch, *grid.turn.ravel(), *grid.offset, *grid.region, *places], np.int64)
    matrix = np.eye(3) if grid.matrix is None else grid.matrix
    return whole, np.concatenate([matrix.ravel(), grid.begin])


def pinned(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array on its way to the device; the host does not wait, and may forget the array."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
