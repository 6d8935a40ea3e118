"""Tell a prediction that says nothing from one that says something, before anyone reads a number into it.

A whole volume of surface, none at all, the same share on every volume: such results look stable and are broken. A
range inside of [0.5, 0.731] betrays a sigmoid applied twice, since sigmoid maps [0, 1] onto exactly that interval.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from volumen.data.emptiness import in_words
from volumen.system.records import Count, Share, Word

ALMOST_ALL = 0.99  # share of a volume: no sheet fills it
SECOND_SIGMOID = (0.5, 0.7310586)  # sigmoid(0) and sigmoid(1)
ROUNDING = 1e-4
CONSTANT_RANGE = 1e-3
Kind = Literal["no_surface", "all_surface", "almost_all_surface", "constant", "second_sigmoid", "identical_share"]


@dataclass(frozen=True)
class Appearance:
    """What a prediction looks like from afar, without the truth."""

    id: Word
    voxels: Annotated[int, Field(ge=1, le=2**48)]
    surface_voxels: Count
    probability_minimum: Share | None = None
    """None where only a mask is known."""
    probability_maximum: Share | None = None
    empty_voxels: Count = 0
    """Where the scan holds nothing."""
    empty_values: tuple[int, ...] = ()
    """Grey values that were taken for empty."""

    @property
    def is_empty(self) -> bool:
        """Whether the scan holds nothing: no surface is right then."""
        return self.empty_voxels == self.voxels

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
    scan: NDArray[np.bool_] | None = None,
    empty_values: tuple[int, ...] = (),
) -> Appearance:
    """Look at a mask [Z, Y, X] and, where there are any, at the probabilities behind it.

    The range of the probabilities is taken where the scan holds something, since elsewhere no network was asked;
    `empty_values` is what was taken for empty.
    """
    empty = 0 if scan is None else mask.size - int(np.count_nonzero(scan))
    where = True if scan is None or empty == mask.size else scan
    least, most = None, None
    if probabilities is not None:
        least = float(probabilities.min(where=where, initial=1.0))
        most = float(probabilities.max(where=where, initial=0.0))
    return Appearance(case_id, mask.size, int(np.count_nonzero(mask)), least, most, empty, empty_values)


def symptoms_of(appearances: Sequence[Appearance]) -> tuple[Symptom, ...]:
    """What is wrong with predictions on sight; nothing for healthy ones."""
    found = [Symptom(kind, (one.id,), cause) for one in appearances for kind, cause in _of_one(one)]
    return (*found, *_identical(appearances))


def emptiness_notes(appearances: Sequence[Appearance]) -> tuple[str, ...]:
    """What was taken for empty, where that is another value than 0 or most of a volume; one sentence for each."""
    return tuple(
        f"{one.id}: {in_words(one.empty_values, one.empty_voxels / one.voxels)}"
        for one in appearances
        if one.empty_voxels and (one.empty_values != (0,) or one.empty_voxels > 0.5 * one.voxels)
    )


def degenerate_warnings(appearances: Sequence[Appearance]) -> tuple[str, ...]:
    """What is wrong with predictions on sight, one sentence each; nothing for healthy ones."""
    return tuple(symptom.sentence for symptom in symptoms_of(appearances))


def _of_one(one: Appearance) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = []
    scan_voxels = one.voxels - one.empty_voxels
    if one.is_empty:  # nobody was asked
        return found
    if one.surface_voxels == 0:
        found.append(("no_surface", "no surface at all was predicted"))
    elif one.surface_voxels == scan_voxels:
        found.append(("all_surface", "every voxel was predicted to be surface"))
    elif one.surface_voxels > ALMOST_ALL * scan_voxels:
        share = f"{100 * one.surface_voxels / scan_voxels:.2f} % of the volume was predicted to be surface"
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
            "the prediction does not depend on the image, or these are one scan in several files",
        )
        for (voxels, surface), ids in groups.items()
        if len(ids) > 1
    ]
