"""Voxel overlap of a mask with the truth, and summaries of any number over many cases.

These are the numbers a training log needs: counted over labelled voxels only, with the shares that tell whether a
model predicts too much or too little.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from volumen.errors import UserError
from volumen.metrics.masks import checked_pair
from volumen.metrics.ratios import ratio


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


def overlap(mask: ArrayLike, truth: ArrayLike, ignore_label: int = 2) -> Overlap:
    """Count the overlap of a mask with the truth where the truth is known.

    A ratio that has nothing to divide by has no value (NaN, see `ratios`): Dice and IoU where both are empty, precision
    of an empty mask, recall of an empty truth, and everything without any valid voxel.

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
    predicted_share, true_share = ratio(tp + fp, valid), ratio(tp + fn, valid)
    return Overlap(
        accuracy=ratio(tp + tn, valid),
        precision=ratio(tp, tp + fp),
        recall=ratio(tp, tp + fn),
        dice=ratio(2 * tp, 2 * tp + fp + fn),
        iou=ratio(tp, tp + fp + fn),
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
    """Location, spread and shape of some numbers; `std` is the population's (divided by n); NaN where there are none.

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
        values: one or more; those without a value (NaN, see `ratios`) are left out.
        bins: how many equal bins the histogram has between the least and the largest value.

    Raises:
        UserError: no case, an infinite value, or no bin.
    """
    numbers = np.array(list(values), np.float64)
    if numbers.size == 0:
        raise UserError("summarise got no values: it needs at least one, is the list of cases empty?")
    if np.isinf(numbers).any():
        where = int(np.flatnonzero(np.isinf(numbers))[0])
        raise UserError(f"summarise got {numbers[where]} at position {where}: every value must be finite, or NaN")
    if bins < 1:
        raise UserError(f"bins must be 1 or more, got {bins}")
    numbers = numbers[~np.isnan(numbers)]
    if numbers.size == 0:
        none, places = math.nan, tuple(number / bins for number in range(bins + 1))
        return Summary(none, none, none, none, none, (0,) * bins, places)
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
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
    )
