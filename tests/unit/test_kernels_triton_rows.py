"""Laws of how activations are cut into programs, and of what lies in rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from volumen.kernels.triton_rows import Tiles, empty_rows, in_rows, plan, row_stride, uses_triton

LAST = torch.channels_last_3d
sides = st.integers(1, 4)
shapes = st.tuples(sides, sides, sides, sides, sides)


@given(
    st.integers(1, 8), st.integers(1, 1100), st.integers(1, 2**27), st.integers(1, 200),
    st.builds(Tiles, reduce=st.sampled_from([32, 4096]), alone=st.sampled_from([0, 2048])),
)  # fmt: skip
def test_every_number_is_in_one_program(samples, channels, voxels, processors, tiles):
    cut = plan(samples, channels, voxels, processors, tiles)
    assert cut.rows_each == cut.reduce_block["tiles"] * cut.reduce_block["block_rows"]
    assert (cut.chunks - 1) * cut.rows_each < voxels <= cut.chunks * cut.rows_each
    assert cut.chunks <= cut.finish_block["block_chunks"] <= 512
    for grid, block in ((cut.reduce_grid, cut.reduce_block), (cut.apply_grid, cut.apply_block)):
        width = block["block_channels"]
        assert (grid[1] - 1) * width < channels <= grid[1] * width
        assert grid[1] < 2**16
        assert grid[2] == samples
    rows = cut.apply_block["block_rows"]
    assert (cut.apply_grid[0] - 1) * rows < voxels <= cut.apply_grid[0] * rows
    assert (cut.finish_grid[0] - 1) * cut.finish_block["block_channels"] < channels
    assert channels <= cut.finish_grid[0] * cut.finish_block["block_channels"]
    for size in (*cut.reduce_block.values(), *cut.apply_block.values(), *cut.finish_block.values()):
        assert size & (size - 1) == 0  # as Triton wants it


@given(shapes, sides, sides, st.sampled_from(["last", "first", "slice", "cut", "spread"]))
def test_rows_are_seen_where_they_lie(shape, before, after, layout):
    values = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
    if layout == "slice":
        wide = torch.zeros(shape[0], before + shape[1] + after, *shape[2:]).contiguous(memory_format=LAST)
        held = wide.narrow(1, before, shape[1])
        held.copy_(values)
    elif layout == "cut":  # a smaller part of a larger volume: rows that do not follow each other evenly
        larger = torch.zeros(*shape[:3], shape[3] + before, shape[4] + after).contiguous(memory_format=LAST)
        held = larger[:, :, :, : shape[3], : shape[4]]
        held.copy_(values)
    elif layout == "spread":
        held = torch.ones(()).expand(shape)
    else:
        held = values.contiguous(memory_format=LAST) if layout == "last" else values
    rows, stride = in_rows(held)
    assert torch.equal(rows, held)
    lines = torch.arange(held.numel() // shape[1])[:, None] * stride + torch.arange(shape[1])
    flat = torch.as_strided(rows, (int(lines.max()) + 1,), (1,), rows.storage_offset())
    assert torch.equal(flat[lines], held.permute(0, 2, 3, 4, 1).reshape(-1, shape[1]))
    if layout in ("last", "slice"):
        assert rows is held


@given(shapes)
def test_what_is_made_lies_in_rows(shape):
    made = empty_rows(torch.zeros(shape, dtype=torch.bfloat16))
    assert (made.shape, made.dtype, row_stride(made)) == (torch.Size(shape), torch.bfloat16, shape[1])


def test_a_cpu_takes_its_own_kernels():
    assert not uses_triton(torch.zeros(1, 2, 3, 4, 5))
