"""Holes in sheets, closed by their height maps.

A hole through a sheet is a tunnel, which no filling of cavities closes. Here each piece of the mask in a block is seen
as a height over a plane of the grid (`columns`); an empty spot of its shadow, enclosed by the shadow, is a hole. The
height over it is the harmonic function (Laplace's equation) with the values of the rim, its thickness the median of
the rim's.

A hole is patched whole or not at all, so that none is cut into several. The runs of a patch overlap those of all eight
neighbouring columns; by the nerve theorem a patch in a sheet that is sound around the hole then closes its tunnel and
adds none, even where surface is connected through faces only, as in the TopoScore. Where the rim is ragged, its columns
grow by up to two voxels at either end to overlap as well. The Euler characteristic, components - tunnels + cavities,
has the last word: a patch that does not raise it is taken back.
"""

import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError
from volumen.postprocess.columns import blocks, column_counts, largest_shadow, pieces_of
from volumen.postprocess.height_maps import find_holes, height_map, interpolate, with_rim
from volumen.system.compiled import Array, compiled

SMALLEST_RING = 8  # columns around the smallest hole


def patch_sheets(
    mask: NDArray[np.uint8],
    maximum_hole_voxels: int,
    block_voxels: int = 64,
    maximum_folded_share: float = 0.05,
) -> NDArray[np.uint8]:
    """Patch the holes in sheets.

    It never joins two 26-connected components, not even two pieces that are connected only outside of the block: where
    a patch would touch another piece it is made thinner, and if that does not do, the hole stays. A hole that reaches
    the edge of its block stays too: another block sees it whole, unless it is wider than half a block or open at the
    volume's border, where it is a notch and no hole. Where the rim jumps by more than a few voxels it is no sheet's
    hole and stays. Blocks build on each other's patches, so the result need not commute with flips.

    Args:
        mask: uint8 [Z, Y, X], 0 or 1.
        maximum_hole_voxels: Area of the largest hole that is patched, in pixels of the height map; 0 patches none.
        block_voxels: Side of the blocks.
        maximum_folded_share: Share of columns that meet a piece twice or more, above which it is no single sheet.

    Returns:
        Mask, uint8 [Z, Y, X]; holds the mask given.

    Raises:
        UserError: A side, area or share out of range.
    """
    if maximum_hole_voxels < 0:
        raise UserError(f"the largest hole must be 0 pixels or more, got {maximum_hole_voxels}")
    if not 0 <= maximum_folded_share <= 1:
        raise UserError(f"the folded share must lie between 0 and 1, got {maximum_folded_share:g}")
    result = mask.copy(order="C")
    if maximum_hole_voxels == 0:
        return result
    for box in blocks(mask.shape, block_voxels):
        labels, count = pieces_of(result[box])
        axes, columns, folded = largest_shadow(*column_counts(labels, count))
        boxes = _bounding_boxes(labels, count)
        # [axis, (first, last)]: whether the block's face is the volume's border, beyond which there is no other piece
        borders = np.array([(a.start == 0, a.stop >= length) for a, length in zip(box, mask.shape, strict=True)])
        patched = 0
        for piece in range(1, count + 1):
            if columns[piece] < SMALLEST_RING or folded[piece] > maximum_folded_share * columns[piece]:
                continue
            axis = axes[piece]
            order = [axis, *(other for other in range(3) if other != axis)]
            turned = labels.transpose(order)
            patched += _patch_piece(turned, piece, boxes[piece][order], borders[axis], maximum_hole_voxels)
        if patched:
            result[box] = labels != 0
    return result


@compiled
def _bounding_boxes(labels: Array, pieces: int) -> Array:
    """First and last position of each piece, int64 [pieces + 1, 3 axes, (first, last)]."""
    boxes = np.empty((pieces + 1, 3, 2), np.int64)
    boxes[:, :, 0] = max(labels.shape)
    boxes[:, :, 1] = -1
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            previous = np.uint32(0)
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label:
                    box = boxes[label]
                    if label != previous:
                        box[0, 0], box[0, 1] = min(box[0, 0], z), max(box[0, 1], z)
                        box[1, 0], box[1, 1] = min(box[1, 0], y), max(box[1, 1], y)
                        box[2, 0] = min(box[2, 0], x)
                    box[2, 1] = max(box[2, 1], x)
                previous = label
    return boxes


