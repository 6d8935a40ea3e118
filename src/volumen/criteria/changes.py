"""Criteria on how a quantity changes from epoch to epoch."""

import math

from volumen.criteria.grammar import Improves, NoChange, known_quantity
from volumen.criteria.records import Records, Series, Value, best_of
from volumen.criteria.targets import Target, said_in
from volumen.criteria.verdicts import State, Verdict


def judge_change(statement: NoChange, records: Records) -> Verdict:
    """`no Q drop > X`: fails at the first epoch so far from the best before it, is met when the time is over."""
    first, last = statement.epochs or (1, max(records.epochs, 1))
    series, noise = records.of(statement.quantity), _of_difference(records.noise_of(statement.quantity))
    target = Target(
        statement.quantity, -math.inf, statement.amount.value, statement.operator == ">", 0.0, statement.amount.unit
    )
    values = [
        Value(change, epoch, noise)
        for epoch in series
        if first <= epoch <= last and (change := _change(statement, series, epoch)) is not None
    ]
    for value in values:
        if target.side(value, records.ended) is False:
            return target.verdict(State.failed, _said(statement, series, value), value)
    over = records.ended or (statement.epochs is not None and records.epochs >= last)
    worst = target.worst_of(values)
    if worst is None:
        state = State.undecidable if over else State.not_yet
        return Verdict(state, f"no two values of {statement.quantity} to compare in epochs {first}..{last}")
    side, said = target.side(worst, records.ended), _said(statement, series, worst)
    if side is None and target.noise_known(worst):
        said += f"; a difference up to {target.said(2 * (noise or 0.0))} is noise (two deviations)"
    if not over or (side is None and not target.noise_known(worst)):
        return target.verdict(State.not_yet, said, worst)
    if statement.epochs is not None and records.epochs < last:
        said += f"; the run ended after epoch {records.epochs}, before {last}"
        return target.verdict(State.undecidable, said, worst)
    return target.verdict(State.undecidable if side is None else State.met, said, worst)


def judge_improvement(statement: Improves, records: Records) -> Verdict:
    """`Q improves by X over N epochs`: the best of the last N epochs against the best before them, at the end."""
    series, over = records.of(statement.quantity), statement.over
    split = records.epochs - over
    before = best_of(statement.quantity, {epoch: value for epoch, value in series.items() if epoch <= split})
    after = best_of(statement.quantity, {epoch: value for epoch, value in series.items() if epoch > split})
    if before is None or after is None:
        state = State.undecidable if records.ended else State.not_yet
        return Verdict(
            state, f"{records.epochs} epochs are done: {statement.quantity} has no values before the last {over}"
        )
    better = known_quantity(statement).better
    gain = after[1] - before[1] if better == "higher" else before[1] - after[1]
    value = Value(gain, after[0], _of_difference(records.noise_of(statement.quantity)))
    target = Target(statement.quantity, statement.amount.value, math.inf, True, 0.0, statement.amount.unit)
    side = target.side(value, records.ended)
    said = (
        f"best {statement.quantity} {target.said(before[1])} in epoch {before[0]}, then {target.said(after[1])} in "
        f"epoch {after[0]}"
    )
    if not records.ended:
        return target.verdict(State.not_yet, f"so far {said}", value)
    state = {None: State.undecidable, True: State.met, False: State.failed}[side]
    return target.verdict(state, said + (" (within the noise)" if side is None else ""), value)


def _change(statement: NoChange, series: Series, epoch: int) -> float | None:
    """How far an epoch lies below (drop) or above (rise) the best before it; None where nothing was before."""
    least = epoch - statement.over if statement.over is not None else 0
    before = [value for one, value in series.items() if least <= one < epoch and not math.isnan(value)]
    if not before:
        return None
    if math.isnan(series[epoch]):
        return math.inf
    return max(before) - series[epoch] if statement.direction == "drop" else series[epoch] - min(before)


def _said(statement: NoChange, series: Series, value: Value) -> str:
    epoch = value.epoch or 0
    if math.isinf(value.number):
        return f"{statement.quantity} had no value in epoch {epoch}"
    reached, unit = said_in(statement.quantity, series[epoch], statement.amount.unit), statement.amount.unit
    moved = said_in(statement.quantity, abs(value.number), unit)
    falls = (statement.direction == "drop") == (value.number > 0)
    return f"{statement.quantity} {reached} in epoch {epoch}, {moved} {'below' if falls else 'above'} the " + (
        "highest before it" if statement.direction == "drop" else "lowest before it"
    )


def _of_difference(noise: float | None) -> float | None:
    """Noise of a difference of two values."""
    return None if noise is None else math.sqrt(2) * noise
