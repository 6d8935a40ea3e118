"""Sharpening of probabilities across sheets: ridges a little higher, the valleys between touching sheets lower.

The plate measure follows Frangi et al., "Multiscale vessel enhancement filtering" (1998), in the form for plates of
Descoteaux et al., "Bone enhancement filtering" (2005). With the eigenvalues of the scale-normalised Hessian sorted by
magnitude, |a| <= |b| <= |c|:

    plate = exp(-(b / c)^2 / (2 alpha^2)) * (1 - exp(-(a^2 + b^2 + c^2) / (2 gamma^2)))

The first factor asks that one curvature, across the sheet, dominates; the second that there is any. On bright sheets c
is negative, in the valley between two sheets it is positive. Frangi's gamma is half of the volume's greatest norm;
here it is a constant, so that the result is local and does not depend on how a volume is cut: an ideal plate of
thickness 2 sigma has a norm of 0.48.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.errors import UserError
from volumen.system.compiled import Array, compiled

ALPHA = 0.5
GAMMA = 0.125
TRUNCATE = 3.0  # Gaussian kernels end at three standard deviations


def sharpen_ridges(probabilities: NDArray[np.float32], scale_voxels: float, weight: float) -> NDArray[np.float32]:
    """Raise probabilities on ridges and lower them in valleys, by the plate measure.

        result = p + weight * p * ((1 - p) * ridge - valley)

    `ridge` is the plate measure where the dominant curvature is negative, `valley` where it is positive, and 0
    elsewhere. Where there is neither, as deep in a thick sheet or on its faces, where the curvature changes sign,
    nothing changes: a plain blend with the ridge measure would lower those too. The result stays in [0, 1], 0 stays 0
    and 1 is never exceeded.

    Derivatives are differences of the smoothed probabilities, the border is replicated. The step commutes with flips up
    to rounding.

    Args:
        probabilities: float32 [Z, Y, X] in [0, 1]; NaN counts as 0.
        scale_voxels: Standard deviation of the smoothing, best half of a sheet's thickness or less; above 0.
        weight: 0 (identity) to 1.

    Returns:
        Probabilities, float32 [Z, Y, X].

    Raises:
        UserError: A scale or a weight out of range.
    """
    if not scale_voxels > 0:
        raise UserError(f"the scale of ridges must be above 0 voxels, got {scale_voxels:g}")
    if not 0 <= weight <= 1:
        raise UserError(f"the weight of ridges must lie between 0 and 1, got {weight:g}")
    if weight == 0:
        return np.ascontiguousarray(probabilities)
    clean = np.ascontiguousarray(np.nan_to_num(probabilities, nan=0.0), dtype=np.float32)
    smooth = ndimage.gaussian_filter(clean, scale_voxels, mode="nearest", truncate=TRUNCATE)
    result = np.empty_like(clean)
    _sharpen(clean, smooth, float(scale_voxels**2), float(weight), result)
    return result


@compiled
def _sharpen(probabilities: Array, smooth: Array, factor: float, weight: float, result: Array) -> None:
    """The formula of `sharpen_ridges`, voxel by voxel; `factor` normalises the second derivatives."""
    depth, height, width = probabilities.shape
    for z in range(depth):
        above, below = smooth[max(z - 1, 0)], smooth[min(z + 1, depth - 1)]
        here = smooth[z]
        for y in range(height):
            u, d = max(y - 1, 0), min(y + 1, height - 1)
            for x in range(width):
                p = probabilities[z, y, x]
                if p == 0:
                    result[z, y, x] = 0
                    continue
                w, e = max(x - 1, 0), min(x + 1, width - 1)
                twice = 2 * here[y, x]
                zz = factor * (above[y, x] + below[y, x] - twice)
                yy = factor * (here[u, x] + here[d, x] - twice)
                xx = factor * (here[y, w] + here[y, e] - twice)
                zy = factor * (below[d, x] - below[u, x] - above[d, x] + above[u, x]) / 4
                zx = factor * (below[y, e] - below[y, w] - above[y, e] + above[y, w]) / 4
                yx = factor * (here[d, e] - here[d, w] - here[u, e] + here[u, w]) / 4
                plate = _signed_plate(zz, yy, xx, zy, zx, yx)
                gain = (1 - p) * plate if plate > 0 else plate
                result[z, y, x] = min(max(p + weight * p * gain, 0.0), 1.0)


@compiled
def _signed_plate(zz: float, yy: float, xx: float, zy: float, zx: float, yx: float) -> float:
    """The plate measure of a symmetric matrix: positive on ridges, negative in valleys.

    The eigenvalues come from the trigonometric solution (Smith 1961).
    """
    norm = zz * zz + yy * yy + xx * xx + 2 * (zy * zy + zx * zx + yx * yx)
    if norm < 1e-6:  # a measure below 1e-4
        return 0.0
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = math.sqrt((a * a + b * b + c * c + 2 * (zy * zy + zx * zx + yx * yx)) / 6)
    if spread < 1e-6:  # three equal curvatures: a blob
        return 0.0
    determinant = a * (b * c - yx * yx) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    angle = math.acos(min(max(determinant / (2 * spread**3), -1.0), 1.0)) / 3
    highest = mean + 2 * spread * math.cos(angle)
    lowest = mean + 2 * spread * math.cos(angle + 2 * math.pi / 3)
    middle = 3 * mean - highest - lowest
    dominant = highest if abs(highest) >= abs(lowest) else lowest
    other = max(abs(middle), min(abs(highest), abs(lowest)))
    plate = math.exp(-((other / dominant) ** 2) / (2 * ALPHA**2)) * (1 - math.exp(-norm / (2 * GAMMA**2)))
    return -plate if dominant > 0 else plate
