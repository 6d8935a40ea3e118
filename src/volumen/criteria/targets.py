"""What a value is held against: a range of numbers, and how far a value has to lie from its ends to decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volumen.criteria.quantities import UNITS, Dimension, quantity_of
from volumen.criteria.records import Value
from volumen.criteria.verdicts import State, Verdict

NOISE_DEVIATIONS = 2.0
"""Standard deviations up to which a margin is called noise, as for everything that is preferred."""


@dataclass(frozen=True)
class Target:
    """Numbers from `low` to `high`."""

    quantity: str
    low: float
    high: float
    inclusive: bool
    noise: float | None = 0.0
    """Of the ends, where they are a parent's."""
    unit: str = ""
    """In which numbers are said."""

    @property
    def asks_for_less(self) -> bool:
        """Whether small values are asked for."""
        return math.isinf(self.low)

    def margin(self, value: float) -> float:
        """How far a value lies inside; negative outside, and as far outside as can be for no value."""
        return -math.inf if math.isnan(value) else min(value - self.low, self.high - value)

    def deviation(self, value: Value) -> float | None:
        """Noise of the margin."""
        if value.noise is None or self.noise is None:
            return None
        return math.hypot(value.noise, self.noise)

    def noise_known(self, value: Value) -> bool:
        """Whether it is."""
        return self.deviation(value) is not None

    def side(self, value: Value, ended: bool) -> bool | None:
        """Whether a value lies inside; None where noise leaves it open, or is not known while the run goes on."""
        margin, deviation = self.margin(value.number), self.deviation(value)
        if math.isinf(margin):
            return margin > 0
        if deviation is None and not ended:
            return None
        if deviation and abs(margin) <= NOISE_DEVIATIONS * deviation:
            return None
        return margin >= 0 if self.inclusive else margin > 0

    def beyond(self, least: float, most: float) -> bool:
        """Whether nothing between `least` and `most` lies inside."""
        if self.inclusive:
            return self.high < least or self.low > most
        return self.high <= least or self.low >= most

    def best_of(self, values: Sequence[Value]) -> Value | None:
        """The value that lies farthest inside."""
        return max(values, key=lambda value: self.margin(value.number), default=None)

    def worst_of(self, values: Sequence[Value]) -> Value | None:
        """The value that lies farthest outside."""
        return min(values, key=lambda value: self.margin(value.number), default=None)

    def said(self, number: float) -> str:
        """A number for people, in the criterion's own unit."""
        return said_in(self.quantity, number, self.unit)

    def sentence(self, value: Value, side: bool | None, where: str, ended: bool) -> str:
        """The value, where it stands, what was asked for, and the noise where it matters."""
        place = where or f" in epoch {value.epoch}"
        if math.isnan(value.number):
            return f"{self.quantity} had no value{place}"
        number = self.said(value.number)
        text = f"{self.quantity} {number}{place}"
        deviation = self.deviation(value)
        if deviation is None:
            few = "fewer than five values do not tell its noise" if ended else "its noise is known after five values"
            return f"{text}; {few}"
        if side is None:
            return f"{text}; a margin up to {self.said(NOISE_DEVIATIONS * deviation)} is noise (two deviations)"
        return text

    def verdict(self, state: State, sentence: str, value: Value) -> Verdict:
        """With the numbers: the value and the end of the range that is nearest to it."""
        ends = [end for end in (self.low, self.high) if math.isfinite(end)]
        target = min(ends, key=lambda end: abs(end - value.number), default=None)
        number = None if math.isnan(value.number) else value.number
        return Verdict(state, sentence, number, target, value.epoch, self.deviation(value))


def said_in(quantity: str, number: float, unit: str) -> str:
    """A number of a quantity for people, in a unit of its own."""
    known = quantity_of(quantity)
    units = UNITS[Dimension.number if known is None else known.dimension]
    unit = unit if unit in units else next(iter(units))
    text = f"{number / units[unit]:.4g}"
    return f"{text}{unit}" if unit in ("", "%") else f"{text} {unit}"
