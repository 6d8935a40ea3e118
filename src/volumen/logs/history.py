"""From gathered epochs to a history: whose a number is that does not say, terms or scores, epochs from 0."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace

from volumen.logs.gather import Epoch, Gathering, Key, say_costs
from volumen.logs.names import AMBIGUOUS, TEST, TOTAL, TRAIN, VALIDATION
from volumen.logs.numerals import mean_of
from volumen.logs.rows import Series
from volumen.monitors.seen import EpochSeen, EventSeen, History, RunFacts, Seen, StepsSeen, ValidationSeen

MOST_ROWS_AS_EPOCHS = 200
"""Of a log that counts steps only and validates nothing; more are taken together."""
PARTS = 100
OF_A_TRAINING = ("loss", "term", "weighted", "rate", "gradient_norm", "clipped_share", "seconds", "loader_seconds")


def history_of(
    found: Gathering, source: str, weights: Mapping[str, float] | None = None, faults: tuple[str, ...] = ()
) -> History:
    """The history that was gathered.

    Args:
        found: All rows.
        source: What to call it.
        weights: Of the terms, as the user says; else those that the log states.
        faults: Of the reader.
    """
    weights = dict(weights or found.weights)
    owners = Owners(found, weights)
    epochs = [found.epochs[number] for number in sorted(found.epochs)]
    notes = [*faults, *found.notes, *owners.notes, *say_costs(found.costs)]
    if not found.has_epochs and found.has_steps and not _is_validated(epochs, owners):
        epochs, note = _by_steps(epochs)
        notes += note
    first = 0
    if found.has_epochs and found.first == 1:
        first = 1
        notes.append("the log counts epochs from 1, here they are counted from 0")
    records = tuple(_records(epochs, owners, first))
    metric = next((name for name in _metrics(records)), None)
    stated = found.settings
    setting = RunFacts(
        selection_metric=metric,
        planned_epochs=_whole(stated.get("planned_epochs")),
        batch=_whole(stated.get("batch")),
        weights=weights,
        minimum_delta=stated.get("minimum_delta"),
        gradient_clip=stated.get("gradient_clip"),
    )
    return History(setting, records, source, tuple(notes))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


class Owners:
    """Whose each number is: of the training, of the validation, a term of the loss, or nothing that is wanted."""

    def __init__(self, found: Gathering, weights: Mapping[str, float]) -> None:
        self.notes: list[str] = []
        keys = {key for epoch in found.epochs.values() for key in _keys(epoch)}
        self._splits = {key[0] for key in keys}
        self._keys, self._sure, self._weights = keys, found.sure, weights
        self._as_terms = {key for key in keys if self._is_term(key, found)}
        self._known: dict[Key, Key | None] = {}
        for name in sorted({key[2] for key in self._as_terms} - set(weights)):
            self.notes.append(
                f"{name} is taken for a term of the loss, it stands among such: --map {name}=metric if not"
            )
        if TEST in self._splits and VALIDATION in self._splits:
            self.notes.append("what is called test is left out: there is a validation too")

    def _is_term(self, key: Key, found: Gathering) -> bool:
        split, kind, name = key
        if kind != "metric" or key in self._sure:
            return False
        if name in self._weights:
            return True
        has_total = any(other[1] == "loss" and other[0] == split for other in self._keys)
        return name in AMBIGUOUS and has_total and any(other == split for other, _ in found.bare)

    def of(self, key: Key) -> Key | None:
        """The key with its split settled; None where it is left out."""
        if key not in self._known:
            self._known[key] = self._settled(key)
        return self._known[key]

    def _settled(self, key: Key) -> Key | None:
        split, kind, name = key
        if key in self._as_terms:
            kind = "term"
        if kind == "rate":
            split = TRAIN
        elif split == TEST:
            if VALIDATION in self._splits:
                return None
            split = VALIDATION
        elif not split:
            split = TRAIN if kind in OF_A_TRAINING else self._of_a_score(kind, name)
        return split, kind, name

    def _of_a_score(self, kind: str, name: str) -> str:
        """A score that does not say its split: see the page's table."""
        if not {VALIDATION, TEST} & self._splits:
            return TRAIN if TRAIN not in self._splits and ("", "loss", TOTAL) in self._keys else VALIDATION
        return TRAIN if (VALIDATION, kind, name) in self._keys else VALIDATION


def _keys(epoch: Epoch) -> Iterator[Key]:
    yield from epoch.coarse
    yield from epoch.fine
    for values in epoch.validations.values():
        yield from values


def _is_validated(epochs: list[Epoch], owners: Owners) -> bool:
    settled = (owners.of(key) for epoch in epochs for key in _keys(epoch))
    return any(key is not None and key[0] == VALIDATION for key in settled)


