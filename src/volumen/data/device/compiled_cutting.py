"""Cut a varied patch in one pass on a CUDA device: `cutting.cut_into` as a Triton kernel.

A thread makes a voxel: it finds where the voxel comes from, reads the stored volume there (eight voxels of it under a
warp), normalises by the table, and writes image, target and validity. Coordinates are float64, and nothing is fused, so
that they round as on the host. All numbers of a sample come from memory: as arguments each would compile anew.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from volumen.data.augment import STILL
from volumen.data.device.cutting import SLACK
from volumen.data.device.grid import Field, Grid, Source, grid_of, numbers_of, pinned
from volumen.data.labels import IGNORE, SURFACE
from volumen.system.triton_trial import jitted

BLOCK = 512
TRIED_SIDE = 8
FLOATS, BYTES, SHORTS = 0, 1, 2


def cut_compiled(
    source: Source, grid: Grid, whole: Tensor, real: Tensor, image: Tensor, target: Tensor, valid: Tensor
) -> None:
    """As `cutting.cut_into`; `whole` and `real` are `grid.numbers_of`, on the device."""
    volume, voxels = source.image.volume, image.numel()
    kind = FLOATS if source.table is None else BYTES if volume.dtype == torch.uint8 else SHORTS
    _cut[(triton.cdiv(voxels, BLOCK),)](
        volume,
        source.lesson.volume,
        volume if source.table is None else source.table,
        whole,
        real,
        image,
        target,
        valid.view(torch.uint8),
        voxels,
        WARPED=grid.matrix is not None,
        KIND=kind,
        SURFACE=SURFACE,
        IGNORE=IGNORE,
        SLACK=SLACK,
        BLOCK=BLOCK,
        enable_fp_fusion=False,
    )


def try_kernel(device: torch.device) -> None:
    """Cut a small patch.

    Raises:
        RuntimeError: It is another. Triton's own errors, and those of what it needs, besides.
    """
    patch = (TRIED_SIDE,) * 3
    image = torch.arange(TRIED_SIDE**3, device=device, dtype=torch.float32).view(patch)
    target, made = torch.zeros(patch, dtype=torch.uint8, device=device), torch.zeros_like(image)
    source, grid = Source(Field(image, (0, 0, 0)), Field(target, (0, 0, 0)), None), grid_of(STILL, patch)
    whole, real = (pinned(numbers, device) for numbers in numbers_of(grid, source))
    cut_compiled(source, grid, whole, real, made, target.clone(), target.to(torch.bool))
    if not torch.equal(made, image):
        raise RuntimeError("a small patch came out wrong")


@jitted
def _place(z, y, x, numbers):  # type: ignore[no-untyped-def]
    """Place in a volume of whole coordinates in the region; beyond the border the nearest voxel."""
    depth, height, width = tl.load(numbers + 3), tl.load(numbers + 4), tl.load(numbers + 5)
    z = tl.minimum(tl.maximum(z + tl.load(numbers), 0), depth - 1)
    y = tl.minimum(tl.maximum(y + tl.load(numbers + 1), 0), height - 1)
    x = tl.minimum(tl.maximum(x + tl.load(numbers + 2), 0), width - 1)
    return (z * height + y) * width + x


@jitted
def _value(z, y, x, image, table, numbers, within, KIND: tl.constexpr):  # type: ignore[no-untyped-def]
    """Normalised grey value."""
    raw = tl.load(image + _place(z, y, x, numbers), mask=within, other=0)
    if KIND == 0:
        value = raw
    elif KIND == 1:
        value = tl.load(table + raw.to(tl.int32), mask=within, other=0.0)
    else:
        value = tl.load(table + (raw.to(tl.int32) & 0xFFFF), mask=within, other=0.0)
    return value


@jitted
def _code(z, y, x, lesson, numbers, within, IGNORE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Code at whole coordinates in the region; beyond the border ignore."""
    a, b, c = z + tl.load(numbers), y + tl.load(numbers + 1), x + tl.load(numbers + 2)
    held = (a >= 0) & (b >= 0) & (c >= 0)
    held = held & (a < tl.load(numbers + 3)) & (b < tl.load(numbers + 4)) & (c < tl.load(numbers + 5))
    code = tl.load(lesson + _place(z, y, x, numbers), mask=within, other=0).to(tl.int32)
    return tl.where(held, code, IGNORE)


