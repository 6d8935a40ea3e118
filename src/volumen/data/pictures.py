"""Slices of a volume with truth and prediction laid over them, as PNG.

Three panels side by side: the image, the image with the truth, the image with the prediction judged against the truth.
The colours differ in lightness too and come from Okabe and Ito's palette, so that colour-blind readers can tell them
apart. Voxels without a label are greyed and hatched: whatever is predicted there counts for nothing.
"""

from collections.abc import Sequence
from typing import TypeVar

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import IGNORE, SURFACE
from volumen.errors import UserError

Rgb = NDArray[np.uint8]
Plane = TypeVar("Plane", bound=np.generic)
TRUTH = (240, 228, 66)
TRUE_POSITIVE = (0, 178, 130)
FALSE_POSITIVE = (230, 90, 20)
FALSE_NEGATIVE = (86, 180, 255)
IGNORED = (128, 128, 136)
OPACITY = 0.65
HATCHING = (210, 210, 215)
IGNORED_OPACITY = 0.45
HATCH_PERIOD = 8  # pixels between hatching lines
GAP = 4  # pixels between panels
LEAST_WIDTH = 128  # pixels: smaller slices are enlarged by a whole factor
MOST_SIDE = 2048  # pixels of a panel: of larger slices every n-th voxel is shown, and none is enlarged beyond
Places = tuple[int, int, int]
"""Which slices are shown: across z, y and x."""
# What each colour means, for captions: name, colour, explanation.
LEGEND = (
    ("truth", TRUTH, "labelled surface"),
    ("true positive", TRUE_POSITIVE, "predicted and true"),
    ("false positive", FALSE_POSITIVE, "predicted, not true"),
    ("false negative", FALSE_NEGATIVE, "true, not predicted"),
    ("no label", IGNORED, "not scored"),
)


def choose_slices(truth: NDArray[np.uint8]) -> Places:
    """The z slice with most labelled surface (the first of equals), and the y and x slices through its median.

    Across y and x the slice with most surface would run along a sheet and show a blob; one through the median voxel
    cuts the sheets. Where there is no surface, the middle of the volume.
    """
    surface = truth == SURFACE
    counts = np.count_nonzero(surface, axis=(1, 2))
    if not counts.any():
        return truth.shape[0] // 2, truth.shape[1] // 2, truth.shape[2] // 2
    z = int(counts.argmax())
    rows, columns = np.nonzero(surface[z])
    middle = (len(rows) - 1) // 2
    return z, int(np.sort(rows)[middle]), int(np.sort(columns)[middle])


def slice_panel(
    image: NDArray[np.generic], truth: NDArray[np.uint8], mask: NDArray[np.uint8], axis: int, index: int
) -> Rgb:
    """One slice three times, side by side: image, truth, prediction.

    Args:
        image: Grey values, [Z, Y, X]; shown between the slice's 0.5 and 99.5 percentiles.
        truth: Canonical label codes, [Z, Y, X].
        mask: Prediction, uint8 [Z, Y, X], 0 or 1.
        axis: 0, 1 or 2: the slice is perpendicular to z, y or x.
        index: Which slice.

    Returns:
        RGB, uint8 [height, 3 * width + 2 * gap, 3], enlarged by a whole factor where the slice is small, thinned out by
        one where it is larger than `MOST_SIDE`.

    Raises:
        UserError: Shapes differ, or there is no such slice.
    """
    if not image.shape == truth.shape == mask.shape:
        raise UserError(f"image {image.shape}, truth {truth.shape} and mask {mask.shape} must have the same shape")
    if axis not in (0, 1, 2) or not 0 <= index < image.shape[axis]:
        raise UserError(f"there is no slice {index} along axis {axis} of a volume of {list(image.shape)}")
    if image.ndim != 3 or not image.size:
        raise UserError(f"there is no slice of a volume of {list(image.shape)}: three sides of 1 or more are expected")
    plane = np.take(image, index, axis=axis)
    grey = _sized(_grey(plane))
    label = _sized(np.take(truth, index, axis=axis))
    predicted = _sized(np.take(mask, index, axis=axis) > 0)
    plain = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    return _joined([plain, _truth(grey, label), _prediction(grey, label, predicted)], axis=1)


