"""Seconds that are known within a range."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOW, HIGH = 10, 90  # percentiles


@dataclass(frozen=True)
class Span:
    """Seconds: what is expected, and from where to where it may lie."""

    low: float
    middle: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def times(self, factor: float) -> "Span":
        """Of `factor` (at least 0) such."""
        return Span(self.low * factor, self.middle * factor, self.high * factor)

    def within(self, factor: float) -> "Span":
        """The middle, uncertain by a factor."""
        return Span(self.middle / factor, self.middle, self.middle * factor)


NOTHING = Span(0.0, 0.0, 0.0)


def exactly(seconds: float) -> Span:
    """A span without uncertainty."""
    return Span(seconds, seconds, seconds)


def span_of(seconds: Sequence[float]) -> Span:
    """The mean, of which a sum of many consists, between the 10 % and the 90 % quantile."""
    low, high = np.percentile(seconds, (LOW, HIGH))
    middle = float(np.mean(seconds))
    return Span(min(float(low), middle), middle, max(float(high), middle))
