"""Which trial gets more steps, which is left where it is: asynchronous successive halving, as pure functions.

Every trial is trained to the first rung. Of those that reached a rung, the best share goes on to the next one, as soon
as it is known to be among them; nobody waits for a rung to be full. A trial that goes on does so from its checkpoint.
Trial 0 is the configuration itself and is always trained to the end: it is what all are compared with.

Source: L. Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020 (ASHA).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from volumen.errors import UserError

Value = bool | int | float | str
BASELINE = 0
STOPPED = "stopped at"
"""Begins the reason of a trial that others were better than at a rung; every other reason is a failure."""


@dataclass(frozen=True)
class Claim:
    """Who works on a trial, and how far it is to go."""

    rung: int
    """Index of the rung that is to be reached."""
    token: str = ""
    """Of the worker; empty where nobody has it."""
    machine: str = ""
    process: int = 0
    deaths: int = 0
    """Workers that ended, one after the other, before they had saved anything new of it."""
    at: int = 0
    """Steps that were saved when it was claimed."""


@dataclass(frozen=True)
class Entry:
    """A trial as the journal has it."""

    number: int
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """By factor; none of them is the configuration's own value."""
    values: tuple[float, ...] = ()
    """Of the metric, at the rungs that were reached; higher is better."""
    claim: Claim | None = None
    reason: str = ""
    """Why it ended without reaching the last rung."""
    seconds: float = 0.0
    of: int = 0
    """Of a repeat: the trial that is repeated."""
    seed: int = 0
    """Of a repeat."""

    def is_ended(self, rungs: Sequence[int]) -> bool:
        """Whether nothing more is done with it."""
        return bool(self.reason) or len(self.values) >= len(rungs)

    def is_wanted(self, rungs: Sequence[int]) -> bool:
        """Whether it is to reach a rung that it has not reached, whoever works on it."""
        return not self.is_ended(rungs) and self.claim is not None and self.claim.rung >= len(self.values)


@dataclass(frozen=True)
class Promote:
    """Go on with a trial, to a rung."""

    number: int
    rung: int


NEW, WAIT, DONE = "new", "wait", "done"


def rungs_of(epochs: int, reduction: int, first: int | None = None, most: int = 3) -> tuple[int, ...]:
    """Epochs at which trials are compared; the last is the whole length.

    Args:
        epochs: Of a whole trial.
        reduction: One of so many goes on; lengths grow by the same factor. 1 is no halving.
        first: Epochs of the first rung; None divides the length by the factor, at most `most - 1` times.
        most: Rungs where `first` is None.

    Raises:
        UserError: The first rung is not within the trial.
    """
    if first is not None and not 1 <= first <= epochs:
        raise UserError(f"the first rung must be from 1 to {epochs} epochs, the length of a trial, got {first}")
    if reduction == 1:
        return (epochs,)
    if first is None:
        first = epochs
        for _ in range(most - 1):
            first = max(1, round(first / reduction))
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= reduction
    return (*rungs, epochs)


def next_job(entries: Sequence[Entry], rungs: Sequence[int], reduction: int, trials: int) -> Promote | str:
    """What is to be done next, beside trials that somebody should be working on already.

    Args:
        entries: All trials so far.
        rungs: As `rungs_of` gives them.
        reduction: One of so many goes on.
        trials: How many there are to be.

    Returns:
        A trial to go on with, or NEW (begin one), WAIT (others have to end first), DONE.
    """
    begun = len(entries) >= trials
    if entries and not entries[BASELINE].is_ended(rungs) and not entries[BASELINE].is_wanted(rungs):
        return Promote(BASELINE, len(entries[BASELINE].values))
    running = any(one.is_wanted(rungs) for one in entries)
    for rung in reversed(range(len(rungs) - 1)):
        found = promotable(entries, rungs, rung, reduction, least=1 if begun and not running else 0)
        if found is not None:
            return Promote(found, rung + 1)
    if not begun:
        return NEW
    return WAIT if running else DONE


def promotable(entries: Sequence[Entry], rungs: Sequence[int], rung: int, reduction: int, least: int = 0) -> int | None:
    """The best trial that has earned the rung after this one and was not sent there; None where there is none."""
    reached = [one for one in entries if one.number != BASELINE and len(one.values) > rung and not one.reason]
    share = max(len(reached) // reduction, least)
    best = sorted(reached, key=lambda one: (-one.values[rung], one.number))[:share]
    for one in best:
        if len(one.values) == rung + 1 and not one.is_wanted(rungs):
            return one.number
    return None


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """Trials that have a value: furthest rung first, then the best value, then the first begun."""
    known = [one for one in entries if one.values]
    return sorted(known, key=lambda one: (-len(one.values), -one.values[-1], one.number))
