"""What of a held-out volume is validated: all of it, or crops that are a function of the seed."""

from collections.abc import Sequence

import numpy as np

from volumen.config.optimisation import CropValidation
from volumen.config.schema import Config
from volumen.data.labels import IGNORE, Lesson
from volumen.data.packed import Region, Volume
from volumen.data.randomness import generator

DRAWS = 20


def validation_regions(config: Config, label: Volume | Lesson, number: int, epoch: int) -> list[Region]:
    """The regions of one held-out volume on which a validation looks.

    Args:
        config: Protocol, training patch and seed.
        label: Canonical codes [Z, Y, X] of which is learned.
        number: Of the volume among those held out.
        epoch: Of the validation; crops depend on it only where the protocol draws fresh ones.

    Returns:
        The whole volume, or crops with at least one labelled voxel each (the whole where twenty draws find none).
    """
    protocol = config.training.validation
    whole = _region((0, 0, 0), label.shape)
    if not isinstance(protocol, CropValidation):
        return [whole]
    crop = protocol.crop or config.data.patch
    random = generator(config.seed, epoch if protocol.fresh else 0, number, "validation")
    return [_labelled_crop(label, crop, random) or whole for _ in range(protocol.per_volume)]


def _labelled_crop(label: Volume | Lesson, crop: tuple[int, int, int], random: np.random.Generator) -> Region | None:
    for _ in range(DRAWS):
        start = [
            int(random.integers(max(side - length, 0) + 1)) for side, length in zip(label.shape, crop, strict=True)
        ]
        region = _region(start, crop)
        if np.any(label[region] != IGNORE):
            return region
    return None


def _region(start: Sequence[int], size: Sequence[int]) -> Region:
    z, y, x = (slice(first, first + side) for first, side in zip(start, size, strict=True))
    return z, y, x
