"""What a criterion is judged by: the numbers of a run as plain values, whoever read them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from statistics import median

from volumen.criteria.quantities import quantity_of

Series = Mapping[int, float]
"""Values by epoch, counted from 1; NaN where there was a value to be had and none came, which satisfies nothing."""


@dataclass(frozen=True)
class Records:
    """A run, as far as it is."""

    series: Mapping[str, Series] = field(default_factory=dict)
    """By the names in `QUANTITIES`; of an evaluation, one value."""
    epochs: int = 0
    """That are done."""
    ended: bool = False
    planned: int | None = None
    """Epochs that were planned."""
    best: int | None = None
    """The epoch whose state is kept, by the selection metric."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation of one value around its series' course; absent where it cannot be told."""
    reach: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most that can be reached, as an audit measured it."""
    parent: "Records | None" = None

    def of(self, name: str) -> Series:
        """The series of a quantity by any of its names, in the order of the epochs."""
        found = self.series.get(_canonical(name), {})
        return {epoch: found[epoch] for epoch in sorted(found)}

    def noise_of(self, name: str) -> float | None:
        """Of one value; 0 of a quantity without noise, None where it cannot be told."""
        quantity = quantity_of(name)
        return 0.0 if quantity is None or not quantity.noisy else self.noise.get(quantity.name)

    def span_of(self, name: str) -> tuple[float, float]:
        """Least and most that a quantity can come to."""
        quantity = quantity_of(name)
        low, high = (-math.inf, math.inf) if quantity is None or quantity.span is None else quantity.span
        reach = self.reach.get(_canonical(name), (-math.inf, math.inf))
        return max(low, reach[0]), min(high, reach[1])


@dataclass(frozen=True)
class Value:
    """A number of a run, and where it stands."""

    number: float
    epoch: int | None
    """None where it stands for many."""
    noise: float | None
    """Standard deviation; None where it cannot be told."""


def last_until(series: Series, epoch: int) -> tuple[int, float] | None:
    """The last value up to an epoch, with its own."""
    before = list(takewhile(lambda item: item[0] <= epoch, series.items()))
    return before[-1] if before else None


def best_of(name: str, series: Series) -> tuple[int, float] | None:
    """The best value of a quantity with its epoch, the last where neither more nor less is better; None of nothing."""
    quantity = quantity_of(name)
    known = [item for item in series.items() if not math.isnan(item[1])]
    if not known:
        return None
    if quantity is None or quantity.better is None:
        return known[-1]
    return (max if quantity.better == "higher" else min)(known, key=lambda item: item[1])


def median_of(series: Series, noise: float | None) -> Value | None:
    """The middle of all values."""
    known = [value for value in series.values() if not math.isnan(value)]
    if not known:
        return None
    of_median = None if noise is None else noise * math.sqrt(math.pi / 2 / len(known))
    return Value(median(known), None, of_median)


def _canonical(name: str) -> str:
    quantity = quantity_of(name)
    return name if quantity is None else quantity.name
