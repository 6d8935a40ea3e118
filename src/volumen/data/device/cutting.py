"""Cut a varied patch out of volumes: the reference by PyTorch's operations, on any device.

`compiled_cutting` does the same in one pass; a plain cut has the same bits, and so have all where nothing fuses a
multiplication with an addition.
"""

import torch
from torch import Tensor

from volumen.data.device.grid import Field, Grid, Source
from volumen.data.labels import IGNORE, SURFACE

CHUNK_VOXELS = 2**21
SLACK = 1e-6
"""Coordinates that should be whole are not, by rounding; as in `augment.resample_affine`."""


def cut_into(source: Source, grid: Grid, image: Tensor, target: Tensor, valid: Tensor) -> None:
    """Write a patch, normalised, before its grey values are varied.

    Args:
        source: The volumes.
        grid: Where each voxel comes from.
        image: float32 [Z, Y, X].
        target: uint8 [Z, Y, X], 1 on surface.
        valid: bool [Z, Y, X], False where ignored or outside of the volume.
    """
    planes = max(CHUNK_VOXELS // (grid.patch[1] * grid.patch[2]), 1)
    for first in range(0, grid.patch[0], planes):
        part = slice(first, min(first + planes, grid.patch[0]))
        before = _before_turns(grid, part, image.device)
        if grid.matrix is None:
            image[part] = _values(source, before)
            codes = _codes(source.lesson, before)
        else:
            where = _warped(grid, before)
            image[part] = _between(source, grid, where)
            codes = _nearest(source.lesson, grid, where)
        target[part] = codes == SURFACE
        valid[part] = codes != IGNORE


def _before_turns(grid: Grid, part: slice, device: torch.device) -> list[Tensor]:
    """Coordinates before turns and flips, int64; each varies along one axis only."""
    sides = (range(part.start, part.stop), range(grid.patch[1]), range(grid.patch[2]))
    found = []
    for row, offset in zip(grid.turn.tolist(), grid.offset.tolist(), strict=True):
        axis = next(one for one, step in enumerate(row) if step)
        steps = torch.arange(sides[axis].start, sides[axis].stop, device=device) * row[axis] + offset
        found.append(steps.view([-1 if one == axis else 1 for one in range(3)]))
    return found


def _warped(grid: Grid, before: list[Tensor]) -> list[Tensor]:
    """Coordinates in the region, float64."""
    assert grid.matrix is not None
    i, j, k = (each.to(torch.float64) for each in before)
    rows = zip(grid.matrix.tolist(), grid.begin.tolist(), strict=True)
    return [begin + row[0] * i + row[1] * j + row[2] * k for row, begin in rows]


def _flat(field: Field, where: list[Tensor]) -> Tensor:
    """Places in a field's volume of coordinates in the region; beyond the border the nearest voxel."""
    sides = field.volume.shape
    z, y, x = ((each + first).clamp(0, side - 1) for each, first, side in zip(where, field.start, sides, strict=True))
    return (z * sides[1] + y) * sides[2] + x


def _values(source: Source, where: list[Tensor]) -> Tensor:
    """Normalised grey values at whole coordinates in the region."""
    volume = source.image.volume
    raw = volume.view(-1)[_flat(source.image, where)]
    if source.table is None:
        return raw
    return source.table[raw.to(torch.int32) & 0xFFFF]


def _codes(lesson: Field, where: list[Tensor]) -> Tensor:
    """Codes at whole coordinates in the region; beyond the border ignore."""
    outside = torch.zeros((), dtype=torch.bool, device=lesson.volume.device)
    for each, first, side in zip(where, lesson.start, lesson.volume.shape, strict=True):
        outside = outside | (each + first < 0) | (each + first >= side)
    return lesson.volume.view(-1)[_flat(lesson, where)].masked_fill(outside, IGNORE)


def _inside(grid: Grid, where: list[Tensor]) -> list[Tensor]:
    """Coordinates held inside the region."""
    return [each.clamp(0.0, side - 1.0) for each, side in zip(where, grid.region, strict=True)]


def _between(source: Source, grid: Grid, where: list[Tensor]) -> Tensor:
    """Trilinear interpolation, in float32."""
    where = _inside(grid, where)
    low = [each.to(torch.int64) for each in where]
    high = [(each + 1).clamp(max=side - 1) for each, side in zip(low, grid.region, strict=True)]
    fz, fy, fx = ((each - whole).to(torch.float32) for each, whole in zip(where, low, strict=True))
    planes = []
    for z in (low[0], high[0]):
        rows = []
        for y in (low[1], high[1]):
            a, b = _values(source, [z, y, low[2]]), _values(source, [z, y, high[2]])
            rows.append(a + fx * (b - a))
        planes.append(rows[0] + fy * (rows[1] - rows[0]))
    return planes[0] + fz * (planes[1] - planes[0])


def _nearest(lesson: Field, grid: Grid, where: list[Tensor]) -> Tensor:
    """The nearest voxel's code; beyond the region ignore."""
    outside = torch.zeros((), dtype=torch.bool, device=lesson.volume.device)
    for each, side in zip(where, grid.region, strict=True):
        outside = outside | (each < -SLACK) | (each > side - 1 + SLACK)
    nearest = [(each + 0.5).to(torch.int64) for each in _inside(grid, where)]
    return _codes(lesson, nearest).masked_fill(outside, IGNORE)
