"""The CT scan of a phantom scroll: from papyrus density to 8-bit grey levels, with the faults of a real scan.

A simulated scan rather than clean sheets, because the faults are what defeats a threshold: the recto layer is only 15
to 20 % denser than the verso one, which is less than fibres, shading, rings and noise vary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from volumen.phantoms.geometry import FloatVolume, RandomStream, Sheets, enlarge, smooth_noise


@dataclass(frozen=True)
class ScanSettings:
    """One scroll's material and imaging: grey levels (0 to 255), lengths in voxels, else shares of the contrast."""

    air_grey: float = 86.0
    papyrus_grey: float = 145.0
    recto_density: float = 1.19  # relative to the verso layer's 1.0
    blur_voxels: float = 0.95
    fringe: float = 0.12  # phase-contrast overshoot along edges
    noise_grey: float = 2.6
    ring_grey: float = 1.3
    shading: float = 0.035


def material_density(random: RandomStream, sheets: Sheets, settings: ScanSettings) -> FloatVolume:
    """Density [Z,Y,X] of papyrus, debris and mineral grains, 0 for air and 1 for the verso layer.

    The layers differ in density, in the direction of their fibres and in how coarse these are; crumbs lie in the air
    and a few dense grains anywhere.
    """
    layer = 1 / (1 + np.exp(np.clip((sheets.depth_share - 0.5) * 14, -30, 30)))  # 1 in the recto layer, 0 in the verso
    recto = settings.recto_density * (1 + 0.08 * sheets.recto_fibres)
    # The verso layer thins out towards its face.
    verso = (1.03 - 0.15 * np.clip(sheets.depth_share - 0.6, 0, None)) * (1 + 0.11 * sheets.verso_fibres)
    grain = smooth_noise(random("grain"), sheets.occupancy.shape, 1.3)
    papyrus = (layer * recto + (1 - layer) * verso) * (1 + 0.07 * grain)
    crumbs = np.clip((grain - 2.1) * 1.5, 0, 0.7)
    minerals = 0.7 * np.clip(smooth_noise(random("minerals"), sheets.occupancy.shape, 0.9) - 4.0, 0, 1)
    density = sheets.occupancy * papyrus + (1 - sheets.occupancy) * crumbs + minerals
    return np.asarray(density, dtype=np.float32)


def _shading(random: np.random.Generator, shape: tuple[int, ...], spacing: int = 48) -> FloatVolume:
    """Beam hardening and detector drift: smooth noise with nodes of unit variance on a coarse grid."""
    nodes = random.standard_normal(tuple(length // spacing + 2 for length in shape), dtype=np.float32)
    return enlarge(nodes, shape, spacing)


def _rings(random: np.random.Generator, shape: tuple[int, ...]) -> FloatVolume:
    """Ring artefacts about the rotation axis: a sharp profile over the radius, slowly waxing and waning along z."""
    centre = random.uniform(-0.5, 1.5, 2) * shape[-2:]
    y = np.arange(shape[1], dtype=np.float64)[:, None] - centre[0]
    x = np.arange(shape[2], dtype=np.float64)[None, :] - centre[1]
    radius = np.hypot(y, x)
    profile = smooth_noise(random, (int(radius.max()) + 3,), 0.8)
    plane = np.interp(radius, np.arange(len(profile)), profile).astype(np.float32)
    along_z = 1 + 0.4 * smooth_noise(random, (shape[0],), min(12.0, shape[0] / 4))
    return np.asarray(along_z[:, None, None] * plane, dtype=np.float32)


def scan(random: RandomStream, sheets: Sheets, settings: ScanSettings) -> npt.NDArray[np.uint8]:
    """Image [Z,Y,X] of 8-bit grey levels: blur, phase fringe, shading, rings and correlated noise, in that order."""
    density = material_density(random, sheets, settings)
    shape = density.shape
    sharp = ndimage.gaussian_filter(density, settings.blur_voxels, truncate=3.0)
    fringed = sharp + settings.fringe * (sharp - ndimage.gaussian_filter(sharp, 2.0, truncate=3.0))
    image = settings.air_grey + (settings.papyrus_grey - settings.air_grey) * fringed
    image *= 1 + settings.shading * _shading(random("shading"), shape)
    image += settings.ring_grey * _rings(random("rings"), shape)
    image += settings.noise_grey * smooth_noise(random("noise"), shape, 0.7)
    return np.asarray(np.clip(np.rint(image), 0, 255), dtype=np.uint8)
