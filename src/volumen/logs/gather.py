"""From rows in the order of a log to epochs: which rows belong together, what a restart is, what replaces what."""

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from volumen.logs.names import SETTING_KINDS, TOTAL, VALIDATION, Meaning
from volumen.logs.rows import Reading, Row, Said, Series, Told
from volumen.monitors.seen import EventSeen
from volumen.system.names import shown

MOST_EPOCHS = 100_000
MOST_NAMES = 400
MOST_TURNS = 5
"""Restarts that are told one by one."""
MOST_VALUES = 20_000_000
OF_WHAT_WAS = ("best", "early_stopping")
"""Events that belong to the epoch before them; others lead to the next."""
Key = tuple[str, str, str]
"""Split, kind, name."""


@dataclass
class Epoch:
    """What is known of an epoch, raw."""

    number: int
    """From the log's first on, over restarts."""
    coarse: dict[Key, Series] = field(default_factory=dict)
    """Values of the epoch as a whole."""
    fine: dict[Key, Series] = field(default_factory=dict)
    """Values of its steps, bars or batches."""
    validations: dict[int, dict[Key, float]] = field(default_factory=dict)
    """By step, where rows of a validation have one."""
    step: int | None = None
    first_step: int | None = None
    before: list[EventSeen] = field(default_factory=list)
    after: list[EventSeen] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not (self.coarse or self.fine or self.validations)

    def holds(self, key: Key) -> bool:
        """Whether there is a value of the epoch as a whole."""
        return key in self.coarse


