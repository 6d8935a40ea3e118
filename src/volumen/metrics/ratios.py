"""What 0/0 is: no value. The one rule of every ratio that is ours; the leaderboard's own rules are the competition's.

Dice of two empty masks, precision of a mask that holds nothing, recall where there is nothing to find: none of them
says how well something was done. Such a ratio is NaN, a mean leaves it out, and people are shown a dash. Were it 1, a
model that predicts nothing would gain by volumes without surface; were it 0, a perfect one would lose by them.
"""

import math
from collections.abc import Iterable


def ratio(part: float, whole: float) -> float:
    """`part / whole`; NaN, no value, where there is nothing to divide by."""
    return float(part / whole) if whole else math.nan


def mean_of_known(values: Iterable[float]) -> float:
    """Mean of the values that are there; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return ratio(math.fsum(known), len(known))
