"""What the values of masks and labels that are scored mean: said, or one of the usual ways, and never guessed.

The leaderboard takes whatever is neither 0 nor ignored for surface. So a truth that calls unlabelled voxels 255 scores
a perfect mask below 1, and one whose sheets are numbered leaves sheet 2 out, which it calls unlabelled.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import BACKGROUND, IGNORE, MASK, SEEN, SURFACE, undeclared
from volumen.errors import UserError
from volumen.metrics.masks import checked_pair

ANY = "any"
NOTHING_IGNORED = -1
"""An ignore label that no label has."""
_LONGEST_DIGITS = 18


@dataclass(frozen=True)
class Values:
    """What values mean: 0 is background."""

    surface: frozenset[int] | None = frozenset((SURFACE,))
    """Values that are surface; None takes all that are neither 0 nor ignored."""
    ignore: int = IGNORE
    """Of the truth: voxels that nobody labelled."""


USUAL = Values()


def values_of(surface: str | None, ignore: int | None) -> Values:
    """What a person says of the values.

    Args:
        surface: Whole numbers separated by commas, or `any`; None for 1.
        ignore: The label of unlabelled voxels; None for 2.

    Raises:
        UserError: These are no values, or one means two things.
    """
    label = IGNORE if ignore is None else ignore
    if surface is None:
        return Values(frozenset((SURFACE,)) - {label}, label)
    if surface.strip().lower() == ANY:
        if ignore is None:
            raise UserError(
                f"--surface {ANY} takes every value for surface but 0 and the ignored one: say which that is with "
                f"--ignore-label ({NOTHING_IGNORED} where every voxel is labelled)"
            )
        return Values(None, label)
    parts = [part.strip() for part in surface.split(",")]
    if not all(part.isdecimal() and len(part) <= _LONGEST_DIGITS and int(part) for part in parts):
        raise UserError(f"--surface must be whole numbers above 0, such as 1,3, or {ANY}, got {surface:.80}")
    values = frozenset(map(int, parts))
    if label in values:
        raise UserError(
            f"--surface has {label}, which is the label of ignored voxels too: say another one with --ignore-label "
            f"({NOTHING_IGNORED} where every voxel is labelled)"
        )
    return Values(values, label)


def refuse_undeclared(
    prediction: NDArray[Any], truth: NDArray[Any], values: Values, files: tuple[object, object]
) -> None:
    """Refuse a mask or a label whose values nobody declared; of all others 0 is background and the rest surface.

    A prediction may hold 0 and 255 in place of 0 and 1, and the ignored label where the truth has it.

    Raises:
        UserError: Names the values, and what to say about them; or the two are no masks of one shape.
    """
    predicted, true = checked_pair(prediction, truth)
    if values.surface is None:
        return
    meant = {BACKGROUND, *values.surface}
    if strange := undeclared(true, {*meant, values.ignore}):
        expected = f"{_listed(meant)} and {values.ignore} (ignored)" if values.ignore >= 0 else _listed(meant)
        raise UserError(
            f"{files[1]} (truth) holds {strange}, expected {expected}: say what they are: --ignore-label VALUE for "
            f"voxels that nobody labelled, --surface {_listed(values.surface)},VALUE for surface, or --surface {ANY} "
            f"--ignore-label {NOTHING_IGNORED} where sheets are numbered and all is labelled"
        )
    unseen = np.where((predicted == values.ignore) & (true == values.ignore), BACKGROUND, predicted)
    strange = undeclared(unseen, {*meant, *MASK})
    if strange and undeclared(unseen, SEEN):
        raise UserError(
            f"{files[0]} (prediction) holds {strange}, expected {_listed(meant)} (or 0 and 255): say --surface "
            f"{_listed(values.surface)},VALUE for values that are surface, or --surface {ANY} --ignore-label "
            f"{values.ignore} if all but 0 is, or write a mask of 0 and 1"
        )


def _listed(values: "frozenset[int] | set[int]") -> str:
    return ",".join(map(str, sorted(values)))
