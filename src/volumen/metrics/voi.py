"""Variation of information between the objects of a prediction and those of the truth.

It tells what the overlap scores cannot: whether two sheets that touch were kept apart (merge) and whether one sheet
stayed whole (split).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.masks import binarise
from volumen.metrics.runs import Runs, labelled_runs
from volumen.system.compiled import Array, compiled

_BEYOND = np.int32(2**31 - 1)  # larger than any position in a row


@dataclass(frozen=True)
class VoiScore:
    """`score` = 1 / (1 + alpha (split + merge)), and the two entropies in bits."""

    score: float
    split: float
    """H(prediction | truth): how far true objects were split into several predicted ones."""
    merge: float
    """H(truth | prediction): how far true objects were merged into one predicted one."""


@compiled
def _segments(prediction: Runs, truth: Runs) -> tuple[Array, Array]:
    """Cut every row where either labelling changes: the two labels as one key, and the voxels, of each piece."""
    size = 2 * (len(prediction.starts) + len(truth.starts))
    keys = np.empty(size, np.int64)
    voxels = np.empty(size, np.int64)
    count = 0
    for row in range(len(truth.rows) - 1):
        i, last_i = prediction.rows[row], prediction.rows[row + 1]
        j, last_j = truth.rows[row], truth.rows[row + 1]
        x = np.int32(0)
        while i < last_i or j < last_j:
            # The next run of either mask, or one that begins beyond any row.
            start_i, stop_i = (prediction.starts[i], prediction.stops[i]) if i < last_i else (_BEYOND, _BEYOND)
            start_j, stop_j = (truth.starts[j], truth.stops[j]) if j < last_j else (_BEYOND, _BEYOND)
            begin = max(x, min(start_i, start_j))
            x = min(stop_i if start_i <= begin else start_i, stop_j if start_j <= begin else start_j)
            label_i = prediction.labels[i] if start_i <= begin else 0
            label_j = truth.labels[j] if start_j <= begin else 0
            keys[count] = np.int64(label_i) * (truth.components + 1) + label_j
            voxels[count] = x - begin
            count += 1
            i += x == stop_i
            j += x == stop_j
    return keys[:count], voxels[:count]


def _overlaps(prediction: Runs, truth: Runs) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Predicted label, true label and shared voxels of every pair of labels that meet where either is foreground."""
    keys, voxels = _segments(prediction, truth)
    pairs, where = np.unique(keys, return_inverse=True)
    shared = np.bincount(where, weights=voxels, minlength=len(pairs)).astype(np.int64)
    return pairs // (truth.components + 1), pairs % (truth.components + 1), shared


def check_alpha(alpha: float) -> None:
    """Raise a `UserError` for an alpha below 0 or no number."""
    if not alpha >= 0:
        raise UserError(f"voi_alpha must be 0 or more, got {alpha}: the leaderboard uses 0.3")


def voi_of_runs(prediction: Runs, truth: Runs, alpha: float) -> VoiScore:
    """`voi_score` of two masks whose components are labelled already."""
    predicted, true, shared = _overlaps(prediction, truth)
    if len(shared) == 0:
        return VoiScore(1.0, 0.0, 0.0)
    share = shared / shared.sum()
    of_prediction = np.bincount(predicted, weights=shared)[predicted]
    of_truth = np.bincount(true, weights=shared)[true]
    split = float(np.sum(share * np.log2(of_truth / shared)))
    merge = float(np.sum(share * np.log2(of_prediction / shared)))
    return VoiScore(1.0 / (1.0 + alpha * (split + merge)), split, merge)


def voi_score(prediction: ArrayLike, truth: ArrayLike, *, ignore_label: int = 2, voi_alpha: float = 0.3) -> VoiScore:
    """Compare the 26-connected components of prediction and truth by their variation of information.

    Clusterings are compared on the voxels that are foreground in either mask; there, background counts as one more
    cluster. `split` is H(prediction | truth) and `merge` H(truth | prediction): the hosts' variables hold the same
    numbers under these names, but their documentation explains each with the other's meaning.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        voi_alpha: how steeply the score falls with the variation of information.

    Returns:
        score in (0, 1], 1 for equal partitions and where both masks are empty; split and merge in bits.

    Raises:
        UserError: volumes that cannot be compared, or a negative alpha.

    Source: Meila, "Comparing clusterings: an information based distance" (2007).
    """
    check_alpha(voi_alpha)
    masks = binarise(prediction, truth, ignore_label)
    return voi_of_runs(labelled_runs(masks.prediction), labelled_runs(masks.truth), voi_alpha)