class Gathering:
    """Takes in rows and events, in their order.

    An epoch that the log comes back to replaces itself and all after it (a training that was resumed); where it comes
    back to its first one, another training begins, whose epochs are counted on.
    """

    def __init__(self) -> None:
        self.epochs: dict[int, Epoch] = {}
        self.weights: dict[str, float] = {}
        """Of the terms, as first stated."""
        self.settings: dict[str, float] = {}
        """Of the training as a whole, by `names.SETTING_KINDS`."""
        self.bare: set[tuple[str, str]] = set()
        """Splits and names of terms that are not called losses."""
        self.sure: set[Key] = set()
        self.notes: list[str] = []
        self.has_epochs = False
        self.has_steps = False
        self.costs: set[str] = set()
        self.first: int | None = None
        self._numbers: list[int] = []
        """Of the epochs, in their order."""
        self._turns = 0
        self._keys: set[Key] = set()
        self._values = 0
        self._current: int | None = None
        self._offset = 0
        self._segment_first: int | None = None
        self._fractional = False
        self._waiting: dict[str, float] = {}
        self._stated: dict[str, float] = {}
        self._pending: list[Told] = []
        self._validated = False
        self._last_step: int | None = None
        self._lost = {"epochs": 0, "names": 0, "values": 0}

    def take(self, said: Iterable[Said]) -> "Gathering":
        """All that a reader gives."""
        for each in said:
            if isinstance(each, Told):
                self._pending.append(each)
            else:
                self._row(each)
        self._state_weights(None)
        if self.epochs:
            self._tell(self.epochs[max(self.epochs)], before=False)
        if self._turns > MOST_TURNS:
            self.notes.append(f"the log goes back or begins anew {self._turns - MOST_TURNS} more times")
        for what, count in self._lost.items():
            if count:
                self.notes.append(f"{count} values are left out: more {what} than can be kept")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether no value of any epoch was found."""
        return all(epoch.is_empty for epoch in self.epochs.values())

    def _row(self, row: Row) -> None:
        measured = []
        for reading in row.readings:
            kind = reading.meaning.kind
            if kind == "weight":
                self._waiting[reading.meaning.name] = reading.value
            elif kind in SETTING_KINDS:
                if 0 < reading.value < 1e9:
                    self.settings[kind] = reading.value
            elif kind == "cost" and not reading.meaning.sure:
                self.costs.add(reading.meaning.name)
            elif kind != "ignore":
                measured.append(reading)
        if not measured:
            return
        epoch = self._epoch_of(row, measured)
        if epoch is None:
            self._lost["epochs"] += 1
            return
        if row.step is not None:
            self.has_steps = True
            epoch.step = max(row.step, epoch.step or 0)
            epoch.first_step = row.step if epoch.first_step is None else epoch.first_step
            self._last_step = row.step
        seen: set[tuple[Key, bool]] = set()
        for reading in measured:
            self._put(epoch, row, reading, seen)
        self._validated = any(key[0] == VALIDATION for key, _ in seen)

    def _epoch_of(self, row: Row, measured: list[Reading]) -> Epoch | None:
        """The epoch that a row belongs to, new where the log goes on or comes back."""
        if row.epoch is None or not math.isfinite(row.epoch) or abs(row.epoch) > 1e9:
            number = self._without_number(row, measured)
        else:
            self.has_epochs = True
            number = self._numbered(row.epoch, row, measured)
        current = self.epochs.get(number)
        if current is None:
            if len(self.epochs) >= MOST_EPOCHS:
                return None
            self._state_weights(number)
            current = self.epochs[number] = Epoch(number)
            insort(self._numbers, number)
            self._tell(current, before=True)
            self.first = number if self.first is None else min(self.first, number)
        else:
            self._tell(current, before=False)
        self._current = number
        return current

    def _without_number(self, row: Row, measured: list[Reading]) -> int:
        """Of a row that names no epoch: the running one; where no row does, one ends when it repeats itself.

        Where rows have steps, it ends with a validation.
        """
        if self._current is None:
            return 0
        if self.has_epochs:
            return self._current
        if row.step is None and not row.fine:
            running = self.epochs[self._current]
            return self._current + any(running.holds(_key(reading.meaning)) for reading in measured)
        is_validation = any(reading.meaning.split == VALIDATION for reading in measured)
        goes_on = self._validated and not (is_validation and row.step == self._last_step)
        return self._current + (goes_on and (row.step is None or row.step != self._last_step))

    def _numbered(self, said: float, row: Row, measured: list[Reading]) -> int:
        self._fractional = self._fractional or said != int(said)
        counted = max(0, math.ceil(said) - 1) if self._fractional else int(said)
        number = counted + self._offset
        if self._current is None or self._segment_first is None:
            self._segment_first = number
            return number
        keys = {_key(reading.meaning) for reading in measured}
        if number >= self._current or not self._repeats(number, keys, row):
            self._segment_first = min(self._segment_first, number)
            return number
        last = self._numbers[-1]
        if number > self._segment_first and not self._has_other_weights:
            kept = bisect_left(self._numbers, number)
            for later in self._numbers[kept:]:
                del self.epochs[later]
            del self._numbers[kept:]
            self._note(f"the log goes back from epoch {last} to {number}: the later lines replace the earlier")
            self._pending.append(Told("resumed", {"from_epoch": float(last), "to_epoch": float(number)}))
            return number
        self._offset += last + 1 - number
        self._segment_first = last + 1
        self._pending.append(Told("restart", {"epoch_in_log": float(counted)}))
        self._note(
            f"the log begins anew at epoch {counted} after epoch {last}: another training, whose epochs are counted "
            f"on from {last + 1}"
        )
        return last + 1

    @property
    def _has_other_weights(self) -> bool:
        """Whether other weights were stated since the last row."""
        return any(self._stated.get(name) != value for name, value in self._waiting.items())

    def _repeats(self, number: int, keys: set[Key], row: Row) -> bool:
        """Whether an earlier epoch is told again, rather than late."""
        there = self.epochs.get(number)
        if there is None:
            return number < self._least_known()
        if row.step is not None and there.step is not None and row.step > there.step:
            return False  # a late validation of it
        return any(key in there.coarse or key in there.fine for key in keys)

    def _note(self, turn: str) -> None:
        self._turns += 1
        if self._turns <= MOST_TURNS:
            self.notes.append(turn)

    def _least_known(self) -> int:
        # The epochs of a table may run backwards; only a jump by more than one says that something began anew.
        return (self._current or 0) - 1

    def _put(self, epoch: Epoch, row: Row, reading: Reading, seen: set[tuple[Key, bool]]) -> None:
        key = _key(reading.meaning)
        if (key, reading.meaning.coarse) in seen:  # `loss` and `total_loss` of one row
            return
        seen.add((key, reading.meaning.coarse))
        if key not in self._keys:
            if len(self._keys) >= MOST_NAMES:
                self._lost["names"] += 1
                return
            self._keys.add(key)
        if self._values >= MOST_VALUES:
            self._lost["values"] += 1
            return
        self._values += 1
        if reading.meaning.bare:
            self.bare.add((key[0], key[2]))
        if reading.meaning.sure:
            self.sure.add(key)
        if key[0] == VALIDATION and row.step is not None and not row.fine and not reading.meaning.fine:
            epoch.validations.setdefault(row.step, {})[key] = reading.value
            return
        is_fine = reading.meaning.fine or (not reading.meaning.coarse and (row.fine or row.step is not None))
        store = epoch.fine if is_fine else epoch.coarse
        store.setdefault(key, array("d")).append(reading.value)

    def _state_weights(self, number: int | None) -> None:
        """Weights that were stated since the last epoch: the first ones are the setting, others a new phase."""
        if not self._waiting:
            return
        stated = {**self._stated, **self._waiting}
        self._waiting = {}
        if stated == self._stated:
            return
        if not self._stated and not self.epochs:
            self.weights = dict(stated)
        elif number is not None:
            self._pending.append(Told("phase", dict(stated), "the weights of the terms are others"))
        self._stated = stated

    def _tell(self, epoch: Epoch, *, before: bool) -> None:
        """Give an epoch the events that came before a row of it."""
        for told in self._pending:
            asked = None if told.epoch is None else self._at_or_before(told.epoch)
            running = None if self._current is None else self.epochs.get(self._current)
            goes_before = before and asked is None and not (told.kind in OF_WHAT_WAS and running)
            place = asked or (epoch if goes_before or running is None else running)
            numbers = {name: value for name, value in told.numbers.items() if math.isfinite(value)}
            event = EventSeen(place.number, place.step or 0, told.kind, numbers, told.text)
            (place.before if goes_before else place.after).append(event)
        self._pending = []

    def _at_or_before(self, said: float) -> Epoch | None:
        """The last known epoch that is not after one that an event names."""
        wanted = int(min(max(said, 0.0), 1e9)) + self._offset
        return next((self.epochs[each] for each in range(wanted, wanted - 50, -1) if each in self.epochs), None)


def _key(meaning: Meaning) -> Key:
    if meaning.kind == "loss":
        return meaning.split, "loss", TOTAL
    return meaning.split, meaning.kind, meaning.name


def say_costs(costs: set[str]) -> list[str]:
    """A sentence on the scores that were left out."""
    names = ", ".join(shown(name) for name in sorted(costs)[:5])
    return [f"left out, because lower is better: {names} (--map NAME=cost keeps it, negated)"] if costs else []
