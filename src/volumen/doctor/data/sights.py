"""A volume among the others of its data set: the numbers that it is compared by."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from volumen.doctor.data.portraits import Portrait

FEWEST_TO_TURN = 4
"""Volumes from which on one of them may be called another's negative."""
ALIKE = 0.3
"""Share of the other volumes that may have the same fault: a volume is compared with those beyond them."""
FEWEST_SURFACE = 2500
"""Voxels of surface below which thickness, share and lookalikes scatter by themselves, as in volumes of 32^3."""

BODIES = 0.4
"""Share of the labelled voxels above which surface is bodies, not sheets."""
UNSURE_SURFACE = 10_000
"""Voxels of surface at which thickness scatters as much again as it differs: crops of 40^3 hold a handful of things."""
OF_A_FEW = 2.0
"""Times as much has to differ in a volume of fewer than `FEWEST_TO_TURN`: two others say little of what is usual."""

Number = Callable[[Portrait], float]
thickness: Number = attrgetter("thickness")
share: Number = attrgetter("share")
labelled: Number = attrgetter("labelled")
others_say: Number = attrgetter("others")
negative: Number = attrgetter("negative")
own: Number = attrgetter("own")
grey: Number = attrgetter("grey")
lookalike: Number = attrgetter("lookalike")
constant: Number = attrgetter("constant")
noise: Number = attrgetter("noise")
far: Number = attrgetter("far")


@dataclass(frozen=True)
class Sight:
    """A volume among the others."""

    mine: Portrait
    others: tuple[Portrait, ...]

    @property
    def several(self) -> bool:
        """Whether there are enough volumes to say what is usual."""
        return len(self.others) + 1 >= FEWEST_TO_TURN

    def usual(self, number: Number) -> float:
        """Median over the other volumes; NaN where none of them has the number."""
        known = [value for one in self.others if np.isfinite(value := number(one))]
        return float(np.median(known)) if known else float("nan")

    def apart(self, number: Number) -> float:
        """Difference from the nearest of the others but those few that may have the same fault; 0 if not known.

        What other volumes have as well is no fault of this one: the nearest 30 % of the others are passed over, and the
        next one counts.
        """
        value = number(self.mine)
        away = sorted(value - other for one in self.others if np.isfinite(other := number(one)))
        if not away or not np.isfinite(value):
            return 0.0
        if away[0] < 0 < away[-1] and len(away) < FEWEST_TO_TURN:
            return 0.0
        nearest = sorted(away, key=abs)
        return nearest[min(int(ALIKE * len(nearest)), len(nearest) - 1)]

    def scatter(self, number: Number) -> float:
        """Median distance of the other volumes from their median."""
        known = np.array([value for one in self.others if np.isfinite(value := number(one))])
        return float(np.median(np.abs(known - np.median(known)))) if known.size else float("nan")


def log_thickness(one: Portrait) -> float:
    return float(np.log(one.thickness)) if one.thickness > 0 else float("nan")


def log_odds(one: Portrait) -> float:
    return float(np.log(one.share / (1 - one.share))) if 0 < one.share < 1 else float("nan")


def fineness(one: Portrait) -> float:
    return float(np.mean(one.fineness))


def unevenness(axis: int) -> Number:
    """How much finer an axis is than the two others."""
    return lambda one: one.fineness[axis] - float(np.mean([one.fineness[other] for other in range(3) if other != axis]))


def thickness_differs(sight: Sight, least: float) -> bool:
    """Whether a volume's thickness means something beside that of the others, and differs by so much, as a logarithm.

    Where most of what is labelled is surface, or there is little of it, thickness says where a volume was cut out.
    """
    enough = min(sight.mine.surface, *(one.surface for one in sight.others)) >= FEWEST_SURFACE / 2
    bar = least if sight.several else OF_A_FEW * least
    bar *= (1 + UNSURE_SURFACE / max(sight.mine.surface, 1)) ** 0.5
    return enough and sight.usual(share) < BODIES and abs(sight.apart(log_thickness)) > bar
