"""Voxel overlap of a mask with the truth, and summaries of any number over many cases.

These are the numbers a training log needs: counted over labelled voxels only, with the shares that tell whether a
model predicts too much or too little.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from volumen.errors import UserError
from volumen.metrics.masks import checked_pair


@dataclass(frozen=True)
class Overlap:
    """How a mask overlaps the truth over valid voxels; see `overlap` for the conventions.

    `predicted_share` and `true_share` are fractions of the valid voxels; `overestimation_points` is their difference in
    percentage points, positive where the mask holds more than the truth.
    """

    accuracy: float
    precision: float
    recall: float
    dice: float
    iou: float
    predicted_share: float
    true_share: float
    overestimation_points: float
    valid_voxels: int
    tp: int
    fp: int
    fn: int
    tn: int


def _share(part: int, whole: int, empty: float) -> float:
    return part / whole if whole else empty


def overlap(mask: ArrayLike, truth: ArrayLike, ignore_label: int = 2) -> Overlap:
    """Count the overlap of a mask with the truth where the truth is known.

    Where a ratio has nothing to divide by: Dice and IoU are 1 (both empty); precision of an empty mask and recall of an
    empty truth are 1 if the other one is empty as well, else 0; without any valid voxel accuracy is 1 and the shares
    are 0, and `valid_voxels` says so.

    Args:
        mask: [Z,Y,X], foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels, foreground where neither 0 nor `ignore_label`; NaN is background.
        ignore_label: the label of voxels to leave out.

    Raises:
        UserError: volumes that cannot be compared.
    """
    predicted, true = checked_pair(mask, truth)
    tp = fp = fn = valid = 0
    for mask_plane, true_plane in zip(predicted, true, strict=True):
        known = true_plane != ignore_label
        positive = (mask_plane != 0) & (mask_plane == mask_plane) & known
        surface = (true_plane != 0) & (true_plane == true_plane) & known
        hits = int(np.count_nonzero(positive & surface))
        tp += hits
        fp += int(np.count_nonzero(positive)) - hits
        fn += int(np.count_nonzero(surface)) - hits
        valid += int(np.count_nonzero(known))
    tn = valid - tp - fp - fn
    both_empty = 1.0 if tp + fp + fn == 0 else 0.0
    predicted_share = _share(tp + fp, valid, 0.0)
    true_share = _share(tp + fn, valid, 0.0)
    return Overlap(
        accuracy=_share(tp + tn, valid, 1.0),
        precision=_share(tp, tp + fp, both_empty),
        recall=_share(tp, tp + fn, both_empty),
        dice=_share(2 * tp, 2 * tp + fp + fn, 1.0),
        iou=_share(tp, tp + fp + fn, 1.0),
        predicted_share=predicted_share,
        true_share=true_share,
        overestimation_points=100.0 * (predicted_share - true_share),
        valid_voxels=valid,
        tp=tp,
        fp=fp,
        fn=fn,
        tn=tn,
    )


@dataclass(frozen=True)
class Summary:
    """Location, spread and shape of some numbers; `std` is the population's (divided by n).

    `counts[i]` numbers lie in [`edges[i]`, `edges[i + 1]`), the last bin being closed.
    """

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    counts: tuple[int, ...]
    edges: tuple[float, ...]


def summarise(values: Iterable[float], bins: int = 10) -> Summary:
    """Summarise one number per case.

    Args:
        values: at least one finite number.
        bins: how many equal bins the histogram has between the least and the largest value.

    Raises:
        UserError: no value, a value that is not finite, or no bin.
    """
    numbers = np.array(list(values), np.float64)
    if numbers.size == 0:
        raise UserError("summarise got no values: it needs at least one, is the list of cases empty?")
    if not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise UserError(f"summarise got {numbers[where]} at position {where}: leave cases without a value out")
    if bins < 1:
        raise UserError(f"bins must be 1 or more, got {bins}")
    low, high = float(numbers.min()), float(numbers.max())
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):  # as good as one value: numpy finds no bins between them
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(numbers, bins, (low, high))
    return Summary(
        mean=float(numbers.mean()),
        median=float(np.median(numbers)),
        std=float(numbers.std()),
        minimum=float(numbers.min()),
        maximum=float(numbers.max()),
        counts=tuple(int(count) for count in counts),
        edges=tuple(float(edge) for edge in edges),
    )
