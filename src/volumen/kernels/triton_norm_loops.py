"""Triton kernels for instance norm + leaky ReLU on channels-last activations: float32, bfloat16 or float16.

An activation is a matrix of rows (voxels) and columns (channels), sample after sample; rows may lie `stride` numbers
apart, so that a slice of wider rows is read or written in place. A program works on a block of rows and columns.

Statistics are taken in float32 by every lane of a block around the first number it meets, so that large means do not
cancel, and merged by Chan, Golub and LeVeque 1979: lanes in a program, programs in a second small kernel. Nothing is
added atomically: the same input gives the same bits. The two gradients are those of `norm_loops`.

Grids: (blocks of rows, blocks of columns, samples). Statistics lie in [2, samples, channels], parts of them in
[2, samples, chunks, channels].
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton.language as tl

from volumen.system.triton_trial import jitted


@jitted
def moments(
    values, parts, voxels, eps, stride: tl.constexpr, channels: tl.constexpr,
    tiles: tl.constexpr, block_rows: tl.constexpr, block_channels: tl.constexpr, alone: tl.constexpr,
):  # fmt: skip
    """Mean and squared deviations of each chunk of `tiles` blocks of rows; with `alone`, mean and 1 / deviation."""
    rows_each = tiles * block_rows
    chunk, sample = tl.program_id(0), tl.program_id(2)
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    first = chunk * rows_each
    count = tl.minimum(rows_each, voxels - first)
    source = values + (sample * voxels + first).to(tl.int64) * stride
    lanes = tl.arange(0, block_rows)
    inside = columns < channels
    valid = (lanes < count)[:, None] & inside[None, :]
    offsets = lanes[:, None] * stride + columns[None, :]
    start = tl.load(source + offsets, mask=valid, other=0).to(tl.float32)
    total = tl.zeros((block_rows, block_channels), dtype=tl.float32)
    squares = tl.zeros((block_rows, block_channels), dtype=tl.float32)
    for tile in range(1, tiles):
        row = tile * block_rows
        valid = (row + lanes < count)[:, None] & inside[None, :]
        value = tl.load(source + row * stride + offsets, mask=valid, other=0).to(tl.float32)
        deviation = tl.where(valid, value - start, 0.0)
        total += deviation
        squares += deviation * deviation
    numbers = tl.maximum((count - lanes + block_rows - 1) // block_rows, 0).to(tl.float32)[:, None]
    own = total / tl.maximum(numbers, 1.0)
    origin = tl.load(source + columns, mask=inside, other=0).to(tl.float32)
    own_mean = tl.where(numbers > 0, start - origin[None, :], 0.0) + own
    size = count.to(tl.float32)
    mean = tl.sum(own_mean * numbers, axis=0) / size
    apart = own_mean - mean[None, :]
    spread = tl.sum(tl.maximum(squares - total * own, 0.0) + numbers * apart * apart, axis=0)
    if alone:
        spread = 1 / tl.sqrt(spread / size + eps)
    samples, chunks = tl.num_programs(2), tl.num_programs(0)
    place = (sample * chunks + chunk) * channels + columns
    tl.store(parts + place, origin + mean, mask=inside)
    tl.store(parts + samples * chunks * channels + place, spread, mask=inside)


@jitted
def finish_moments(
    parts, stats, voxels, rows_each, chunks, eps,
    channels: tl.constexpr, block_chunks: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """Merge the moments of all chunks into mean and 1 / deviation; grid (blocks of columns, samples)."""
    sample, samples = tl.program_id(1), tl.num_programs(1)
    columns = tl.program_id(0) * block_channels + tl.arange(0, block_channels)
    rows = tl.arange(0, block_chunks)
    inside = columns < channels
    valid = (rows < chunks)[:, None] & inside[None, :]
    offsets = (sample * chunks + rows)[:, None] * channels + columns[None, :]
    origin = tl.load(parts + sample * chunks * channels + columns, mask=inside, other=0)
    means = tl.load(parts + offsets, mask=valid, other=0) - origin[None, :]
    spreads = tl.load(parts + samples * chunks * channels + offsets, mask=valid, other=0)
    counts = tl.maximum(tl.minimum(rows_each, voxels - rows * rows_each), 0).to(tl.float32)[:, None]
    size = voxels.to(tl.float32)
    mean = tl.sum(tl.where(valid, means * counts, 0.0), axis=0) / size
    apart = means - mean[None, :]
    spread = tl.sum(tl.where(valid, spreads + counts * apart * apart, 0.0), axis=0)
    place = sample * channels + columns
    tl.store(stats + place, origin + mean, mask=inside)
    tl.store(stats + samples * channels + place, 1 / tl.sqrt(spread / size + eps), mask=inside)


@jitted
def normalise(
    values, stats, weight, bias, side, out, voxels, slope,
    stride: tl.constexpr, side_stride: tl.constexpr, out_stride: tl.constexpr, channels: tl.constexpr,
    block_rows: tl.constexpr, block_channels: tl.constexpr,
    affine: tl.constexpr, added: tl.constexpr, activate: tl.constexpr,
):  # fmt: skip
    """out = leaky_relu((values - mean) * scale + shift + side); `out` may be `values` itself."""
    sample, samples = tl.program_id(2), tl.num_programs(2)
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    inside = columns < channels
    valid = (rows < voxels)[:, None] & inside[None, :]
    mean = tl.load(stats + sample * channels + columns, mask=inside, other=0)
    scale = tl.load(stats + (samples + sample) * channels + columns, mask=inside, other=0)
    lines = (sample.to(tl.int64) * voxels + rows)[:, None]
    value = tl.load(values + lines * stride + columns[None, :], mask=valid, other=0).to(tl.float32)
    if affine:
        scale = scale * tl.load(weight + columns, mask=inside, other=0).to(tl.float32)
        shift = tl.load(bias + columns, mask=inside, other=0).to(tl.float32)
        value = (value - mean[None, :]) * scale[None, :] + shift[None, :]
    else:
        value = (value - mean[None, :]) * scale[None, :]
    if added:
        value += tl.load(side + lines * side_stride + columns[None, :], mask=valid, other=0).to(tl.float32)
    if activate:
        value = tl.where(value > 0, value, value * slope)
    tl.store(out + lines * out_stride + columns[None, :], value.to(out.dtype.element_ty), mask=valid)


@jitted
def gradient_sums(
    arriving, kept, out, stats, weight, bias, side, parts,
    voxels, slope, stride: tl.constexpr, out_stride: tl.constexpr, channels: tl.constexpr,
    tiles: tl.constexpr, block_rows: tl.constexpr, block_channels: tl.constexpr,
    from_input: tl.constexpr, affine: tl.constexpr, added: tl.constexpr, activate: tl.constexpr,
):  # fmt: skip
    """sum(g) and sum(g * normal) of each chunk, g before the activation.

    `kept` is the output, or with `from_input` the input. With `added`, g's sign is the output's, and g is written to
    `side`.
    """
    chunk, sample = tl.program_id(0), tl.program_id(2)
    samples, chunks = tl.num_programs(2), tl.num_programs(0)
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    first, lanes = chunk * tiles * block_rows, tl.arange(0, block_rows)
    count = tl.minimum(tiles * block_rows, voxels - first)
    line = (sample * voxels + first).to(tl.int64)
    inside = columns < channels
    total = tl.zeros((block_rows, block_channels), dtype=tl.float32)
    product = total
    if from_input:
        mean = tl.load(stats + sample * channels + columns, mask=inside, other=0)[None, :]
        deviation = tl.load(stats + (samples + sample) * channels + columns, mask=inside, other=0)[None, :]
    if affine:
        scale = deviation * tl.load(weight + columns, mask=inside, other=0).to(tl.float32)[None, :]
        shift = tl.load(bias + columns, mask=inside, other=0).to(tl.float32)[None, :]
    for tile in range(tiles):
        row = tile * block_rows
        valid = (row + lanes < count)[:, None] & inside[None, :]
        places = (row + lanes)[:, None] * channels + columns[None, :]
        steps = (row + lanes)[:, None] * stride + columns[None, :]
        local = tl.load(arriving + line * stride + steps, mask=valid, other=0).to(tl.float32)
        value = tl.load(kept + line * channels + places, mask=valid, other=0).to(tl.float32)
        if from_input:
            centred = tl.where(valid, value - mean, 0.0)
            if activate:
                if added:
                    steps = (row + lanes)[:, None] * out_stride + columns[None, :]
                    sign = tl.load(out + line * out_stride + steps, mask=valid, other=0).to(tl.float32)
                elif affine:
                    sign = centred * scale + shift
                else:
                    sign = centred
                local = tl.where(sign > 0, local, local * slope)
            if added:
                tl.store(side + line * channels + places, local.to(side.dtype.element_ty), mask=valid)
            product += local * (centred * deviation)
        else:
            product += local * value  # the slope and its inverse cancel
            if activate:
                local = tl.where(value > 0, local, local * slope)
        total += local
    place = (sample * chunks + chunk) * channels + columns
    tl.store(parts + place, tl.sum(total, axis=0), mask=inside)
    tl.store(parts + samples * chunks * channels + place, tl.sum(product, axis=0), mask=inside)


@jitted
def finish_sums(
    parts, sums, chunks,
    channels: tl.constexpr, block_chunks: tl.constexpr, block_channels: tl.constexpr,
):  # fmt: skip
    """Add up the chunks of [lines, chunks, channels]; grid (blocks of columns, lines)."""
    line = tl.program_id(1)
    columns = tl.program_id(0) * block_channels + tl.arange(0, block_channels)
    rows = tl.arange(0, block_chunks)
    inside = columns < channels
    valid = (rows < chunks)[:, None] & inside[None, :]
    offsets = (line * chunks + rows)[:, None] * channels + columns[None, :]
    tl.store(sums + line * channels + columns, tl.sum(tl.load(parts + offsets, mask=valid, other=0), axis=0), inside)


@jitted
def gradient(
    arriving, kept, stats, weight, bias, sums, result, voxels, slope,
    stride: tl.constexpr, channels: tl.constexpr, block_rows: tl.constexpr, block_channels: tl.constexpr,
    from_input: tl.constexpr, affine: tl.constexpr, activate: tl.constexpr,
):  # fmt: skip
    """result = scale * (g - mean(g) - normal * mean(g * normal)); `kept` as in `gradient_sums`."""
    sample, samples = tl.program_id(2), tl.num_programs(2)
    columns = tl.program_id(1) * block_channels + tl.arange(0, block_channels)
    rows = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    inside = columns < channels
    valid = (rows < voxels)[:, None] & inside[None, :]
    lines = (sample.to(tl.int64) * voxels + rows)[:, None]
    second = (samples + sample) * channels + columns
    deviation = tl.load(stats + second, mask=inside, other=0)[None, :]
    mean_gradient = tl.load(sums + sample * channels + columns, mask=inside, other=0)[None, :] / voxels
    mean_product = tl.load(sums + second, mask=inside, other=0)[None, :] / voxels
    inverse = 1.0 / slope
    local = tl.load(arriving + lines * stride + columns[None, :], mask=valid, other=0).to(tl.float32)
    value = tl.load(kept + lines * channels + columns[None, :], mask=valid, other=0).to(tl.float32)
    scale = deviation
    if affine:
        scale = scale * tl.load(weight + columns, mask=inside, other=0).to(tl.float32)[None, :]
    if from_input:
        centred = value - tl.load(stats + sample * channels + columns, mask=inside, other=0)[None, :]
        normal = centred * deviation
        sign = centred
        if affine:
            sign = centred * scale + tl.load(bias + columns, mask=inside, other=0).to(tl.float32)[None, :]
    else:
        sign = value
        normal = value
        if activate:
            normal = tl.where(value > 0, value, value * inverse)
    if activate:
        local = tl.where(sign > 0, local, local * slope)
    answer = scale * (local - mean_gradient - normal * mean_product)
    tl.store(result + lines * channels + columns[None, :], answer.to(result.dtype.element_ty), mask=valid)
