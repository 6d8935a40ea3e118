"""Triton kernels of the pooling in `pooling_tensor`: an extreme over each voxel and its neighbours along some axes.

Volumes are contiguous [B, Z, Y, X]; a program does a block of voxels. Sums are taken in the order of `pooling_tensor`.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton.language as tl

from volumen.system.triton_trial import jitted


@jitted
def _better(best, values, inside, largest: tl.constexpr):
    value = tl.load(values, mask=inside, other=0)
    better = value > best if largest else value < best
    return tl.where(inside & (better | (value != value)), value, best)


@jitted
def _attained(count, values, inside, wanted):
    value = tl.load(values, mask=inside, other=0)
    return count + tl.where(inside & (value == wanted), 1, 0)


@jitted
def _received(total, pooled, share, inside, own):
    value = tl.load(pooled, mask=inside, other=0)
    given = tl.load(share, mask=inside, other=0)
    return total + tl.where(inside & (value == own), given, 0)


@jitted
def pool(
    source, out, voxels, depth, height, width,
    along_z: tl.constexpr, along_y: tl.constexpr, along_x: tl.constexpr, largest: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """The extreme value; NaN where there is one."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    valid = place < voxels
    x, y, z = place % width, place // width % height, place // width // height % depth
    best = tl.load(source + place, mask=valid, other=0)
    if along_z:
        best = _better(best, source + place + height * width, valid & (z + 1 < depth), largest)
        best = _better(best, source + place - height * width, valid & (z > 0), largest)
    if along_y:
        best = _better(best, source + place + width, valid & (y + 1 < height), largest)
        best = _better(best, source + place - width, valid & (y > 0), largest)
    if along_x:
        best = _better(best, source + place + 1, valid & (x + 1 < width), largest)
        best = _better(best, source + place - 1, valid & (x > 0), largest)
    tl.store(out + place, best, mask=valid)


@jitted
def share(
    source, pooled, arriving, out, voxels, depth, height, width,
    along_z: tl.constexpr, along_y: tl.constexpr, along_x: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Each pooled voxel's gradient over the number of sources that attain its value."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    valid = place < voxels
    x, y, z = place % width, place // width % height, place // width // height % depth
    wanted = tl.load(pooled + place, mask=valid, other=0)
    count = _attained(tl.zeros((block,), tl.int32), source + place, valid, wanted)
    if along_z:
        count = _attained(count, source + place + height * width, valid & (z + 1 < depth), wanted)
        count = _attained(count, source + place - height * width, valid & (z > 0), wanted)
    if along_y:
        count = _attained(count, source + place + width, valid & (y + 1 < height), wanted)
        count = _attained(count, source + place - width, valid & (y > 0), wanted)
    if along_x:
        count = _attained(count, source + place + 1, valid & (x + 1 < width), wanted)
        count = _attained(count, source + place - 1, valid & (x > 0), wanted)
    given = tl.load(arriving + place, mask=valid, other=0)
    tl.store(out + place, given / tl.maximum(count, 1).to(given.dtype), mask=valid)  # none where it is NaN


@jitted
def receive(
    source, pooled, share, out, voxels, depth, height, width,
    along_z: tl.constexpr, along_y: tl.constexpr, along_x: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Each source's gradient: the shares of all pooled voxels whose value it attains."""
    place = tl.program_id(0) * block + tl.arange(0, block)
    valid = place < voxels
    x, y, z = place % width, place // width % height, place // width // height % depth
    own = tl.load(source + place, mask=valid, other=0)
    total = _received(tl.zeros((block,), own.dtype), pooled + place, share + place, valid, own)
    if along_z:
        step = height * width
        total = _received(total, pooled + place + step, share + place + step, valid & (z + 1 < depth), own)
        total = _received(total, pooled + place - step, share + place - step, valid & (z > 0), own)
    if along_y:
        total = _received(total, pooled + place + width, share + place + width, valid & (y + 1 < height), own)
        total = _received(total, pooled + place - width, share + place - width, valid & (y > 0), own)
    if along_x:
        total = _received(total, pooled + place + 1, share + place + 1, valid & (x + 1 < width), own)
        total = _received(total, pooled + place - 1, share + place - 1, valid & (x > 0), own)
    tl.store(out + place, total, mask=valid)
