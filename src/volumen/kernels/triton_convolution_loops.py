"""The Triton kernels of `triton_convolution`: few channels, many voxels, channels last; imported where they run.

A tensor in channels last is a matrix of voxels by channels. A 3x3x3 convolution is then 27 products of shifted rows of
voxels with a small matrix each, and with 32 or 64 channels it is bound by how often a voxel is read, not by the
multiplications:

- `rows_kernel` reads each row nine times in place of 27: what it multiplies a voxel with for the three taps along x it
  sums apart, and shifts the three sums against each other once, at the end.
- `weights_kernel` gives the weight gradient of nine taps (dx, dy) by one product, for each dz.
- `first_kernel` and `first_weights_kernel` take one input channel, where 27 taps are the inner dimension.
- `last_kernel` and `last_backward_kernel` are the convolution of one voxel to one logit.

Sums are float32, and nothing is added atomically: the same input gives the same bits.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton.language as tl

from volumen.system.triton_trial import jitted


@jitted
def _moved(values, shift: tl.constexpr, lines: tl.constexpr, side: tl.constexpr, channels: tl.constexpr):
    """values[m + shift] within each line of `side` voxels, zero beyond its ends."""
    m = tl.arange(0, lines * side)
    x = m % side + shift
    there = (x >= 0) & (x < side)
    index = tl.broadcast_to(tl.where(there, m + shift, 0)[:, None], (lines * side, channels))
    return tl.where(there[:, None], tl.gather(values, index, 0), 0.0)


@jitted
def rows_kernel(
    image, weight, out, planes, height, width, line_tiles, tiles,
    inside: tl.constexpr, outside: tl.constexpr, block: tl.constexpr, lines: tl.constexpr, side: tl.constexpr,
    halo: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """`lines` lines of `side` voxels, of which the outermost are neighbours only where `halo` is 1.

    weight: [3, 3, 3, inside, outside].
    """
    program = tl.program_id(0)
    tile = program % tiles
    line_tile = program // tiles % line_tiles
    z = program // (tiles * line_tiles) % planes
    sample = program // (tiles * line_tiles * planes)
    m = tl.arange(0, lines * side)
    y = line_tile * lines + m // side
    x = tile * (side - 2 * halo) - halo + m % side
    outs = tl.arange(0, outside)
    in_line = (x >= 0) & (x < width)
    before = tl.zeros((lines * side, outside), dtype=tl.float32)
    here = tl.zeros((lines * side, outside), dtype=tl.float32)
    behind = tl.zeros((lines * side, outside), dtype=tl.float32)
    parts: tl.constexpr = inside // block
    for step in tl.range(0, 9 * parts, num_stages=stages):
        tap = step // parts
        channels = (step % parts) * block + tl.arange(0, block)
        plane = z + tap // 3 - 1
        line = y + tap % 3 - 1
        there = in_line & (plane >= 0) & (plane < planes) & (line >= 0) & (line < height)
        voxel = ((sample * planes + plane) * height + line) * width + x
        values = tl.load(image + voxel[:, None] * inside + channels[None, :], mask=there[:, None], other=0.0)
        taps = weight + (tap * 3 * inside + channels)[:, None] * outside + outs[None, :]
        before = tl.dot(values, tl.load(taps), before)
        here = tl.dot(values, tl.load(taps + inside * outside), here)
        behind = tl.dot(values, tl.load(taps + 2 * inside * outside), behind)
    total = here + _moved(before, -1, lines, side, outside) + _moved(behind, 1, lines, side, outside)
    own = in_line & (m % side >= halo) & (m % side < side - halo) & (y < height)
    voxel = ((sample * planes + z) * height + y) * width + x
    tl.store(out + voxel[:, None] * outside + outs[None, :], total.to(out.dtype.element_ty), mask=own[:, None])


@jitted
def weights_kernel(
    image, gradient, partial, planes, height, width, all_lines, segments,
    turns: tl.constexpr, inside: tl.constexpr, outside: tl.constexpr, block: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """Sums over some lines of the image, for one dz: partial [program, dz, 4 (dx) x inside, 4 (dy) x outside]."""
    dz = tl.program_id(1)
    column = tl.arange(0, 4 * inside)
    dx = column // inside
    other = tl.arange(0, 4 * outside)
    dy = other // outside
    total = tl.zeros((4 * inside, 4 * outside), dtype=tl.float32)
    for turn in tl.range(0, turns, num_stages=stages):
        step = tl.program_id(0) * turns + turn
        line = step // segments  # of the image, in all samples and planes
        x = (step % segments) * block + tl.arange(0, block)  # of the gradient
        in_line = (x < width) & (line < all_lines)
        from_x = x[:, None] + dx[None, :] - 1
        seen = in_line[:, None] & (from_x >= 0) & (from_x < width) & (dx < 3)[None, :]
        values = tl.load(image + (line * width + from_x) * inside + (column % inside)[None, :], mask=seen, other=0.0)
        y = line % height - dy + 1
        z = line // height % planes - dz + 1
        there = (y >= 0) & (y < height) & (dy < 3) & (z >= 0) & (z < planes)
        voxel = ((line // (height * planes) * planes + z) * height + y)[None, :] * width + x[:, None]
        arriving = tl.load(
            gradient + voxel * outside + (other % outside)[None, :], mask=there[None, :] & in_line[:, None], other=0.0
        )
        total = tl.dot(tl.trans(values), arriving, total)
    at = (tl.program_id(0) * 3 + dz) * (16 * inside * outside)
    tl.store(partial + at + column[:, None] * (4 * outside) + other[None, :], total)


@jitted
def _seen(m, tap, planes, height, width, voxels):
    """Whether the tap of a voxel lies in the volume; m and tap are broadcast against each other."""
    x = m % width + tap % 3 - 1
    y = m // width % height + tap // 3 % 3 - 1
    z = m // (width * height) % planes + tap // 9 - 1
    there = (z >= 0) & (z < planes) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return there & (tap < 27) & (m < voxels)


@jitted
def first_kernel(
    image, weight, out, planes, height, width, voxels,
    outside: tl.constexpr, block: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """`block` voxels of a convolution of one channel; weight [32 (27 taps), outside]."""
    m = (tl.program_id(0) * block + tl.arange(0, block))[:, None]
    tap = tl.arange(0, 32)
    outs = tl.arange(0, outside)[None, :]
    offset = ((tap // 9 - 1) * height + tap // 3 % 3 - 1) * width + tap % 3 - 1
    there = _seen(m, tap[None, :], planes, height, width, voxels)
    values = tl.load(image + m + offset[None, :], mask=there, other=0.0)
    taps = tl.load(weight + tap[:, None] * outside + outs)
    total = tl.dot(values, taps, input_precision="ieee" if exact else "tf32")
    tl.store(out + m * outside + outs, total.to(out.dtype.element_ty), mask=m < voxels)


@jitted
def first_weights_kernel(
    image, gradient, partial, planes, height, width, voxels,
    turns: tl.constexpr, outside: tl.constexpr, block: tl.constexpr, exact: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """Sums over `turns` blocks of voxels: partial [program, 32 (27 taps), outside]."""
    tap = tl.arange(0, 32)
    outs = tl.arange(0, outside)[None, :]
    offset = ((tap // 9 - 1) * height + tap // 3 % 3 - 1) * width + tap % 3 - 1
    total = tl.zeros((32, outside), dtype=tl.float32)
    for turn in tl.range(0, turns, num_stages=stages):
        m = (tl.program_id(0) * turns + turn) * block + tl.arange(0, block)
        there = _seen(m[None, :], tap[:, None], planes, height, width, voxels)
        values = tl.load(image + m[None, :] + offset[:, None], mask=there, other=0.0)
        arriving = tl.load(gradient + m[:, None] * outside + outs, mask=(m < voxels)[:, None], other=0.0)
        total = tl.dot(values, arriving, total, input_precision="ieee" if exact else "tf32")
    at = tl.program_id(0) * (32 * outside)
    tl.store(partial + at + tap[:, None] * outside + outs, total)


@jitted
def last_kernel(
    image, weight, bias, out, voxels,
    channels: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """`block` voxels of a convolution of one voxel to one logit."""
    m = tl.program_id(0) * block + tl.arange(0, block)
    c = tl.arange(0, padded)
    there = (m < voxels)[:, None] & (c < channels)[None, :]
    values = tl.load(image + m[:, None] * channels + c[None, :], mask=there, other=0.0).to(tl.float32)
    factors = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)
    total = tl.sum(values * factors[None, :], axis=1) + tl.load(bias).to(tl.float32)
    tl.store(out + m, total.to(out.dtype.element_ty), mask=m < voxels)


@jitted
def last_backward_kernel(
    image, weight, gradient, result, partial, voxels,
    turns: tl.constexpr, channels: tl.constexpr, padded: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The image's gradient, and partial [program, padded + 1]: sums for the weight, and at last for the bias."""
    c = tl.arange(0, padded)
    factors = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32)
    total = tl.zeros((padded,), dtype=tl.float32)
    shift = tl.zeros((block,), dtype=tl.float32)
    for turn in range(turns):
        m = (tl.program_id(0) * turns + turn) * block + tl.arange(0, block)
        there = (m < voxels)[:, None] & (c < channels)[None, :]
        values = tl.load(image + m[:, None] * channels + c[None, :], mask=there, other=0.0).to(tl.float32)
        arriving = tl.load(gradient + m, mask=m < voxels, other=0.0).to(tl.float32)
        total += tl.sum(values * arriving[:, None], axis=0)
        shift += arriving
        back = arriving[:, None] * factors[None, :]
        tl.store(result + m[:, None] * channels + c[None, :], back.to(result.dtype.element_ty), mask=there)
    at = tl.program_id(0) * (padded + 1)
    tl.store(partial + at + c, total)
    tl.store(partial + at + padded, tl.sum(shift, axis=0))
