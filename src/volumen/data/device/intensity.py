"""Vary grey values on any device, in the order of `augment.vary_intensity`; the host never waits for a number."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from volumen.data.augment import Variation

TRUNCATE = 3.0


def vary_intensity(image: Tensor, variation: Variation, normals: Callable[[], Tensor]) -> Tensor:
    """Blur, noise, factor and shift, contrast curve.

    Args:
        image: float32 [Z, Y, X], normalised; it may be overwritten.
        variation: What to do.
        normals: Gives standard normal numbers of the image's shape; called where there is noise.
    """
    if variation.blur_sigma_voxels > 0:
        image = blurred(image, variation.blur_sigma_voxels)
    if variation.noise_std > 0:
        image = image + normals() * variation.noise_std
    if variation.scale != 1.0 or variation.shift != 0.0:
        image = image.mul_(variation.scale).add_(variation.shift)
    if variation.gamma is not None:
        low, high = image.aminmax()
        reach = high - low
        curve = ((image - low) / reach) ** variation.gamma * reach + low
        image = curve.where(high > low, image)
    return image


def blurred(image: Tensor, sigma_voxels: float) -> Tensor:
    """Gaussian filter of a volume [Z, Y, X], along each axis in turn; beyond the border the nearest voxel."""
    weights = _weights(sigma_voxels)
    radius = len(weights) // 2
    for axis in range(3):
        widths = [radius if place // 2 == 2 - axis else 0 for place in range(6)]
        padded = functional.pad(image[None, None], widths, mode="replicate")[0, 0]
        side = image.shape[axis]
        image = padded.narrow(axis, 0, side) * weights[0]
        for place, weight in enumerate(weights[1:], 1):
            image.add_(padded.narrow(axis, place, side), alpha=weight)
    return image


def _weights(sigma_voxels: float) -> list[float]:
    """SciPy's, from its answer to an impulse."""
    radius = int(TRUNCATE * sigma_voxels + 0.5)
    impulse = np.zeros(2 * radius + 1)
    impulse[radius] = 1.0
    found: list[float] = ndimage.gaussian_filter1d(impulse, sigma_voxels, mode="constant", truncate=TRUNCATE).tolist()
    return found
