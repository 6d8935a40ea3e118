"""A run made small: the same code paths, on patches and a network that take milliseconds.

What is made small here (patch, tile, network) is judged at its full size elsewhere in a rehearsal: the network by the
shapes of its parameters, the patch by where patches of that size are drawn, the tile by the tiles of whole volumes.
"""

from collections.abc import Sequence
from typing import Any

from volumen.config.data import Augmentation, Patch, Sampling
from volumen.config.model import ResEncModel, UNetModel
from volumen.config.schema import Config
from volumen.data.augment import Variation, draw_variation
from volumen.data.randomness import generator
from volumen.doctor.reads import Reads

SIDE_VOXELS = 24
FILTERS, DEPTH, SIZE = 2, 2, "S"
SAMPLES = 4096
"""Samples looked through for those that show each augmentation: one of probability 0.002 is missed once in 3600."""
ANYWHERE = Sampling(patches_per_epoch=SAMPLES, surface_share=1.0, jitter_voxels=0, minimum_valid_share=0.0)
"""Where the small patches lie says nothing of where the run's own do."""


def miniature(config: Config) -> Config:
    """The small run of a configuration.

    Sides of patch and tile that are equal stay equal and others stay different, because quarter turns look at that.
    MONAI's networks are left as they are: nothing is known of their arguments.
    """
    model: Any = config.model.model_copy(update={"initial_weights": None})
    if isinstance(model, UNetModel):
        model = model.model_copy(update={"filters": min(model.filters, FILTERS), "depth": min(model.depth, DEPTH)})
    elif isinstance(model, ResEncModel):
        model = model.model_copy(update={"size": SIZE})
    unit = config.model_copy(update={"model": model}).divisor
    data = config.data.model_copy(update={"patch": _small(config.data.patch, unit), "sampling": ANYWHERE})
    tile = config.inference.tile
    inference = config.inference.model_copy(update={"tile": None if tile is None else _small(tile, unit)})
    return config.model_copy(update={"model": model, "data": data, "inference": inference})


def without_replaced(reads: Reads) -> Reads:
    """What was read on a small run, without the values that are not the configuration's own there."""
    return Reads({key for key in reads.keys if not key.startswith("data.sampling.")}, reads.sections)


def _small(sides: Patch, unit: int) -> Patch:
    """Sides of at least 24 voxels (or as they are, where all are at most that), multiples of `unit`."""
    if max(sides) <= SIDE_VOXELS:
        return sides
    least = -(-SIDE_VOXELS // unit)
    rank = {side: (least + place) * unit for place, side in enumerate(sorted(set(sides)))}
    return rank[sides[0]], rank[sides[1]], rank[sides[2]]


def telling_samples(augmentation: Augmentation, patch: Patch, seed: int, first: int) -> tuple[int, ...]:
    """Indices of samples that between them show every augmentation: the first few, and for each kind one that has it.

    Args:
        augmentation: With `rotations` other than auto.
        patch: z y x.
        seed: Of the run.
        first: How many of the first samples are taken in any case.
    """
    wanted = {
        "affine": augmentation.affine_probability,
        "intensity": augmentation.intensity_probability,
        "gamma": augmentation.gamma_probability,
        "noise": augmentation.noise_probability if augmentation.noise_std[1] > 0 else 0.0,
        "blur": augmentation.blur_probability if augmentation.blur_sigma_voxels[1] > 0 else 0.0,
    }
    missing = {name for name, probability in wanted.items() if probability > 0}
    chosen = list(range(first))
    for index in range(SAMPLES):
        if not missing:
            break
        shown = _shown(draw_variation(augmentation, patch, generator(seed, 0, index, "augmentation"))) & missing
        if shown:
            missing -= shown
            chosen.append(index)
    return tuple(sorted(set(chosen)))


def _shown(variation: Variation) -> set[str]:
    seen: Sequence[tuple[str, bool]] = (
        ("affine", variation.matrix is not None),
        ("intensity", variation.scale != 1.0 or variation.shift != 0.0),
        ("gamma", variation.gamma is not None),
        ("noise", variation.noise_std > 0),
        ("blur", variation.blur_sigma_voxels > 0),
    )
    return {name for name, there in seen if there}
