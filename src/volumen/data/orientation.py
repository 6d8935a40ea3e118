"""Do the surfaces of a data set run along an axis?

A scroll is rolled about z: the normals of its sheets lie in the planes across it. The walls of cells have normals in
every direction. What may be turned into what in augmentation follows from that, and it can be measured on the labels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.dataset import PreparedDataset
from volumen.data.labels import IGNORE, SURFACE

CASES = 6
BLOCK_VOXELS = 96
SMOOTHING_VOXELS = 1.5
LARGEST_SHARE_ALONG = 0.2  # 1/3 where every direction is alike; measured: scroll wraps 0.01 to 0.12, cells 0.40 to 0.55


def normals_along(label: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Mean square of the components of the surface normals along z, y and x [3]; their sum is 1.

    None where the label (canonical codes [Z, Y, X]) has no surface away from unlabelled voxels.
    """
    density = ndimage.gaussian_filter((label == SURFACE).astype(np.float32), SMOOTHING_VOXELS)
    gradient = np.stack([ndimage.sobel(density, axis) for axis in range(3)])
    strength = np.linalg.norm(gradient, axis=0)
    clear = ~ndimage.binary_dilation(label == IGNORE, iterations=4)
    surface = clear & (label == SURFACE)
    if not surface.any():
        return None
    seen = clear & (strength > 0.3 * float(strength[surface].mean())) & (strength > 0)
    if not seen.any():
        return None
    result: NDArray[np.float64] = ((gradient[:, seen] / strength[seen]) ** 2).mean(axis=1, dtype=np.float64)
    return result


def share_along_z(prepared: PreparedDataset, case_ids: Sequence[str]) -> float | None:
    """Median over the middles of up to six labelled volumes of `normals_along` z; None where no surface is seen."""
    with_surface = [case_id for case_id in case_ids if prepared.case(case_id).scanned_surface]
    picks = np.unique(np.linspace(0, len(with_surface) - 1, CASES).round().astype(int)) if with_surface else ()
    found = []
    for pick in picks:
        label = prepared.lesson(with_surface[pick])
        middle = tuple(
            slice(max(0, (side - BLOCK_VOXELS) // 2), max(0, (side - BLOCK_VOXELS) // 2) + BLOCK_VOXELS)
            for side in label.shape
        )
        normals = normals_along(np.asarray(label[middle]))
        if normals is not None:
            found.append(float(normals[0]))
    return float(np.median(found)) if found else None


def rotations_for(prepared: PreparedDataset, case_ids: Sequence[str]) -> tuple[str, str]:
    """What `rotations: auto` stands for on these volumes, and the reason in a sentence."""
    share = share_along_z(prepared, case_ids)
    if share is None:
        return "about_z", "rotations: auto is about_z: no surface was seen to measure its direction on"
    measured = f"the surface normals' mean square along z is {share:.2f} (1/3 where every direction is alike)"
    if share <= LARGEST_SHARE_ALONG:
        return "about_z", f"rotations: auto is about_z: {measured}, so the sheets run along z"
    return "all", f"rotations: auto is all: {measured}, so the objects have no axis along z"