def _patch_piece(
    turned: NDArray[np.uint32], piece: int, box: NDArray[np.int64], borders: NDArray[np.bool_], maximum: int
) -> int:
    """Patch the holes of one piece in labels [normal axis, first, second], in place; returns how many."""
    (_, _), (top, bottom), (left, right) = box.tolist()
    window = turned[:, top : bottom + 1, left : right + 1]
    starts, stops = height_map(window, piece)
    cells, ends = find_holes(starts, stops)
    patched, first = 0, 0
    for last in ends:
        hole = cells[first:last]
        first = last
        if len(hole) > maximum:
            continue
        around = with_rim(starts, stops, hole)
        places = around[:, 0], around[:, 1]
        before = starts[places], stops[places]
        done = (
            interpolate(starts, stops, around, len(hole))
            and _fits(window, piece, starts, stops, around, len(hole), before, borders)
            and _write(window, piece, starts, stops, around)
        )
        if not done:
            starts[places], stops[places] = before
        patched += done
    return patched


@compiled
def _fits(
    labels: Array,
    piece: int,
    starts: Array,
    stops: Array,
    cells: Array,
    size: int,
    before: tuple[Array, Array],
    borders: Array,
) -> bool:
    """Make the patch thinner where it would touch other pieces; False where that is not enough.

    `labels` is the block cut to the shadow of the piece. Neither the hole, which is the first `size` of the cells, nor
    the rim after it is at the edge of the shadow, so that all neighbours of a patch are inside, but for those beyond
    the first and last plane. A column of the rim that cannot grow gets the run it had `before`.
    """
    depth = labels.shape[0]
    for k in range(len(cells)):
        i, j = cells[k]
        inside = (starts[i, j] >= 1 or borders[0]) and (stops[i, j] <= depth - 1 or borders[1])
        start, stop = _longest_free(labels, piece, i, j, max(starts[i, j], 0), min(stops[i, j], depth))
        if k >= size and (not inside or start > before[0][k] or stop < before[1][k]):
            start, stop = before[0][k], before[1][k]
        elif not inside or start == stop:
            return False
        starts[i, j], stops[i, j] = start, stop
    for k in range(size):
        i, j = cells[k]
        highest, lowest = starts[i - 1 : i + 2, j - 1 : j + 2].max(), stops[i - 1 : i + 2, j - 1 : j + 2].min()
        if highest >= stops[i, j] or lowest <= starts[i, j]:
            return False
    return True


@compiled
def _longest_free(labels: Array, piece: int, i: int, j: int, start: int, stop: int) -> tuple[int, int]:
    """The longest stretch of a column between `start` and `stop` that touches no other piece."""
    longest, longest_stop, run = 0, start, 0
    for z in range(start, stop):
        free = True
        for neighbour in labels[max(z - 1, 0) : z + 2, i - 1 : i + 2, j - 1 : j + 2].flat:
            free &= neighbour == 0 or neighbour == piece
        run = run + 1 if free else 0
        if run > longest:
            longest, longest_stop = run, z + 1
    return longest_stop - longest, longest_stop


@compiled
def _write(labels: Array, piece: int, starts: Array, stops: Array, cells: Array) -> bool:
    """Write a patch into the labels; False, and nothing changed, where the Euler characteristic does not grow."""
    first, last, voxels = labels.shape[0], 0, 0
    for k in range(len(cells)):
        i, j = cells[k]
        first, last = min(first, starts[i, j]), max(last, stops[i, j])
        voxels += stops[i, j] - starts[i, j]
    rows, columns = cells[:, 0], cells[:, 1]
    around = labels[
        max(first - 1, 0) : last + 1, rows.min() - 1 : rows.max() + 2, columns.min() - 1 : columns.max() + 2
    ]
    before = _euler_characteristic(around, piece)
    written = np.empty((voxels, 3), np.int64)
    count = 0
    for k in range(len(cells)):
        i, j = cells[k]
        for z in range(starts[i, j], stops[i, j]):
            if labels[z, i, j] != piece:
                labels[z, i, j] = piece
                written[count, 0], written[count, 1], written[count, 2] = z, i, j
                count += 1
    if _euler_characteristic(around, piece) > before:
        return True
    for k in range(count):
        labels[written[k, 0], written[k, 1], written[k, 2]] = 0
    return False


@compiled
def _euler_characteristic(labels: Array, piece: int) -> int:
    """Vertices - edges + squares - cubes of a piece; voxels are vertices, and a cell exists when all its voxels do."""
    depth, height, width = labels.shape
    total = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                if labels[z, y, x] != piece:
                    continue
                a = x + 1 < width and labels[z, y, x + 1] == piece
                b = y + 1 < height and labels[z, y + 1, x] == piece
                c = z + 1 < depth and labels[z + 1, y, x] == piece
                ab = a and b and labels[z, y + 1, x + 1] == piece
                ac = a and c and labels[z + 1, y, x + 1] == piece
                bc = b and c and labels[z + 1, y + 1, x] == piece
                abc = ab and ac and bc and labels[z + 1, y + 1, x + 1] == piece
                total += 1 - a - b - c + ab + ac + bc - abc
    return total
