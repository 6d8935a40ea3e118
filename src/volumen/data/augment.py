"""Vary a training patch: image, label and ignored voxels move together, and every change is a function of its seed.

Two steps. `draw_variation` throws all dice of a sample at once; what it drew says how large a region has to be cut, so
that a rotated patch is filled with real voxels instead of invented corners. `vary` then applies it. Labels travel as
one map of canonical codes, so an ignored voxel stays ignored; what lies outside of the volume is ignored as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.config.data import Augmentation
from volumen.data.emptying import Emptied, draw_emptied, empty
from volumen.data.labels import IGNORE
from volumen.system.compiled import compiled

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Variation:
    """All that will happen to one sample."""

    matrix: NDArray[np.float64] | None
    """From output to input coordinates about the patch's centre, 3 x 3 in z y x; None leaves the grid alone."""
    quarter_turns: tuple[tuple[int, int, int], ...]
    """(axis, axis, number of quarter turns) in order."""
    flips: tuple[bool, bool, bool]
    scale: float
    shift: float
    gamma: float | None
    noise_std: float
    blur_sigma_voxels: float
    emptied: Emptied | None = None
    """What of the patch is emptied, last of all."""

    def region(self, patch: Shape) -> Shape:
        """Size of the region to cut so that the varied patch lies inside it; same centre as the patch."""
        if self.matrix is None:
            return patch
        half = np.abs(self.matrix) @ ((np.asarray(patch) - 1) / 2)
        # An even surplus keeps the centres of patch and region the same; one voxel more for interpolation.
        z, y, x = (
            side + 2 * math.ceil(max(reach - (side - 1) / 2, 0) + 1) for side, reach in zip(patch, half, strict=True)
        )
        return z, y, x


STILL = Variation(None, (), (False, False, False), 1.0, 0.0, None, 0.0, 0.0)
"""Nothing happens."""


def draw_variation(config: Augmentation, patch: Shape, random: np.random.Generator) -> Variation:
    """Draw what happens to a sample's patch (z, y, x); `config.rotations` is other than auto."""
    matrix = _draw_matrix(config, random) if random.random() < config.affine_probability else None
    planes = {"none": [], "about_z": [(1, 2)], "all": list(combinations(range(3), 2))}[config.rotations]
    turns = [(a, b, int(random.integers(4))) for a, b in planes if patch[a] == patch[b]]
    flips = tuple(bool(coin) for coin in random.random(3) < 0.5) if config.flips else (False, False, False)
    scale, shift = 1.0, 0.0
    if random.random() < config.intensity_probability:
        scale = float(random.uniform(*config.intensity_scale))
        shift = float(random.uniform(-config.intensity_shift, config.intensity_shift))
    gamma = float(random.uniform(*config.gamma)) if random.random() < config.gamma_probability else None
    noise = float(random.uniform(*config.noise_std)) if random.random() < config.noise_probability else 0.0
    blur = float(random.uniform(*config.blur_sigma_voxels)) if random.random() < config.blur_probability else 0.0
    chance = config.empty_probability
    emptied = draw_emptied(patch, random) if chance > 0 and random.random() < chance else None
    return Variation(matrix, tuple(turns), (flips[0], flips[1], flips[2]), scale, shift, gamma, noise, blur, emptied)


def _draw_matrix(config: Augmentation, random: np.random.Generator) -> NDArray[np.float64]:
    angles = np.deg2rad(random.uniform(-config.affine_degrees, config.affine_degrees, size=3))
    scale = float(random.uniform(*config.affine_scale))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    return np.asarray(matrix / scale)  # a scale above 1 magnifies: a step in the patch is a smaller step in the volume