@jitted
def _cut(  # type: ignore[no-untyped-def]
    image, lesson, table, whole, real, out, target, valid, voxels,
    WARPED: tl.constexpr, KIND: tl.constexpr, SURFACE: tl.constexpr, IGNORE: tl.constexpr, SLACK: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    within = at < voxels
    height, width = tl.load(whole + 1).to(tl.int32), tl.load(whole + 2).to(tl.int32)
    i, j, k = (at // width) // height, (at // width) % height, at % width
    turn, offset, region, images, lessons = whole + 3, whole + 12, whole + 15, whole + 18, whole + 24
    a = tl.load(turn) * i + tl.load(turn + 1) * j + tl.load(turn + 2) * k + tl.load(offset)
    b = tl.load(turn + 3) * i + tl.load(turn + 4) * j + tl.load(turn + 5) * k + tl.load(offset + 1)
    c = tl.load(turn + 6) * i + tl.load(turn + 7) * j + tl.load(turn + 8) * k + tl.load(offset + 2)
    if WARPED:
        p, q, r = a.to(tl.float64), b.to(tl.float64), c.to(tl.float64)
        z = tl.load(real + 9) + tl.load(real) * p + tl.load(real + 1) * q + tl.load(real + 2) * r
        y = tl.load(real + 10) + tl.load(real + 3) * p + tl.load(real + 4) * q + tl.load(real + 5) * r
        x = tl.load(real + 11) + tl.load(real + 6) * p + tl.load(real + 7) * q + tl.load(real + 8) * r
        last_z, last_y, last_x = tl.load(region) - 1, tl.load(region + 1) - 1, tl.load(region + 2) - 1
        end_z, end_y, end_x = last_z.to(tl.float64), last_y.to(tl.float64), last_x.to(tl.float64)
        inside = (z >= -SLACK) & (y >= -SLACK) & (x >= -SLACK)
        inside = inside & (z <= end_z + SLACK) & (y <= end_y + SLACK) & (x <= end_x + SLACK)
        z = tl.minimum(tl.maximum(z, 0.0), end_z)
        y = tl.minimum(tl.maximum(y, 0.0), end_y)
        x = tl.minimum(tl.maximum(x, 0.0), end_x)
        z0, y0, x0 = z.to(tl.int64), y.to(tl.int64), x.to(tl.int64)
        z1, y1, x1 = tl.minimum(z0 + 1, last_z), tl.minimum(y0 + 1, last_y), tl.minimum(x0 + 1, last_x)
        fz = (z - z0.to(tl.float64)).to(tl.float32)
        fy = (y - y0.to(tl.float64)).to(tl.float32)
        fx = (x - x0.to(tl.float64)).to(tl.float32)
        low = _value(z0, y0, x0, image, table, images, within, KIND)
        one = low + fx * (_value(z0, y0, x1, image, table, images, within, KIND) - low)
        low = _value(z0, y1, x0, image, table, images, within, KIND)
        two = low + fx * (_value(z0, y1, x1, image, table, images, within, KIND) - low)
        near = one + fy * (two - one)
        low = _value(z1, y0, x0, image, table, images, within, KIND)
        one = low + fx * (_value(z1, y0, x1, image, table, images, within, KIND) - low)
        low = _value(z1, y1, x0, image, table, images, within, KIND)
        two = low + fx * (_value(z1, y1, x1, image, table, images, within, KIND) - low)
        far = one + fy * (two - one)
        value = near + fz * (far - near)
        z2, y2, x2 = (z + 0.5).to(tl.int64), (y + 0.5).to(tl.int64), (x + 0.5).to(tl.int64)
        code = _code(z2, y2, x2, lesson, lessons, within, IGNORE)
        code = tl.where(inside, code, IGNORE)
    else:
        value = _value(a, b, c, image, table, images, within, KIND)
        code = _code(a, b, c, lesson, lessons, within, IGNORE)
    tl.store(out + at, value, mask=within)
    tl.store(target + at, (code == SURFACE).to(tl.uint8), mask=within)
    tl.store(valid + at, (code != IGNORE).to(tl.uint8), mask=within)
