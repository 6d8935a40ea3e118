"""What a log of losses alone can tell: terms beside what they can reach, objectives, noise, and raised rates.

For trainings of other programs, and for all that write no fixed metric. What terms of a loss are worth at a constant
and at a perfect prediction comes from `objective_facts`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from volumen.errors import UserError
from volumen.monitors.memory import Memory
from volumen.monitors.objective_facts import KNOWN, TermFacts, facts
from volumen.monitors.picture import Picture
from volumen.monitors.seen import TOTAL, EpochSeen, History, Seen, ValidationSeen
from volumen.monitors.statistics import finite, median, slope

SHARES = (0.05, 0.2, 0.5, 0.8)
"""Where the labels are not known, a floor is the least over these shares of surface."""
UNREACHABLE = 0.5
"""A term whose floor is this share of its constant's value, or more, cannot come down."""
RAISED = 3.0
"""A rate that was multiplied by this or more was raised."""
MARGIN = 1.02


def known_share(history: History) -> float | None:
    """The share of surface in the labels, where the records say it."""
    shares = [one.true_share for one in history.records if isinstance(one, EpochSeen | ValidationSeen)]
    known = finite([share for share in shares if share is not None and 0 < share < 1])
    return median(known) if known else None


def facts_of(history: History, share: float | None = None) -> Mapping[str, TermFacts]:
    """What the terms of a history are worth, those that are known by their names.

    Args:
        history: Of any program.
        share: Of surface in the labels; without it only what holds whatever it is, the floors, is known.
    """
    names = {name for one in history.records if isinstance(one, EpochSeen | ValidationSeen) for name in one.terms}
    weights = {name: 1.0 for name in names if name in KNOWN} | dict(history.setting.weights)
    if not weights:
        return {}
    share = share if share is not None else known_share(history)
    if share is not None:
        found = facts(weights, share)
        return found if history.setting.weights else {name: one for name, one in found.items() if name != TOTAL}
    tried = [facts(weights, one) for one in SHARES]
    every = set.intersection(*(set(one) for one in tried)) - {TOTAL}
    return {
        name: TermFacts(min(one[name].floor for one in tried), math.nan, math.nan, tried[0][name].source)
        for name in every
    }


def scaled(history: History, known: Mapping[str, TermFacts]) -> History:
    """A history with progress r, where facts give the scale and the records have none."""

    def with_progress(one: Seen) -> Seen:
        if not isinstance(one, EpochSeen | ValidationSeen) or one.progress:
            return one
        values = {**one.terms, **({} if one.total is None else {TOTAL: one.total})}
        found = {name: known[name].progress(value) for name, value in values.items() if name in known}
        return replace(one, progress={name: value for name, value in found.items() if math.isfinite(value)})

    return replace(history, records=tuple(map(with_progress, history.records)))


def values_of(memory: Memory, term: str) -> list[float]:
    """A term's values at the validations, or at the epochs where these have none."""
    for rows in (memory.validations, memory.epochs):
        found = finite([one.terms[term] for one in rows if term in one.terms])
        if found:
            return found
    return []


def worse_than_constant(picture: Picture) -> str | None:
    """A term that a constant prediction beats."""
    for name, known in picture.facts.items():
        values = values_of(picture.memory, name)
        is_honest = math.isfinite(known.constant) and known.perfect < known.constant
        if len(values) >= 2 and is_honest and min(values[-3:]) > MARGIN * known.constant:
            return (
                f"{name} was {min(values):.3f} at best; one value everywhere gets {known.constant:.3f} on these labels "
                f"and a perfect prediction {known.perfect:.3f}"
            )
    return None


def unreachable(picture: Picture) -> str | None:
    """A term that no prediction brings down, or that a perfect one makes worse than a constant."""
    for name, known in picture.facts.items():
        values = values_of(picture.memory, name)
        if len(values) < 2 or picture.memory.setting.weights.get(name, 1.0) <= 0:
            continue
        seen = f"{name} was {min(values):.3f} to {max(values):.3f}"
        if math.isfinite(known.perfect) and known.perfect >= known.constant:
            return (
                f"{seen}; no prediction brings it below {known.floor:.2f}, and on these labels a perfect one has "
                f"{known.perfect:.2f}, a constant {known.constant:.2f}"
            )
        if known.floor > UNREACHABLE * max(values):
            return f"{seen}; no prediction whatsoever brings it below {known.floor:.2f}"
    return None


def objectives_compared(picture: Picture) -> str | None:
    """States of different objectives ranked by a loss, since there is no fixed metric."""
    memory = picture.memory
    changes = memory.objective_changes
    sides = {sum(change <= one.step for change in changes) for one in memory.validations if one.total is not None}
    if len(sides) < 2 or memory.metrics:
        return None
    totals = [one.total for one in memory.validations if one.total is not None]
    return (
        f"{len(sides)} objectives with different weights gave losses of {min(totals):.4f} to {max(totals):.4f}: a "
        "lower one says nothing about a better state, and no fixed metric was recorded"
    )


def below_noise(picture: Picture) -> str | None:
    """An improvement that counts, and is smaller than what losses of successive validations differ by."""
    memory = picture.memory
    delta = memory.setting.minimum_delta
    totals = finite([one.total for one in memory.validations if one.total is not None])
    if delta is None or len(totals) < 5 or memory.metrics:
        return None
    noise = float(np.std(np.diff(totals))) / math.sqrt(2)
    if delta >= 2 * noise:
        return None
    _, low, high = slope(totals)
    if not low <= 0.0 <= high:
        return None
    return (
        f"a gain of {delta:g} counts, and losses of successive validations scatter by {noise:.4f} around no trend "
        f"({min(totals):.4f} to {max(totals):.4f} in {len(totals)} validations): best and worse are chance"
    )


def raised_rate(picture: Picture) -> str | None:
    """A rate that was raised by much, a best state right after it, and worse ones since."""
    memory = picture.memory
    for event in memory.events:
        factor = event.numbers.get("factor", 1.0)
        if event.kind != "rate_scaled" or factor < RAISED:
            continue
        after = finite([one.total for one in memory.validations if one.total is not None and one.step >= event.step])
        ever = finite([one.total for one in memory.validations if one.total is not None])
        if len(after) >= 2 and after[0] <= min(ever) and after[-1] > after[0]:
            return (
                f"the learning rate was multiplied by {factor:g}; the validation after that was the best "
                f"({after[0]:.4f}), and the loss has risen to {after[-1]:.4f} since: one good epoch is no escape"
            )
    return None


def loss_symptoms(picture: Picture) -> Iterator[str]:
    """What a log of losses shows to be wrong."""
    for says in (worse_than_constant, objectives_compared, below_noise, raised_rate, unreachable):
        text = says(picture)
        if text is not None:
            yield text


def share_of(text: str) -> float:
    """A share of surface as a user gives it, 0.17 or 17 %.

    Raises:
        UserError: It is none.
    """
    plain = text.strip()
    try:
        value = float(plain.rstrip("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise UserError(f"surface share: expected a number above 0 and below 1, or a percentage, got {text!r}")
    return value
