"""Triton kernels for what lies between the levels of a U-Net, on channels-last activations: pooling and joining.

An activation is a matrix of rows (voxels of all samples) and columns (channels), its rows `stride` numbers apart. Sizes
are those of the smaller side; the larger has twice as many voxels in every axis. Grids: (blocks of rows, blocks of
columns).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton.language as tl

from volumen.system.triton_trial import jitted


@jitted
def pool(
    values, out, places, rows, height, width, stride: tl.constexpr, channels: tl.constexpr,
    block_rows: tl.constexpr, block_channels: tl.constexpr, largest: tl.constexpr,
):  # fmt: skip
    """The largest of 2x2x2 voxels and in `places` (uint8) which of them it was, the first of equals; or their mean."""
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    lines = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    valid = (lines < rows)[:, None] & (columns < channels)[None, :]
    corner = ((lines // width // height * 2) * (2 * height) + lines // width % height * 2).to(tl.int64)
    source = values + ((corner * (2 * width) + lines % width * 2) * stride)[:, None] + columns[None, :]
    best = tl.full((block_rows, block_channels), -float("inf"), dtype=tl.float32)
    total = tl.zeros((block_rows, block_channels), dtype=tl.float32)
    place = tl.zeros((block_rows, block_channels), dtype=tl.int32)
    for tap in tl.static_range(8):
        step = ((tap // 4 * 2 * height + tap // 2 % 2) * 2 * width + tap % 2) * stride
        value = tl.load(source + step, mask=valid, other=0).to(tl.float32)
        if largest:
            better = (value > best) | (value != value)
            best = tl.where(better, value, best)
            place = tl.where(better, tap, place)
        else:
            total += value
    target = lines.to(tl.int64)[:, None] * channels + columns[None, :]
    if largest:
        tl.store(places + target, place.to(tl.uint8), mask=valid)
        tl.store(out + target, best.to(out.dtype.element_ty), mask=valid)
    else:
        tl.store(out + target, (total * 0.125).to(out.dtype.element_ty), mask=valid)


@jitted
def unpool(
    arriving, places, side, result, rows, height, width,
    stride: tl.constexpr, side_stride: tl.constexpr, channels: tl.constexpr,
    block_rows: tl.constexpr, block_channels: tl.constexpr, largest: tl.constexpr, added: tl.constexpr,
):  # fmt: skip
    """Gradient of `pool`, plus `side`, which arrives at the larger activation from elsewhere."""
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    lines = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    valid = (lines < rows)[:, None] & (columns < channels)[None, :]
    corner = ((lines // width // height * 2) * (2 * height) + lines // width % height * 2).to(tl.int64)
    corner = (corner * (2 * width) + lines % width * 2)[:, None]
    line = lines.to(tl.int64)[:, None]
    value = tl.load(arriving + line * stride + columns[None, :], mask=valid, other=0).to(tl.float32)
    if largest:
        place = tl.load(places + line * channels + columns[None, :], mask=valid, other=0).to(tl.int32)
    else:
        value = value * 0.125
    for tap in tl.static_range(8):
        step = (tap // 4 * 2 * height + tap // 2 % 2) * 2 * width + tap % 2
        share = value
        if largest:
            share = tl.where(place == tap, value, 0.0)
        if added:
            beside = side + (corner + step) * side_stride + columns[None, :]
            share += tl.load(beside, mask=valid, other=0).to(tl.float32)
        target = result + (corner + step) * channels + columns[None, :]
        tl.store(target, share.to(result.dtype.element_ty), mask=valid)


@jitted
def copy_rows(
    values, bias, out, rows, stride: tl.constexpr, out_stride: tl.constexpr, offset: tl.constexpr,
    channels: tl.constexpr, block_rows: tl.constexpr, block_channels: tl.constexpr, biased: tl.constexpr,
):  # fmt: skip
    """Write rows, plus `bias`, into the columns of wider rows that begin at `offset`."""
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    lines = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    inside = columns < channels
    valid = (lines < rows)[:, None] & inside[None, :]
    line = lines.to(tl.int64)[:, None]
    value = tl.load(values + line * stride + columns[None, :], mask=valid, other=0)
    if biased:
        value = value.to(tl.float32) + tl.load(bias + columns, mask=inside, other=0).to(tl.float32)[None, :]
    tl.store(out + line * out_stride + (offset + columns)[None, :], value.to(out.dtype.element_ty), mask=valid)


@jitted
def take_rows(
    values, out, parts, rows, stride: tl.constexpr, channels: tl.constexpr,
    tiles: tl.constexpr, block_rows: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """Copy the first columns of wider rows, and add up each chunk of `tiles` blocks of rows into `parts`."""
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    first = tl.program_id(0).to(tl.int64) * (tiles * block_rows)
    count = rows - first
    lanes = tl.arange(0, block_rows)
    inside = columns < channels
    total = tl.zeros((block_rows, block_channels), dtype=tl.float32)
    for tile in range(tiles):
        line = tile * block_rows + lanes
        valid = (line < count)[:, None] & inside[None, :]
        source = values + first * stride + line[:, None] * stride + columns[None, :]
        value = tl.load(source, mask=valid, other=0)
        tl.store(out + first * channels + line[:, None] * channels + columns[None, :], value, mask=valid)
        total += value.to(tl.float32)
    tl.store(parts + tl.program_id(0) * channels + columns, tl.sum(total, axis=0), mask=inside)