def vary(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    variation: Variation,
    patch: Shape,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Apply a variation: image float32 and label uint8 of the patch's size, contiguous.

    Args:
        image: normalised region of size `variation.region(patch)`.
        label: canonical codes of the same region.
        variation: what to do.
        patch: size of the result, z y x.
        random: generator of the noise.
    """
    if variation.matrix is not None:
        image, label = resample_affine(image, label, variation.matrix, patch)
    image, label = turned(image, variation), turned(label, variation)
    image, label = vary_intensity(np.ascontiguousarray(image), variation, random), np.ascontiguousarray(label)
    return (image, label) if variation.emptied is None else empty(image, label, variation.emptied)


def turned(array: NDArray[Any], variation: Variation) -> NDArray[Any]:
    """A view of the array after quarter turns and flips."""
    for a, b, turns in variation.quarter_turns:
        array = np.rot90(array, turns, axes=(a, b))
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in variation.flips)
    flipped: NDArray[Any] = array[steps]
    return flipped


def vary_intensity(
    image: NDArray[np.float32], variation: Variation, random: np.random.Generator
) -> NDArray[np.float32]:
    """Blur, noise, factor and shift, contrast curve: in the order in which a scanner and its user add them."""
    if variation.blur_sigma_voxels > 0:
        image = ndimage.gaussian_filter(image, variation.blur_sigma_voxels, mode="nearest", truncate=3.0)
    if variation.noise_std > 0:
        image = image + np.float32(variation.noise_std) * random.standard_normal(image.shape, dtype=np.float32)
    if variation.scale != 1.0 or variation.shift != 0.0:
        image = image * np.float32(variation.scale) + np.float32(variation.shift)
    if variation.gamma is not None:
        low, high = image.min(), image.max()
        if high > low:
            image = ((image - low) / (high - low)) ** np.float32(variation.gamma) * (high - low) + low
    return image


def resample_affine(
    image: NDArray[np.float32], label: NDArray[np.uint8], matrix: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Sample image and label on a grid turned and scaled about the common centre, in one compiled pass.

    The output voxel at offset d from the output's centre takes the value at offset `matrix @ d` from the input's
    centre. SciPy needs two passes, and 86 ms for the image of 128^3 alone.

    Args:
        image: float32 [Z, Y, X]; trilinear, beyond the border the nearest voxel.
        label: canonical codes of the same shape; nearest, beyond the border ignore.
        matrix: 3 x 3, z y x, output to input.
        shape: size of the output.
    """
    out_image = np.empty(shape, dtype=np.float32)
    out_label = np.empty(shape, dtype=np.uint8)
    start = first_coordinate(matrix, image.shape, shape)
    _resample(np.ascontiguousarray(image), np.ascontiguousarray(label), matrix, start, out_image, out_label, IGNORE)  # type: ignore[no-untyped-call]
    return out_image, out_label


def first_coordinate(matrix: NDArray[np.float64], region: Sequence[int], patch: Sequence[int]) -> NDArray[np.float64]:
    """Where in the region the patch's first voxel lies, z y x; both have the same centre."""
    start: NDArray[np.float64] = (np.asarray(region) - 1) / 2 - matrix @ ((np.asarray(patch) - 1) / 2)
    return start


@compiled
def _resample(image, label, matrix, start, out_image, out_label, outside):  # type: ignore[no-untyped-def]
    depth, height, width = image.shape
    slack = 1e-6  # coordinates that should be whole are not, by rounding
    for i in range(out_image.shape[0]):
        for j in range(out_image.shape[1]):
            row_z = start[0] + matrix[0, 0] * i + matrix[0, 1] * j
            row_y = start[1] + matrix[1, 0] * i + matrix[1, 1] * j
            row_x = start[2] + matrix[2, 0] * i + matrix[2, 1] * j
            for k in range(out_image.shape[2]):
                z = row_z + matrix[0, 2] * k
                y = row_y + matrix[1, 2] * k
                x = row_x + matrix[2, 2] * k
                inside = (
                    z >= -slack
                    and y >= -slack
                    and x >= -slack
                    and z <= depth - 1 + slack
                    and y <= height - 1 + slack
                    and x <= width - 1 + slack
                )
                z = min(max(z, 0.0), depth - 1.0)
                y = min(max(y, 0.0), height - 1.0)
                x = min(max(x, 0.0), width - 1.0)
                z0, y0, x0 = int(z), int(y), int(x)
                z1, y1, x1 = min(z0 + 1, depth - 1), min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                fz, fy, fx = np.float32(z - z0), np.float32(y - y0), np.float32(x - x0)
                a = image[z0, y0, x0] + fx * (image[z0, y0, x1] - image[z0, y0, x0])
                b = image[z0, y1, x0] + fx * (image[z0, y1, x1] - image[z0, y1, x0])
                c = image[z1, y0, x0] + fx * (image[z1, y0, x1] - image[z1, y0, x0])
                d = image[z1, y1, x0] + fx * (image[z1, y1, x1] - image[z1, y1, x0])
                near = a + fy * (b - a)
                far = c + fy * (d - c)
                out_image[i, j, k] = near + fz * (far - near)
                if inside:
                    out_label[i, j, k] = label[int(z + 0.5), int(y + 0.5), int(x + 0.5)]
                else:
                    out_label[i, j, k] = outside
