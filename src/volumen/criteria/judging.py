"""Criteria held against the records of a run, while it goes on and at its end.

A value decides where it lies beyond its target by more than twice the noise. Noise is known from five values on; before
that a run that goes on is not judged by a noisy quantity, and one that has ended is judged by the value alone.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from volumen.criteria.changes import judge_change, judge_improvement
from volumen.criteria.grammar import (
    All,
    Amount,
    AnyOf,
    Comparison,
    Criterion,
    Improves,
    NoChange,
    Not,
    OfParent,
    Statement,
    When,
    Within,
    known_quantity,
)
from volumen.criteria.records import Records, Series, Value, best_of, last_until, median_of
from volumen.criteria.targets import Target
from volumen.criteria.verdicts import State, Verdict, joined_by_and, joined_by_or, opposite

_USUAL = {"best": When("best"), "end": When("end"), "every": When("from", 1)}


def judge(criterion: Criterion, records: Records) -> Verdict:
    """How a criterion stands."""
    if isinstance(criterion, All):
        return joined_by_and([judge(part, records) for part in criterion.parts])
    if isinstance(criterion, AnyOf):
        return joined_by_or([judge(part, records) for part in criterion.parts])
    if isinstance(criterion, Not):
        return opposite(judge(criterion.part, records))
    missing = _missing(criterion, records)
    if missing is not None:
        return missing
    if isinstance(criterion, NoChange):
        return judge_change(criterion, records)
    if isinstance(criterion, Improves):
        return judge_improvement(criterion, records)
    return _judge_value(criterion, records)


def _missing(statement: Statement, records: Records) -> Verdict | None:
    """What is to be said where the records do not know the quantity."""
    quantity, series = known_quantity(statement), records.of(statement.quantity)
    if series:
        return None
    if quantity.usual == "whole":
        return Verdict(State.not_yet, f"{statement.quantity} is known after volumen evaluate")
    if records.ended:
        return Verdict(State.undecidable, f"the records have no {statement.quantity}")
    return Verdict(State.not_yet, f"no {statement.quantity} yet")


def _judge_value(statement: Comparison | Within, records: Records) -> Verdict:
    quantity = known_quantity(statement)
    when = statement.when or _USUAL.get(quantity.usual)
    target = _target(statement, records, when)
    if target is None:
        return Verdict(State.undecidable, f"the parent's {statement.quantity} is not known: name a parent with a run")
    verdict = _by_time(statement, records, when, target)
    if verdict.state is State.met:
        return verdict
    low, high = records.span_of(statement.quantity)
    if target.beyond(low, high):
        bound = f"at least {target.said(low)}" if target.asks_for_less else f"at most {target.said(high)}"
        return replace(verdict, state=State.unreachable, sentence=f"{statement.quantity} can come to {bound}")
    return _too_late(when, records) or verdict


def _too_late(when: When | None, records: Records) -> Verdict | None:
    if when is None or when.moment not in ("at", "from", "in") or records.planned is None or records.ended:
        return None
    if when.first <= max(records.planned, records.epochs):
        return None
    return Verdict(State.unreachable, f"the run has {records.planned} epochs, and epoch {when.first} is none of them")


def _target(statement: Comparison | Within, records: Records, when: When | None) -> Target | None:
    if isinstance(statement, Within):
        return Target(statement.quantity, statement.low.value, statement.high.value, True, 0.0, statement.low.unit)
    low, high, bound = -math.inf, math.inf, statement.bound
    noise: float | None = 0.0
    if isinstance(bound, OfParent):
        found = None if records.parent is None else _of_parent(statement, records.parent, when)
        if found is None:
            return None
        number, noise = found.number + (0.0 if bound.offset is None else bound.offset.value), found.noise
    else:
        number = bound.value
    if statement.operator in ("<", "<="):
        high = number
    else:
        low = number
    amount = bound if isinstance(bound, Amount) else bound.offset
    return Target(
        statement.quantity, low, high, statement.operator in ("<=", ">="), noise, amount.unit if amount else ""
    )


def _of_parent(statement: Comparison, parent: Records, when: When | None) -> Value | None:
    """The parent's value at the same place; for what holds over many epochs, its best."""
    series, noise = parent.of(statement.quantity), parent.noise_of(statement.quantity)
    if when is None and known_quantity(statement).usual == "median":
        return median_of(series, noise)
    if when is None or when.moment in ("by", "in", "from"):
        found = best_of(statement.quantity, series)
        return None if found is None else Value(found[1], found[0], noise)
    return _at(series, parent, when, noise)


