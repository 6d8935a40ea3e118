"""From arrays as users have them to the two binary masks that every part of the leaderboard score compares.

Ignored voxels become background in both masks *before* anything else, then everything that is not zero is foreground.
What cannot be meant - probabilities, logits, two dimensions, differing shapes - is refused here, once, with the fix.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError


class Masks(NamedTuple):
    """Prediction and truth of one volume as C-contiguous uint8 arrays [Z,Y,X] of 0 and 1."""

    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def checked_volume(volume: ArrayLike, name: str) -> NDArray[Any]:
    """`volume` as a 3-D array of plausible labels.

    Raises:
        UserError: not 3-D, no voxel, not numbers, negative or infinite values, or fractions.
    """
    array = np.asarray(volume)
    if array.ndim != 3:
        raise UserError(
            f"{name} must have three axes (z, y, x), got shape {array.shape}: "
            "index away batch and channel axes, or add a leading axis to a single slice"
        )
    if array.size == 0:
        raise UserError(f"{name} has no voxels, its shape is {array.shape}: pass a volume with at least one voxel")
    if array.dtype.kind not in "buif":
        raise UserError(f"{name} must hold numbers, got dtype {array.dtype}: convert it to uint8 labels")
    if array.dtype.kind in "if":
        # NaN compares false, so it passes here; it is background.
        for plane in array:
            if (plane < 0).any():
                raise UserError(
                    f"{name} holds negative values (least {np.nanmin(plane)}): labels are 0 and above; "
                    "threshold logits into a mask, or map the negative label to the ignore label"
                )
            if array.dtype.kind == "f" and not _whole(plane):
                raise UserError(
                    f"{name} holds fractions or infinities, so it is no mask: threshold it first, e.g. `volume > 0.5`"
                )
    return array


def _whole(plane: NDArray[Any]) -> bool:
    odd = plane != np.rint(plane)
    return not (odd & ~np.isnan(plane)).any() and not np.isinf(plane).any()


def checked_pair(prediction: ArrayLike, truth: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both volumes checked, and of one shape.

    Raises:
        UserError: as `checked_volume`, or the shapes differ.
    """
    predicted = checked_volume(prediction, "prediction")
    true = checked_volume(truth, "truth")
    if predicted.shape != true.shape:
        raise UserError(
            f"prediction has shape {predicted.shape}, truth {true.shape}: they must be equal; "
            "are the axes (z, y, x) in both, and is it the same case?"
        )
    return predicted, true


def _foreground(plane: NDArray[Any], label: int | None) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = plane != 0 if label is None else plane == label
    if plane.dtype.kind == "f":
        filled &= plane == plane  # NaN differs from itself
    return filled


def binarise(prediction: ArrayLike, truth: ArrayLike, ignore_label: int, label: int | None = None) -> Masks:
    """The two masks that the leaderboard score compares.

    Args:
        prediction: [Z,Y,X] mask; everything but 0 and NaN is foreground, so 0/1 and 0/255 mean the same.
        truth: [Z,Y,X] labels; `ignore_label` is background in both masks, every other value but 0 and NaN foreground.
        ignore_label: the label of voxels that nobody labelled.
        label: the only label that is foreground, in both volumes; None takes every one.

    Raises:
        UserError: as `checked_pair`.
    """
    predicted, true = checked_pair(prediction, truth)
    masks = Masks(np.empty(true.shape, np.uint8), np.empty(true.shape, np.uint8))
    for z in range(true.shape[0]):  # plane by plane: no temporary of the size of the volume
        labelled = true[z] != ignore_label
        np.logical_and(_foreground(predicted[z], label), labelled, out=masks.prediction[z].view(np.bool_))
        np.logical_and(_foreground(true[z], label), labelled, out=masks.truth[z].view(np.bool_))
    return masks
