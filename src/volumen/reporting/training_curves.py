"""The training as a report shows it: every recorded number as a curve, and the events that explain the bends."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from volumen.reporting.charts import Curves, Mark, Point, Series, line_chart
from volumen.reporting.drawing import short
from volumen.reporting.records import Record, RunRecords
from volumen.reporting.score_tables import Row
from volumen.reporting.words import words
from volumen.training.schedule import fitted_warmup

REPLANNED = "planned_steps"
ROUTINE = {"finished", "out_of_time", "early_stopping", "swa_update", REPLANNED}  # in the list, not on the charts
MOST_MARKS = 40
MOST_EVENTS = 200
SCORES = ("leaderboard", "leaderboard_quick", "topo", "surface_dice", "voi", "dice")
COUNTS = ("dice", "iou", "precision", "recall", "accuracy")
WEIGHTS_NAMES = {"plain": "plain", "average": "moving average", "swa": "SWA"}

Get = Callable[[Record], float | None]
Validations = dict[str, list[Record]]
"""Records of validations by what they are called."""


def training_values(run: RunRecords) -> dict[str, Any]:
    """What the template shows of a run that has recorded something.

    Returns:
        `training`: charts; `once`: rows of what was recorded once, for a single moment is no curve; `training_note`;
        and `warmup`, a warning where the learning rate never was what it was configured to be.
    """
    marks = event_marks(run.events, run.records)
    train, validations = _train(run.records), _validations(run.records)
    curves = [
        Curves("Loss, total", _both(train, validations, lambda record: record["total"])),
        Curves(
            "Progress r",
            _both(train, validations, lambda record: record["progress"]["total"]),
            "1: the best constant prediction, 0: the lowest loss that can be reached on these labels",
        ),
        *_terms(run, train, validations),
        *_optimisation(run, train),
        *_scores(validations),
        _shares(train, validations),
        _time(train),
    ]
    weights = {WEIGHTS_NAMES[record["weights_of"]] for record in run.records if "weights_of" in record}
    note = f"Validated weights: {' and '.join(sorted(weights))}. " if weights else ""
    charts = [line_chart(one, marks=marks if one.marked else ()) for one in curves if len(one.moments) > 1]
    return {
        "training": [chart for chart in charts if chart is not None],
        "once": [row for one in curves if len(one.moments) == 1 for row in _once(one)],
        "training_note": note + ("A dotted line marks an event." if marks else ""),
        "warmup": _warmup(run),
    }


def event_rows(events: Sequence[Record], records: Sequence[Record]) -> tuple[list[Row], int]:
    """A row for each event, newest last; of a very long list the middle is left out, and its length is returned."""
    shown, left_out = _without_repeats(events), 0
    if len(shown) > MOST_EVENTS:
        left_out = len(shown) - MOST_EVENTS
        shown = [*shown[: MOST_EVENTS // 2], *shown[-MOST_EVENTS // 2 :]]
    rows = []
    for event in shown:
        when = datetime.fromtimestamp(event["time"], UTC).strftime("%m-%d %H:%M:%S")
        epoch = max(1, math.ceil(_when_in_epochs(event, records)))
        rows.append(Row((when, words(event["kind"]), str(epoch), str(event["step"]), _details(event))))
    return rows, left_out


def _once(curves: Curves) -> list[Row]:
    return [
        Row((curves.title, line.name, short(x), "not finite" if y is None else short(float(f"{y:.5g}"))))
        for line in curves.series
        for x, y in line.points
    ]


def _warmup(run: RunRecords) -> str:
    data, train = run.config.data, _train(run.records)
    per_epoch = data.sampling.patches_per_epoch // data.batch
    plans = [event.get("planned") for event in run.events if event["kind"] == REPLANNED]
    planned = plans[-1] / per_epoch if plans and type(plans[-1]) is int else run.config.training.epochs
    warmup = round(per_epoch * fitted_warmup(run.config.schedule, planned, per_epoch))
    done = train[-1]["step"] if train else 0
    return "" if done > warmup else f"The learning rate has not left its warm-up: {done} of {warmup} steps."


def _terms(run: RunRecords, train: Sequence[Record], validations: Validations) -> list[Curves]:
    """What each term adds to the loss, then each term by itself."""
    names = sorted({name for record in run.records for name in record["terms"]})
    curves = []
    if len(names) > 1:
        weighted = [
            Series(words(name), _points(train, partial(_entry, "weighted", name)), number % 8 + 1)
            for number, name in enumerate(names)
        ]
        note = "weight times value on the training patches; they add up to the total"
        curves.append(Curves("Loss, what each term adds", weighted, note))
    present = run.config.loss.terms.present()
    for name in names:
        weight = f"weight {present[name].weight:g}" if name in present else ""
        curves.append(Curves(f"Term: {words(name)}", _both(train, validations, partial(_entry, "terms", name)), weight))
    return curves


def _optimisation(run: RunRecords, train: Sequence[Record]) -> list[Curves]:
    norm = [
        Series("mean", _points(train, lambda record: record["gradient_norm"]), 1),
        Series("largest", _points(train, lambda record: record["gradient_norm_maximum"]), 2, dashed=True),
    ]
    clip = run.config.training.gradient_clip
    note = "never clipped" if clip is None else f"before clipping; clipped above {clip:g}"
    rate = Series("learning rate", _points(train, lambda record: record["learning_rate"]), 1)
    return [
        Curves("Learning rate", [rate], "at the end of each epoch", logarithmic=True),
        Curves("Gradient norm", norm, note, logarithmic=True),
    ]


def _scores(validations: Validations) -> list[Curves]:
    """Selection scores and voxel overlap of each kind of validation."""
    curves = []
    for label, records in validations.items():
        present = {name for record in records for name in record["metrics"]}
        for title, names in (("Scores", SCORES), ("Overlap", COUNTS)):
            lines = [
                Series(words(name), _points(records, partial(_ratio, 1, "metrics", name)), number)
                for number, name in enumerate((name for name in names if name in present), 1)
            ]
            curves.append(Curves(f"{title}, {label}", lines, "mean over the held-out volumes"))
    return curves


def _shares(train: Sequence[Record], validations: Validations) -> Curves:
    lines = []
    for number, (label, records) in enumerate((("train", train), *validations.items()), 1):
        for what, dashed in (("predicted", False), ("true", True)):
            points = _points(records, partial(_ratio, 100, f"{what}_share"))
            lines.append(Series(f"{label}, {what}", points, number, dashed))
    note = "percent of the labelled voxels; training patches are sampled towards the surface, volumes are not"
    return Curves("Surface share", lines, note)


def _time(train: Sequence[Record]) -> Curves:
    lines = [
        Series("all steps", _points(train, lambda record: record["seconds"]), 1),
        Series("waiting for data", _points(train, lambda record: record["loader_seconds"]), 2),
    ]
    return Curves("Seconds an epoch", lines, marked=False)


def _both(train: Sequence[Record], validations: Validations, get: Get) -> list[Series]:
    lines = [Series("train", _points(train, get), 1)]
    for number, (label, records) in enumerate(validations.items(), 2):
        lines.append(Series(label, _points(records, get), number))
    return lines


def _points(records: Sequence[Record], get: Get) -> tuple[Point, ...]:
    """(epoch from 1, value): a record without the value has no point, one whose value is null has a lost one."""
    points: list[Point] = []
    for record in records:
        try:
            value = get(record)
        except KeyError:  # a term that this phase of a curriculum does not have, a metric that was not asked for
            continue
        points.append((float(record["epoch"] + 1), value))
    return tuple(points)


def _train(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record["kind"] == "train"]


def _validations(records: Sequence[Record]) -> Validations:
    """Validation records by what to call them: which weights were validated, where there are several."""
    groups: Validations = {}
    for record in records:
        if record["kind"] != "train":
            groups.setdefault(record.get("weights_of", "plain"), []).append(record)
    if len(groups) == 1:
        return dict(zip(["validation"], groups.values(), strict=True))
    return {f"validation, {WEIGHTS_NAMES.get(weights, weights)}": group for weights, group in groups.items()}


def event_marks(events: Sequence[Record], records: Sequence[Record]) -> list[Mark]:
    """What bends the curves: events that are no routine, of those that are too many none of the commonest kinds."""
    kinds = Counter(event["kind"] for event in events if event["kind"] not in ROUTINE)
    while kinds and sum(kinds.values()) > MOST_MARKS:
        del kinds[kinds.most_common(1)[0][0]]
    return [
        Mark(_when_in_epochs(event, records), f"{words(event['kind'])} {_details(event)}".strip())
        for event in events
        if event["kind"] in kinds
    ]


def _when_in_epochs(event: Record, records: Sequence[Record]) -> float:
    """Where an event stands on the curves' axis, by its step: the end of epoch 3 is 3.

    The epoch in its record is that of the cursor, which has moved on already where the event follows a validation.
    """
    known = {0: 0.0} | {record["step"]: record["epoch"] + 1.0 for record in records if record["kind"] == "train"}
    if len(known) == 1:
        return float(event["epoch"] + 1)
    return float(np.interp(event["step"], sorted(known), [known[at] for at in sorted(known)]))


def _without_repeats(events: Sequence[Record]) -> list[Record]:
    """The events, of a row of re-planned steps only the last one, with the number of times."""
    kept: list[Record] = []
    for event in events:
        if event["kind"] == REPLANNED and kept and kept[-1]["kind"] == REPLANNED:
            event = {**event, "before": kept[-1].get("before"), "times": kept[-1].get("times", 1) + 1}
            kept.pop()
        kept.append(event)
    return kept


def _details(event: Record) -> str:
    left_out = {"step", "epoch", "time", "kind"}
    return ", ".join(f"{words(key)} {_value(value)}" for key, value in event.items() if key not in left_out)


def _value(value: object) -> str:
    if isinstance(value, float):
        return short(float(f"{value:.5g}"))
    if isinstance(value, dict):
        return "; ".join(f"{words(str(key))} {_value(item)}" for key, item in value.items())
    return str(value)


def _entry(group: str, name: str, record: Record) -> float | None:
    value: float | None = record[group][name]
    return value


def _ratio(factor: float, *keys_and_record: Any) -> float:
    """A ratio that has a value; where it has none there is no point."""
    *keys, value = keys_and_record
    for key in keys:
        value = value[key]
    if value is None:
        raise KeyError
    return float(factor * value)
