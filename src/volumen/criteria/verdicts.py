"""What can be said of a criterion, and how verdicts join through `and`, `or` and `not`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """How a criterion stands."""

    met = "met"
    failed = "failed"
    not_yet = "not yet"
    """The run can still decide it."""
    unreachable = "unreachable"
    """No run of this kind can meet it."""
    undecidable = "undecidable"
    """The margin lies within the noise, or nobody knows the number."""


SETTLED = (State.met, State.failed, State.unreachable)
"""Verdicts that a run does not take back, its noise apart."""


@dataclass(frozen=True)
class Verdict:
    """A criterion held against a run."""

    state: State
    sentence: str
    """Why, in words."""
    value: float | None = None
    """What was looked at, in the records' unit."""
    target: float | None = None
    """What it was held against."""
    epoch: int | None = None
    """Where it stands, from 1."""
    noise: float | None = None
    """Standard deviation of what was looked at less its target; None where it is not known."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "state": str(self.state)}


_OPPOSITE = {State.met: State.failed, State.failed: State.met, State.unreachable: State.met}


def opposite(verdict: Verdict) -> Verdict:
    """Of `not`: what cannot be reached is surely avoided; what is open stays open."""
    said = Verdict(**{**vars(verdict), "state": _OPPOSITE.get(verdict.state, verdict.state)})
    return said if said.state == verdict.state else Verdict(**{**vars(said), "sentence": f"not: {verdict.sentence}"})


def joined_by_and(parts: Sequence[Verdict]) -> Verdict:
    """One part that fails or cannot be reached decides; then an open one; then one within the noise."""
    order = (State.failed, State.unreachable, State.not_yet, State.undecidable, State.met)
    return _joined(parts, next(state for state in order if any(part.state is state for part in parts)))


def joined_by_or(parts: Sequence[Verdict]) -> Verdict:
    """One part that is met decides; then an open one; then one within the noise; unreachable where all parts are."""
    order = (State.met, State.not_yet, State.undecidable, State.failed, State.unreachable)
    return _joined(parts, next(state for state in order if any(part.state is state for part in parts)))


def _joined(parts: Sequence[Verdict], state: State) -> Verdict:
    """The parts that decide, in words; the numbers of the first of them."""
    deciding = [part for part in parts if part.state is state]
    first = deciding[0]
    sentence = "; ".join(dict.fromkeys(part.sentence for part in deciding))
    return Verdict(state, sentence, first.value, first.target, first.epoch, first.noise)
