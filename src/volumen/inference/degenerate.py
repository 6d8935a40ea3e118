"""Tell a prediction that says nothing from one that says something, before anyone reads a number into it.

A whole volume of surface, none at all, the same share on every volume: such results look stable and are broken. A
range inside of [0.5, 0.731] betrays a sigmoid applied twice, since sigmoid maps [0, 1] onto exactly that interval.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ALMOST_ALL = 0.99  # share of a volume: no sheet fills it
SECOND_SIGMOID = (0.5, 0.7310586)  # sigmoid(0) and sigmoid(1)
ROUNDING = 1e-4
CONSTANT_RANGE = 1e-3
Kind = Literal["no_surface", "all_surface", "almost_all_surface", "constant", "second_sigmoid", "identical_share"]


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


@dataclass(frozen=True)
class Symptom:
    """Something that no sound prediction shows."""

    kind: Kind
    cases: tuple[str, ...]
    cause: str
    """What is seen and what it means, without the cases."""

    @property
    def sentence(self) -> str:
        """The cases and the cause."""
        return f"{', '.join(self.cases)}: {self.cause}"


def appearance_of(
    case_id: str,
    mask: NDArray[np.uint8],
    probabilities: NDArray[np.float32] | None = None,
    occupied: NDArray[np.bool_] | None = None,
) -> Appearance:
    """Look at a mask and, where there are any, at the probabilities behind it.

    Args:
        case_id: The volume.
        mask: 0 and 1, [Z, Y, X].
        probabilities: 0..1, [Z, Y, X].
        occupied: Where the scan holds something, [Z, Y, X]: the range of the probabilities is taken there, since
            elsewhere no network was asked.
    """
    surface = int(np.count_nonzero(mask))
    if probabilities is None:
        return Appearance(case_id, mask.size, surface)
    where = True if occupied is None or not occupied.any() else occupied
    least, most = probabilities.min(where=where, initial=1.0), probabilities.max(where=where, initial=0.0)
    return Appearance(case_id, mask.size, surface, float(least), float(most))


def symptoms_of(appearances: Sequence[Appearance]) -> tuple[Symptom, ...]:
    """What is wrong with predictions on sight; nothing for healthy ones."""
    found = [Symptom(kind, (one.id,), cause) for one in appearances for kind, cause in _of_one(one)]
    return (*found, *_identical(appearances))


def degenerate_warnings(appearances: Sequence[Appearance]) -> tuple[str, ...]:
    """What is wrong with predictions on sight, one sentence each; nothing for healthy ones."""
    return tuple(symptom.sentence for symptom in symptoms_of(appearances))


def _of_one(one: Appearance) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    if one.surface_voxels == 0:
        found.append(("no_surface", "no surface at all was predicted"))
    elif one.surface_voxels == one.voxels:
        found.append(("all_surface", "every voxel was predicted to be surface"))
    elif one.surface_share > ALMOST_ALL:
        share = f"{100 * one.surface_share:.2f} % of the volume was predicted to be surface"
        found.append(("almost_all_surface", share))
    if one.probability_minimum is None or one.probability_maximum is None:
        return found
    low, high = one.probability_minimum, one.probability_maximum
    shown = f"probabilities lie in [{low:.4f}, {high:.4f}]"
    if high - low < CONSTANT_RANGE:
        found.append(("constant", f"{shown}, almost the same everywhere: the prediction does not depend on the image"))
    elif low >= SECOND_SIGMOID[0] - ROUNDING and high <= SECOND_SIGMOID[1] + ROUNDING:
        cause = f"{shown}, inside of [0.5, 0.731]: a sigmoid was applied to what was already a probability"
        found.append(("second_sigmoid", cause))
    return found


def _identical(appearances: Sequence[Appearance]) -> list[Symptom]:
    groups: dict[tuple[int, int], list[str]] = defaultdict(list)
    for one in appearances:
        if 0 < one.surface_voxels < one.voxels:
            groups[one.voxels, one.surface_voxels].append(one.id)
    return [
        Symptom(
            "identical_share",
            tuple(ids),
            f"identical surface share {100 * surface / voxels:.4f} % on {len(ids)} different volumes: "
            "the prediction does not depend on the image",
        )
        for (voxels, surface), ids in groups.items()
        if len(ids) > 1
    ]
