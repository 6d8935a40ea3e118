"""How much a volume looks like a sheet at each voxel, from its second derivatives alone.

Filters run slab by slab along z, with as much overlap as they reach: the result equals that of the whole volume, and
the six second derivatives of a 320^3 volume need not be held at once.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatVolume = npt.NDArray[np.float32]
TRUNCATE = 3.0  # Gaussian kernels end at three standard deviations
SLAB = 32  # slices of z computed at once


def hessian_sheetness(image: npt.NDArray[np.generic], sigma_voxels: float) -> FloatVolume:
    """The Hessian's eigenvalue of largest magnitude [Z,Y,X], times sigma squared: negative on bright sheets.

    On a sheet one second derivative, across it, dominates the other two (Frangi et al. 1998). The eigenvalues come from
    the trigonometric solution for symmetric 3 x 3 matrices (Smith 1961).
    """

    def sheetness(slab: FloatVolume) -> FloatVolume:
        zz, yy, xx = (derivative(slab, sigma_voxels, order) for order in ((2, 0, 0), (0, 2, 0), (0, 0, 2)))
        zy, zx, yx = (derivative(slab, sigma_voxels, order) for order in ((1, 1, 0), (1, 0, 1), (0, 1, 1)))
        return largest_eigenvalue(zz, yy, xx, zy, zx, yx) * np.float32(sigma_voxels**2)

    return by_slabs(sheetness, image, sigma_voxels)


def largest_eigenvalue(
    zz: FloatVolume, yy: FloatVolume, xx: FloatVolume, zy: FloatVolume, zx: FloatVolume, yx: FloatVolume
) -> FloatVolume:
    """Eigenvalue of largest magnitude, signed, of symmetric 3 x 3 matrices given by their entries (any one shape)."""
    mean = (zz + yy + xx) / np.float32(3)
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (zy * zy + zx * zx + yx * yx)) / np.float32(6))
    determinant = a * (b * c - yx * yx) - zy * (zy * c - yx * zx) + zx * (zy * yx - b * zx)
    half = determinant / np.maximum(2 * spread**3, np.float32(1e-20))
    angle = np.arccos(np.clip(half, -1, 1)) / np.float32(3)
    highest = mean + 2 * spread * np.cos(angle)
    lowest = mean + 2 * spread * np.cos(angle + np.float32(2 * np.pi / 3))
    return np.asarray(np.where(np.abs(highest) >= np.abs(lowest), highest, lowest), dtype=np.float32)


def derivative(volume: FloatVolume, sigma_voxels: float, order: tuple[int, int, int]) -> FloatVolume:
    """A Gaussian derivative of the volume [Z,Y,X]; `order` along each axis."""
    filtered = ndimage.gaussian_filter(volume, sigma_voxels, order=order, truncate=TRUNCATE)
    return np.asarray(filtered, dtype=np.float32)


def by_slabs(
    function: Callable[[FloatVolume], FloatVolume], image: npt.NDArray[np.generic], sigma_voxels: float
) -> FloatVolume:
    """Apply a local filter slab by slab; the overlap is the kernel's radius, so that nothing changes at the seams."""
    radius = int(TRUNCATE * sigma_voxels + 0.5)
    result = np.empty(image.shape, dtype=np.float32)
    for start in range(0, len(image), SLAB):
        first, end = max(0, start - radius), min(len(image), start + SLAB + radius)
        filtered = function(image[first:end].astype(np.float32))
        result[start : start + SLAB] = filtered[start - first : start - first + SLAB]
    return result
