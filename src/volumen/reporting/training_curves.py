"""The training as a report shows it: every recorded number as a curve, and the events that explain the bends."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from volumen.config.compare import PARENT
from volumen.monitors.history import CRITERION
from volumen.reporting.charts import Curves, Mark, Point, Series, line_chart
from volumen.reporting.drawing import short
from volumen.reporting.records import RunRecords
from volumen.reporting.score_tables import Row
from volumen.reporting.words import words
from volumen.runs.kinds import Record
from volumen.training.schedule import fitted_warmup

MISSING = object()
REPLANNED = "planned_steps"
ROUTINE = {
    "finished",
    "out_of_time",
    "early_stopping",
    "swa_update",
    REPLANNED,
    PARENT,
    CRITERION,
}  # in the list, not on the charts
MOST_MARKS = 40
MOST_EVENTS = 200
SCORES = ("leaderboard", "leaderboard_quick", "topo", "surface_dice", "voi", "dice")
COUNTS = ("dice", "iou", "precision", "recall", "accuracy")
WEIGHTS_NAMES = {"plain": "plain", "average": "moving average", "swa": "SWA"}

PROGRESS_NOTE = "1: the best constant prediction, 0: the lowest loss that can be reached on these labels"
SHARES_NOTE = "percent of the labelled voxels; training patches are sampled towards the surface, volumes are not"


def training_values(run: RunRecords) -> dict[str, Any]:
    """What the template shows of a run that has recorded something.

    Returns:
        `training`: charts; `once`: rows of what was recorded once, for a single moment is no curve; `training_note`;
        and `warmup`, a warning where the learning rate never was what it was configured to be.
    """
    marks, curves = event_marks(run.events, run.records), _curves(run)
    weights = {WEIGHTS_NAMES[record["weights_of"]] for record in run.records if "weights_of" in record}
    note = f"Validated weights: {' and '.join(sorted(weights))}. " if weights else ""
    charts = [line_chart(one, marks=marks) for one in curves if len(one.moments) > 1]
    return {
        "training": [chart for chart in charts if chart is not None],
        "once": [
            Row((one.title, line.name, short(x), "not finite" if y is None else short(float(f"{y:.5g}"))))
            for one in curves
            if len(one.moments) == 1
            for line in one.series
            for x, y in line.points
        ],
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


def _warmup(run: RunRecords) -> str:
    data, train = run.config.data, _train(run.records)
    per_epoch = data.sampling.patches_per_epoch // data.batch
    plans = [event.get("planned") for event in run.events if event["kind"] == REPLANNED]
    planned = plans[-1] / per_epoch if plans and type(plans[-1]) is int else run.config.training.epochs
    warmup = round(per_epoch * fitted_warmup(run.config.schedule, planned, per_epoch))
    done = train[-1]["step"] if train else 0
    return "" if done > warmup else f"The learning rate has not left its warm-up: {done} of {warmup} steps."


def _curves(run: RunRecords) -> list[Curves]:
    train, validations = _train(run.records), _validations(run.records)
    everything = {"train": train, **validations}

    def each(*keys: str) -> list[Series]:
        return [_series(label, records, number, *keys) for number, (label, records) in enumerate(everything.items(), 1)]

    names = sorted({name for record in run.records for name in record.get("terms", ())})
    added = [_series(words(name), train, number % 8 + 1, "weighted", name) for number, name in enumerate(names)]
    present = run.config.loss.terms.present()
    weights = {name: f"weight {present[name].weight:g}" if name in present else "" for name in names}
    rate = _series("learning rate", train, 1, "learning_rate")
    largest = _series("largest", train, 2, "gradient_norm_maximum", dashed=True)
    clip = run.config.training.gradient_clip
    clipped = "never clipped" if clip is None else f"before clipping; clipped above {clip:g}"
    shares = [
        _series(f"{label}, {what}", records, number, f"{what}_share", dashed=what == "true")
        for number, (label, records) in enumerate(everything.items(), 1)
        for what in ("predicted", "true")
    ]
    times = [_series("all steps", train, 1, "seconds"), _series("waiting for data", train, 2, "loader_seconds")]
    return [
        Curves("Loss, total", each("total")),
        Curves("Progress r", each("progress", "total"), PROGRESS_NOTE),
        Curves(
            "Loss, what each term adds",
            added if len(names) > 1 else (),
            "weight times value on the training patches; they add up to the total",
        ),
        *(Curves(f"Term: {words(name)}", each("terms", name), weights[name]) for name in names),
        Curves("Learning rate", [rate], "at the end of each epoch", logarithmic=True),
        Curves("Gradient norm", [_series("mean", train, 1, "gradient_norm"), largest], clipped, logarithmic=True),
        *_scores(validations),
        Curves("Surface share", shares, SHARES_NOTE),
        Curves("Seconds per epoch", times),
    ]


def _scores(validations: Mapping[str, Sequence[Record]]) -> list[Curves]:
    """Selection scores and voxel overlap of each kind of validation."""
    curves = []
    for label, records in validations.items():
        present = {name for record in records for name in record["metrics"]}
        for title, names in (("Scores", SCORES), ("Overlap", COUNTS)):
            found = enumerate((name for name in names if name in present), 1)
            lines = [_series(words(name), records, number, "metrics", name) for number, name in found]
            curves.append(Curves(f"{title}, {label}", lines, "mean over the held-out volumes"))
    return curves


def _series(name: str, records: Sequence[Record], colour: int, *keys: str, dashed: bool = False) -> Series:
    """A line of (epoch from 1, value), shares as percentages.

    A record without the value has no point, as of a term that this phase of a curriculum does not have; one whose value
    is null has a lost one, but a ratio that is null has no value, and no point either.
    """
    points: list[Point] = []
    for record in records:
        value: Any = record
        for key in keys:
            value = value.get(key, MISSING) if isinstance(value, dict) else MISSING
        is_share = keys[0].endswith("_share")
        if value is MISSING or (value is None and (is_share or keys[0] == "metrics")):
            continue
        points.append((record["epoch"] + 1.0, 100 * value if is_share else value))
    return Series(name, tuple(points), colour, dashed)


def _train(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record["kind"] == "train"]


def _validations(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Validation records by what to call them: which weights were validated, where there are several."""
    groups: dict[str, list[Record]] = {}
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
