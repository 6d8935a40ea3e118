"""From probabilities to the mask by the configuration's settings, in one fixed order.

Closing comes before filling, because it plugs the pinholes that keep a cavity open, and small components go last, when
fragments that belong together have been joined.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing
from volumen.postprocess.steps import Mask, close, fill_holes, remove_small_components, threshold

# Setting by step, in the order of application; a setting of 0 leaves its step out.
STEPS: dict[str, Callable[[Mask, int], Mask]] = {
    "closing_radius_voxels": close,
    "maximum_hole_voxels": fill_holes,
    "minimum_component_voxels": remove_small_components,
}


def apply_pipeline(probabilities: NDArray[np.float32], settings: Postprocessing) -> Mask:
    """Threshold probabilities and clean up.

    Args:
        probabilities: float32 [Z, Y, X].
        settings: Threshold and steps.

    Returns:
        Mask, uint8 [Z, Y, X], 0 or 1.
    """
    return clean(threshold(probabilities, settings.threshold), settings)


def clean(mask: Mask, settings: Postprocessing) -> Mask:
    """Every step after the threshold, on a mask uint8 [Z, Y, X] of 0 and 1; the mask given is not changed."""
    for setting, step in STEPS.items():
        mask = step(mask, getattr(settings, setting))
    return np.ascontiguousarray(mask)


def describe(settings: Postprocessing) -> str:
    """The steps in words, for a person."""
    steps = [f"probability above {settings.threshold:g}"]
    if settings.closing_radius_voxels:
        side = 2 * settings.closing_radius_voxels + 1
        steps.append(f"closed with a cube of {side} voxels")
    if settings.maximum_hole_voxels:
        steps.append(f"cavities up to {settings.maximum_hole_voxels} voxels filled")
    if settings.minimum_component_voxels > 1:
        steps.append(f"components below {settings.minimum_component_voxels} voxels removed")
    return ", ".join(steps)
