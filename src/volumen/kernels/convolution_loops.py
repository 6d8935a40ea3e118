"""The weight gradient of a 3x3x3 convolution, compiled for channels-last float32 activations and AVX2.

Why it exists: on AVX2, oneDNN runs the forward pass and the input gradient of a 3-D convolution near the machine's
peak, but the weight gradient at a quarter to a half of it (and small single-sample layers on a slow path), which makes
it the largest part of a training step.

The gradient of one tap is a product of two tall matrices, input channels x voxels and voxels x output channels. The
loops cut it into register tiles (`_accumulate`) along rows of voxels that stay in the innermost cache, and need no
padding: at the border a tap sees a shorter row. They hold no lock and work on a range of planes, so that threads can
share one activation.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.extending import intrinsic

from volumen.system.compiled import compiled

LANES = 8  # floats in one AVX2 register
# Rows worked on together keep both operands of the weight gradient in the innermost cache: more pays only when rows
# are short.
GRADIENT_ROW_VOXELS = 64

_FLOAT32 = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT32, LANES)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


def _load_vector(builder: Any, pointer: Any) -> Any:
    vector = builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()))
    vector.align = 4
    return vector


def _zeroed(builder: Any) -> Any:
    return cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES))  # type: ignore[no-untyped-call]


def _spread(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))


@intrinsic(prefer_literal=True)
def _accumulate_tile(
    typing_context: Any, scalars: Any, vectors: Any, out: Any, out_at: Any, out_step: Any,
    left: Any, left_at: Any, left_next: Any, left_row: Any,
    right: Any, right_at: Any, right_next: Any, right_row: Any, count: Any, rows: Any,
) -> Any:  # fmt: skip
    """out[j, :] += sum over rows r and steps n of left[j, n, r] * right[n, r, :], for j < scalars and vectors * 8
    columns.

    left[j, n, r] lies at left_at + j + n * left_next + r * left_row, right[n, r, :] at right_at + n * right_next
    + r * right_row, out[j, :] at out_at + j * out_step. `scalars` and `vectors` are literals; their product is the
    number of registers that hold the sum: eight hide the latency of a fused multiply-add and leave room for the
    operands.
    """
    if not isinstance(scalars, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    height, width = scalars.literal_value, vectors.literal_value
    index = types.int64
    signature = types.void(
        scalars, vectors, out, index, index, left, index, index, index, right, index, index, index, index, index
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pointer(position: int) -> Any:
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            return builder.gep(array.data, [arguments[position + 1]])

        out_pointer, left_pointer, right_pointer = pointer(2), pointer(5), pointer(9)
        out_step, left_next, left_row = arguments[4], arguments[7], arguments[8]
        right_next, right_row, count, rows = arguments[11], arguments[12], arguments[13], arguments[14]
        fused = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )
        sums = [[_zeroed(builder) for _ in range(width)] for _ in range(height)]
        with cgutils.for_range(builder, rows) as row:
            left_line = builder.gep(left_pointer, [builder.mul(row.index, left_row)])
            right_line = builder.gep(right_pointer, [builder.mul(row.index, right_row)])
            with cgutils.for_range(builder, count) as step:
                left_here = builder.gep(left_line, [builder.mul(step.index, left_next)])
                right_here = builder.gep(right_line, [builder.mul(step.index, right_next)])
                columns = [
                    _load_vector(builder, builder.gep(right_here, [_INT64(LANES * column)])) for column in range(width)
                ]
                for j in range(height):
                    scalar = builder.load(builder.gep(left_here, [_INT64(j)]))
                    factor = _spread(builder, scalar)
                    for column in range(width):
                        total = builder.call(fused, [factor, columns[column], builder.load(sums[j][column])])
                        builder.store(total, sums[j][column])
        for j in range(height):
            for column in range(width):
                offset = builder.add(builder.mul(out_step, _INT64(j)), _INT64(LANES * column))
                target = builder.gep(out_pointer, [offset])
                total = builder.fadd(_load_vector(builder, target), builder.load(sums[j][column]))
                builder.store(total, builder.bitcast(target, _VECTOR.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, generate


_accumulate: Any = _accumulate_tile  # its first argument is numba's own, which no caller passes


@compiled(error_model="numpy")
def _tap(
    values: Any, left_at: int, left_row: int, gradient: Any, right_at: int, right_row: int, out: Any, tap: int,
    channels: tuple[int, int], count: int, rows: int,
) -> None:  # fmt: skip
    """Add to one tap (in * out) the product of rows of voxels: 4 x 16 tiles, or 8 x 8 for the last 8 columns."""
    inside, outside = channels
    for channel in range(0, outside, 2 * LANES):
        source, target = right_at + channel, tap + channel
        wide = channel + 2 * LANES <= outside
        lane = 0
        while wide and lane + 4 <= inside:
            _accumulate(4, 2, out, target + lane * outside, outside, values, left_at + lane, inside, left_row,
                        gradient, source, outside, right_row, count, rows)  # fmt: skip
            lane += 4
        while not wide and lane + 8 <= inside:
            _accumulate(8, 1, out, target + lane * outside, outside, values, left_at + lane, inside, left_row,
                        gradient, source, outside, right_row, count, rows)  # fmt: skip
            lane += 8
        while lane < inside:
            for half in range(2 if wide else 1):
                _accumulate(1, 1, out, target + lane * outside + half * LANES, outside,
                            values, left_at + lane, inside, left_row,
                            gradient, source + half * LANES, outside, right_row, count, rows)  # fmt: skip
            lane += 1


@compiled(error_model="numpy")
def weight_gradient_planes(
    values: Any, gradient: Any, out: Any, size: tuple[int, int, int], channels: tuple[int, int], first: int, last: int
) -> None:
    """Add to `out` (3 * 3 * 3 * in * out) what planes first..last of the output's gradient give to the weight gradient.

    Args:
        values, gradient: float32, samples * z * y * x * channels: the convolution's input, the gradient of its output.
        out: float32, added to.
        size: z, y, x.
        channels: in, out; out is a multiple of 8.
        first, last: First plane of (samples * z), and one after the last.
    """
    depth, rows, columns = size
    inside, outside = channels
    block = max(1, GRADIENT_ROW_VOXELS // columns)
    left_row, right_row = columns * inside, columns * outside
    for plane in range(first, last):
        z = plane % depth
        for dz in range(-1, 2):
            if not 0 <= z + dz < depth:
                continue
            for row in range(0, rows, block):
                for dy in range(-1, 2):
                    begin, end = max(row, -dy), min(min(row + block, rows), rows - dy)
                    for dx in range(-1, 2):
                        column, count = max(0, -dx), columns - abs(dx)
                        if begin >= end or count <= 0:
                            continue
                        right_at = ((plane * rows + begin) * columns + column) * outside
                        left_at = (((plane + dz) * rows + begin + dy) * columns + column + dx) * inside
                        tap = ((dz + 1) * 9 + (dy + 1) * 3 + dx + 1) * inside * outside
                        _tap(values, left_at, left_row, gradient, right_at, right_row, out, tap,
                             channels, count, end - begin)  # fmt: skip