def case_panel(
    image: NDArray[np.generic], truth: NDArray[np.uint8], mask: NDArray[np.uint8], places: Places | None = None
) -> Rgb:
    """Three orthogonal slices of a case, one row each: across z, y and x; those of `choose_slices` by default."""
    chosen = places or choose_slices(truth)
    rows = [slice_panel(image, truth, mask, axis, index) for axis, index in enumerate(chosen)]
    width = max(row.shape[1] for row in rows)
    return _joined(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows], axis=0
    )


def encode_png(picture: Rgb) -> bytes:
    """An RGB picture uint8 [height, width, 3] as PNG."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=9))


def _joined(pictures: Sequence[Rgb], axis: int) -> Rgb:
    """Pictures one after the other, with white gaps."""
    shape = [*pictures[0].shape]
    shape[axis] = GAP
    gap = np.full(shape, 255, dtype=np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=axis)


def _sized(plane: NDArray[Plane]) -> NDArray[Plane]:
    """A slice at a size to look at: each voxel several times, or every n-th voxel."""
    longest = max(plane.shape)
    step = -(-longest // MOST_SIDE)
    if step > 1:
        return plane[::step, ::step]
    factor = max(1, min(-(-LEAST_WIDTH // plane.shape[1]), MOST_SIDE // longest))
    return plane.repeat(factor, 0).repeat(factor, 1)


def _grey(plane: NDArray[np.generic]) -> NDArray[np.float32]:
    """The slice as 0..255; what is not finite is black."""
    values = np.asarray(plane, dtype=np.float64)
    known = np.isfinite(values)
    values = np.where(known, values, values.min(where=known, initial=np.inf) if known.any() else 0.0)
    low, high = (float(bound) for bound in np.percentile(values, [0.5, 99.5]))
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    grey: NDArray[np.float32] = np.clip(scaled, 0, 255).astype(np.float32)
    return grey


def _truth(grey: NDArray[np.float32], label: NDArray[np.uint8]) -> Rgb:
    picture = np.repeat(grey[..., None], 3, axis=2)
    _grey_out(picture, label == IGNORE)
    _paint(picture, label == SURFACE, TRUTH, OPACITY)
    return picture.astype(np.uint8)


def _prediction(grey: NDArray[np.float32], label: NDArray[np.uint8], predicted: NDArray[np.bool_]) -> Rgb:
    picture = np.repeat(grey[..., None], 3, axis=2)
    valid, surface = label != IGNORE, label == SURFACE
    _paint(picture, predicted & surface, TRUE_POSITIVE, OPACITY)
    _paint(picture, predicted & valid & ~surface, FALSE_POSITIVE, OPACITY)
    _paint(picture, ~predicted & surface, FALSE_NEGATIVE, OPACITY)
    _paint(picture, predicted & ~valid, (255, 255, 255), IGNORED_OPACITY)
    _grey_out(picture, ~valid)
    return picture.astype(np.uint8)


def _grey_out(picture: NDArray[np.float32], where: NDArray[np.bool_]) -> None:
    _paint(picture, where, IGNORED, IGNORED_OPACITY)
    diagonal = np.arange(where.shape[0])[:, None] + np.arange(where.shape[1])
    _paint(picture, where & (diagonal % HATCH_PERIOD == 0), HATCHING, OPACITY)


def _paint(
    picture: NDArray[np.float32], where: NDArray[np.bool_], colour: tuple[int, int, int], opacity: float
) -> None:
    picture[where] = (1 - opacity) * picture[where] + opacity * np.array(colour, dtype=np.float32)