def _by_steps(epochs: list[Epoch]) -> tuple[list[Epoch], list[str]]:
    """Epochs made of a log that has steps only: each row, or rows taken together."""
    fine: dict[Key, Series] = {}
    for epoch in epochs:
        for key, values in epoch.fine.items():
            fine.setdefault(key, array("d")).extend(values)
    rows = max((len(values) for values in fine.values()), default=0)
    parts = rows if rows <= MOST_ROWS_AS_EPOCHS else PARTS
    last = max((epoch.step or 0 for epoch in epochs), default=0)
    made = []
    for part in range(parts):
        inner = {}
        for key, values in fine.items():
            cut = values[part * len(values) // parts : (part + 1) * len(values) // parts]
            if cut:
                inner[key] = cut
        made.append(Epoch(part, fine=inner, step=max(1, last * (part + 1) // parts)))
    events = [event for epoch in epochs for event in (*epoch.before, *epoch.after)]
    if made:
        made[-1].after += [replace(event, epoch=parts - 1) for event in events]
    return made, [f"no epochs in it: its {rows} rows are taken for {parts} of them"] if made else []


def _records(epochs: list[Epoch], owners: Owners, first: int) -> Iterator[Seen]:
    step, base = 0, 0
    for epoch in epochs:
        number = max(0, epoch.number - first)
        if epoch.step is None:
            step += 1
        else:
            if epoch.first_step is not None and epoch.first_step + base < step:  # counted anew in each epoch
                base = step
            step = max(step, base + epoch.step)
        yield from _events(epoch.before, number, step)
        coarse, fine, apart = _settle(epoch, owners)
        yield from _training(number, step, coarse, fine)
        whole = _validation(number, step, _means({**fine, **coarse}))
        if whole is not None:
            yield whole
        for at, values in sorted(apart.items()):
            seen = _validation(number, base + at, values)
            if seen is not None:
                yield seen
        yield from _events(epoch.after, number, step)


def _events(events: list[EventSeen], number: int, step: int) -> Iterator[EventSeen]:
    for event in events:
        yield replace(event, epoch=number, step=step)


Values = dict[Key, Series]


def _settle(epoch: Epoch, owners: Owners) -> tuple[Values, Values, dict[int, dict[Key, float]]]:
    def settled(values: Mapping[Key, Series]) -> Values:
        found: Values = {}
        for key, series in values.items():
            owner = owners.of(key)
            if owner is not None:
                found.setdefault(owner, array("d")).extend(series)
        return found

    apart = {}
    for step, values in epoch.validations.items():
        pairs = ((owners.of(key), value) for key, value in values.items())
        apart[step] = {key: value for key, value in pairs if key is not None}
    return settled(epoch.coarse), settled(epoch.fine), apart


def _means(values: Values) -> dict[Key, float]:
    return {key: mean_of(series) for key, series in values.items()}


def _training(number: int, step: int, coarse: Values, fine: Values) -> Iterator[Seen]:
    total = (TRAIN, "loss", TOTAL)
    totals = max((store.get(total, array("d")) for store in (fine, coarse)), key=len)
    norms = fine.get((TRAIN, "gradient_norm", ""), array("d"))
    if len(totals) > 1:
        yield StepsSeen(number, step, tuple(totals), tuple(norms) if len(norms) > 1 else ())
    values = _means({**fine, **coarse})
    of = {(kind, name): value for (split, kind, name), value in values.items() if split == TRAIN}
    if not of:
        return
    yield EpochSeen(
        epoch=number,
        step=step,
        total=of.get(("loss", TOTAL)),
        terms=_named(of, "term"),
        weighted=_named(of, "weighted"),
        metrics={**_named(of, "metric"), **_negated(of)},
        rate=_last({**fine, **coarse}, (TRAIN, "rate", "")),
        gradient_norm=of.get(("gradient_norm", "")),
        clipped_share=of.get(("clipped_share", "")),
        predicted_share=of.get(("predicted_share", "")),
        true_share=of.get(("true_share", "")),
        seconds=of.get(("seconds", "")),
        loader_seconds=of.get(("loader_seconds", "")),
    )


def _last(values: Values, key: Key) -> float | None:
    series = values.get(key)
    return series[-1] if series else None


def _validation(number: int, step: int, values: Mapping[Key, float]) -> ValidationSeen | None:
    of = {(kind, name): value for (split, kind, name), value in values.items() if split == VALIDATION}
    if not of or set(of) == {("seconds", "")}:
        return None
    return ValidationSeen(
        epoch=number,
        step=step,
        total=of.get(("loss", TOTAL)),
        terms=_named(of, "term"),
        metrics={**_named(of, "metric"), **_negated(of)},
        predicted_share=of.get(("predicted_share", "")),
        true_share=of.get(("true_share", "")),
        seconds=of.get(("seconds", "")),
    )


def _named(of: Mapping[tuple[str, str], float], wanted: str) -> dict[str, float]:
    return {name: value for (kind, name), value in of.items() if kind == wanted}


def _negated(of: Mapping[tuple[str, str], float]) -> dict[str, float]:
    return {f"negative_{name}": -value for (kind, name), value in of.items() if kind == "cost"}


def _metrics(records: tuple[Seen, ...]) -> Iterator[str]:
    for record in records:
        if isinstance(record, ValidationSeen):
            yield from record.metrics
