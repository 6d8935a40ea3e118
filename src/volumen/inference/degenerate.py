"""Tell a prediction that says nothing from one that says something, before anyone reads a number into it.

A whole volume of surface, none at all, the same share on every volume: such results look stable and are broken. A
range inside of [0.5, 0.731] betrays a sigmoid applied twice, since sigmoid maps [0, 1] onto exactly that interval.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALMOST_ALL = 0.99  # share of a volume: no sheet fills it
SECOND_SIGMOID = (0.5, 0.7310586)  # sigmoid(0) and sigmoid(1)
ROUNDING = 1e-4
CONSTANT_RANGE = 1e-3


@dataclass(frozen=True)
class Appearance:
    """What a prediction looks like from afar, without the truth."""

    id: str
    voxels: int
    surface_voxels: int
    probability_minimum: float | None = None
    """None where only a mask is known."""
    probability_maximum: float | None = None

    @property
    def surface_share(self) -> float:
        """Surface voxels among all voxels of the volume, 0..1."""
        return self.surface_voxels / self.voxels


def appearance_of(
    case_id: str, mask: NDArray[np.uint8], probabilities: NDArray[np.float32] | None = None
) -> Appearance:
    """Look at a mask [Z, Y, X] and, where there are any, at the probabilities behind it."""
    least = None if probabilities is None else float(probabilities.min())
    most = None if probabilities is None else float(probabilities.max())
    return Appearance(case_id, mask.size, int(np.count_nonzero(mask)), least, most)


def degenerate_warnings(appearances: Sequence[Appearance]) -> tuple[str, ...]:
    """What is wrong with predictions on sight, one sentence each; nothing for healthy ones."""
    found = [warning for appearance in appearances for warning in _of_one(appearance)]
    return (*found, *_identical(appearances))


def _of_one(one: Appearance) -> list[str]:
    found = []
    if one.surface_voxels == 0:
        found.append(f"{one.id}: no surface at all was predicted")
    elif one.surface_voxels == one.voxels:
        found.append(f"{one.id}: every voxel was predicted to be surface")
    elif one.surface_share > ALMOST_ALL:
        found.append(f"{one.id}: {100 * one.surface_share:.2f} % of the volume was predicted to be surface")
    if one.probability_minimum is None or one.probability_maximum is None:
        return found
    low, high = one.probability_minimum, one.probability_maximum
    shown = f"{one.id}: probabilities lie in [{low:.4f}, {high:.4f}]"
    if high - low < CONSTANT_RANGE:
        found.append(f"{shown}, almost the same everywhere: the prediction does not depend on the image")
    elif low >= SECOND_SIGMOID[0] - ROUNDING and high <= SECOND_SIGMOID[1] + ROUNDING:
        found.append(f"{shown}, inside of [0.5, 0.731]: a sigmoid was applied to what was already a probability")
    return found


def _identical(appearances: Sequence[Appearance]) -> list[str]:
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for one in appearances:
        if 0 < one.surface_voxels < one.voxels:
            groups[one.voxels, one.surface_voxels].append(one.id)
    return [
        f"{', '.join(ids)}: identical surface share {100 * surface / voxels:.4f} % on {len(ids)} different volumes: "
        "the prediction does not depend on the image"
        for (voxels, surface), ids in groups.items()
        if len(ids) > 1
    ]