def _at(series: Series, records: Records, when: When, noise: float | None) -> Value | None:
    """The value at a moment, or the last before it."""
    place = records.epochs if when.moment == "end" else when.first
    if when.moment == "best":
        place = records.epochs if records.best is None else records.best
    found = last_until(series, place)
    return None if found is None else Value(found[1], found[0], noise)


def _by_time(statement: Comparison | Within, records: Records, when: When | None, target: Target) -> Verdict:
    series, noise = records.of(statement.quantity), records.noise_of(statement.quantity)
    if when is None and known_quantity(statement).usual == "median":
        return _of_one(target, median_of(series, noise), records.ended, records, ", the median of the epochs")
    if when is None:  # the evaluation of whole volumes, which is there or not
        return _of_one(target, Value(next(iter(series.values())), None, 0.0), True, records, " in the evaluation")
    if when.moment == "by":
        return _of_any(target, series, noise, records, when)
    if when.moment in ("in", "from"):
        return _of_all(target, series, noise, records, when)
    if when.moment == "at" and records.ended and records.epochs < when.first:
        return Verdict(State.failed, f"the run ended after epoch {records.epochs}")
    due = records.ended or (when.moment == "at" and records.epochs >= when.first)
    return _of_one(target, _at(series, records, when, noise), due, records)


def _of_one(target: Target, value: Value | None, due: bool, records: Records, where: str = "") -> Verdict:
    """A single value."""
    if value is None:
        return Verdict(State.undecidable if due else State.not_yet, f"no {target.quantity} by then")
    side = target.side(value, records.ended)
    said = target.sentence(value, side, where, records.ended)
    state = State.not_yet
    if due and side is not None:
        state = State.met if side else State.failed
    elif due and target.noise_known(value):
        state = State.undecidable
    elif not due:
        said = f"so far {said}"
    return target.verdict(state, said, value)


def _of_any(target: Target, series: Series, noise: float | None, records: Records, when: When) -> Verdict:
    """`by epoch N`: one value is enough, and the first that is."""
    values = [Value(number, epoch, noise) for epoch, number in series.items() if epoch <= when.first]
    for value in values:
        if target.side(value, records.ended):
            return target.verdict(State.met, target.sentence(value, True, "", records.ended), value)
    nearest = target.best_of(values)
    over = records.ended or records.epochs >= when.first
    if nearest is None:
        return Verdict(State.undecidable if over else State.not_yet, f"no {target.quantity} by epoch {when.first}")
    side = target.side(nearest, records.ended)
    said = f"best {target.sentence(nearest, side, '', records.ended)}"
    if not over or (side is None and not target.noise_known(nearest)):
        return target.verdict(State.not_yet, said, nearest)
    if side is None:
        return target.verdict(State.undecidable, said, nearest)
    ended = f"; the run ended after epoch {records.epochs}" if records.epochs < when.first else ""
    return target.verdict(State.failed, said + ended, nearest)


def _of_all(target: Target, series: Series, noise: float | None, records: Records, when: When) -> Verdict:
    """`in epochs A..B`, `from epoch N`: one value that misses is enough, and the first that does."""
    last = when.last or max(records.epochs, when.first)
    values = [Value(number, epoch, noise) for epoch, number in series.items() if when.first <= epoch <= last]
    for value in values:
        if target.side(value, records.ended) is False:
            return target.verdict(State.failed, target.sentence(value, False, "", records.ended), value)
    worst = target.worst_of(values)
    over = records.ended or (when.moment == "in" and records.epochs >= when.last)
    if worst is None:
        epochs = f"epochs {when.first}..{when.last}" if when.moment == "in" else f"an epoch from {when.first} on"
        return Verdict(State.undecidable if over else State.not_yet, f"no {target.quantity} in {epochs}")
    side = target.side(worst, records.ended)
    said = f"at worst {target.sentence(worst, side, '', records.ended)}"
    if not over or (side is None and not target.noise_known(worst)):
        return target.verdict(State.not_yet, said, worst)
    if when.moment == "in" and records.epochs < when.last:
        said += f"; the run ended after epoch {records.epochs}, before {when.last}"
        return target.verdict(State.undecidable, said, worst)
    return target.verdict(State.undecidable if side is None else State.met, said, worst)


def judge_all(criteria: Iterable[Criterion], records: Records) -> tuple[Verdict, ...]:
    """The verdict on each."""
    return tuple(judge(criterion, records) for criterion in criteria)
