"""What one line or point of a log says, whatever its format."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from volumen.logs.names import Meaning

Series: TypeAlias = "array[float]"


@dataclass(frozen=True)
class Reading:
    """A number and what it is."""

    meaning: Meaning
    value: float
    count: int = 1
    """Of values that it is the mean of."""


@dataclass
class Row:
    """What is said at one moment of a training."""

    readings: list[Reading] = field(default_factory=list)
    epoch: float | None = None
    """As the log counts."""
    step: int | None = None
    fine: bool = False
    """Of a part of an epoch: a progress bar, a batch."""


@dataclass(frozen=True)
class Told:
    """Something that was done to the training or happened to it."""

    kind: str
    numbers: dict[str, float] = field(default_factory=dict)
    text: str = ""
    epoch: float | None = None


@dataclass
class Tally:
    """What a reader could not read, counted."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, line: int) -> None:
        """Count a line; `what` says in the plural which, such as `lines that are no JSON`."""
        self.counts[what] = self.counts.get(what, 0) + 1
        self.first.setdefault(what, line)

    def sentences(self) -> Iterator[str]:
        """A sentence each."""
        for what, count in self.counts.items():
            yield f"{what}: {count}, the first is line {self.first[what]}"


Said = Row | Told
