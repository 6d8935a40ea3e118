"""The report's section on the training: every recorded number as a curve, and the events that explain the bends."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from volumen.reporting.curves import Mark, Point, Series, line_chart, short
from volumen.reporting.evaluation_section import html_table
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.records import RunRecords
from volumen.reporting.words import words
from volumen.system.output import counted
from volumen.training.schedule import fitted_warmup

REPLANNED = "planned_steps"
ROUTINE = {
    "finished",
    "out_of_time",
    "early_stopping",
    "swa_update",
    REPLANNED,
}  # in the list, not on the charts
MOST_MARKS = 40
MOST_EVENTS = 200
SCORES = ("leaderboard", "leaderboard_quick", "topo", "surface_dice", "voi", "dice")
COUNTS = ("dice", "iou", "precision", "recall", "accuracy")
WEIGHTS_NAMES = {"plain": "plain", "average": "moving average", "swa": "SWA"}

Record = dict[str, Any]
Get = Callable[[Record], float | None]


def curves_section(run: RunRecords) -> Markup:
    """All charts, as HTML; a sentence where nothing was recorded."""
    if not run.records:
        return html("<p>No epoch has been recorded yet.</p>")
    marks = _marks(run.events, run.records)
    train, validations = _train(run.records), _validations(run.records)
    charts = [
        Chart("Loss, total", _both(train, validations, lambda record: record["total"]), marks=marks),
        Chart(
            "Progress r",
            _both(train, validations, lambda record: record["progress"]["total"]),
            marks=marks,
            note="1: the best constant prediction, 0: the best attainable on these labels",
        ),
        *_terms(run, train, validations, marks),
        *_optimisation(run, train, marks),
        *_scores(validations, marks),
        _shares(train, validations, marks),
        _time(train),
    ]
    weights = {
        WEIGHTS_NAMES[record["weights_of"]] for record in run.records if record.get("weights_of") in WEIGHTS_NAMES
    }
    note = f"Validated weights: {' and '.join(sorted(weights))}. " if weights else ""
    note += "A dotted line marks an event." if marks else ""
    drawn = joined(line_chart(one.title, one.series, logarithmic=one.logarithmic, marks=one.marks, note=one.note)
                   for one in charts if not one.is_single)  # fmt: skip
    single = _single([one for one in charts if one.is_single])
    return html('{}<p class="note">{}</p><div class="charts">{}</div>{}', _warmup(run), note, drawn, single)


@dataclass(frozen=True)
class Chart:
    """What `curves.line_chart` draws."""

    title: str
    series: Sequence[Series]
    logarithmic: bool = False
    marks: Sequence[Mark] = ()
    note: str = ""

    @property
    def is_single(self) -> bool:
        """A single moment is no curve."""
        return len({x for one in self.series for x, _ in one.points}) == 1


def _single(charts: Sequence[Chart]) -> Markup:
    """What was recorded once, as one table."""
    row = "<tr><td>{}</td><td>{}</td><td class='n'>{}</td><td class='n'>{}</td></tr>"
    rows = [
        html(row, chart.title, line.name, short(x), "not finite" if y is None else short(float(f"{y:.5g}")))
        for chart in charts
        for line in chart.series
        for x, y in line.points
    ]
    return html("<h3>Recorded once</h3>{}", html_table(("", "", "epoch", "value"), rows, texts=2)) if rows else NOTHING


def _warmup(run: RunRecords) -> Markup:
    """A warning where the learning rate never was what it was configured to be."""
    data, train = run.config.data, _train(run.records)
    per_epoch = data.sampling.patches_per_epoch // data.batch
    plans = [event.get("planned") for event in run.events if event["kind"] == REPLANNED]
    planned = plans[-1] / per_epoch if plans and type(plans[-1]) is int else run.config.training.epochs
    warmup = round(per_epoch * fitted_warmup(run.config.schedule, planned, per_epoch))
    done = train[-1]["step"] if train else 0
    if done > warmup:
        return NOTHING
    said = "<p class='bad'>The learning rate has not left its warm-up: {} of {} steps.</p>"
    return html(said, done, warmup)


def events_section(events: Sequence[Record], records: Sequence[Record]) -> Markup:
    """Table of events, newest last; the middle of a very long list is left out, and said so."""
    if not events:
        return html("<p>Nothing out of the ordinary was recorded.</p>")
    shown, left_out = _without_repeats(events), 0
    if len(shown) > MOST_EVENTS:
        left_out = len(shown) - MOST_EVENTS
        shown = [*shown[: MOST_EVENTS // 2], *shown[-MOST_EVENTS // 2 :]]
    row = "<tr><td>{}</td><td class='n'>{}</td><td class='n'>{}</td><td>{}</td><td class='wrap'>{}</td></tr>"
    rows = joined(
        html(
            row,
            _when(event),
            max(1, math.ceil(_when_in_epochs(event, records))),
            event["step"],
            words(event["kind"]),
            _details(event),
        )
        for event in shown
    )
    note = html('<p class="note">Left out in the middle: {}.</p>', counted(left_out, "event")) if left_out else NOTHING
    return html(
        "{}<div class=\"scroll\"><table><thead><tr><th>time (UTC)</th><th class='n'>epoch</th><th class='n'>step</th>"
        "<th>event</th><th>details</th></tr></thead><tbody>{}</tbody></table></div>",
        note,
        rows,
    )


def _terms(
    run: RunRecords, train: Sequence[Record], validations: dict[str, list[Record]], marks: list[Mark]
) -> list[Chart]:
    """What each term adds to the loss, then each term by itself."""
    names = sorted({name for record in run.records for name in record["terms"]})
    weighted = [
        Series(words(name), _points(train, lambda record, name=name: record["weighted"][name]), number % 8 + 1)  # type: ignore[misc]
        for number, name in enumerate(names)
    ]
    charts = []
    if len(names) > 1:
        note = "weight times value on the training patches; they add up to the total"
        charts.append(Chart("Loss, what each term adds", weighted, marks=marks, note=note))
    present = run.config.loss.terms.present()
    for name in names:
        weight = f"weight {present[name].weight:g}" if name in present else ""
        lines = _both(train, validations, lambda record, name=name: record["terms"][name])  # type: ignore[misc]
        charts.append(Chart(f"Term: {words(name)}", lines, marks=marks, note=weight))
    return charts


def _optimisation(run: RunRecords, train: Sequence[Record], marks: list[Mark]) -> list[Chart]:
    norm = [
        Series("mean", _points(train, lambda record: record["gradient_norm"]), 1),
        Series("largest", _points(train, lambda record: record["gradient_norm_maximum"]), 2, dashed=True),
    ]
    clip = run.config.training.gradient_clip
    note = "before clipping" + (f"; clipped above {clip:g}" if clip is not None else "; never clipped")
    rate = Series("learning rate", _points(train, lambda record: record["learning_rate"]), 1)
    return [
        Chart("Learning rate", [rate], logarithmic=True, marks=marks, note="at the end of each epoch"),
        Chart("Gradient norm", norm, logarithmic=True, marks=marks, note=note),
    ]


def _scores(validations: dict[str, list[Record]], marks: list[Mark]) -> list[Chart]:
    """Selection scores and voxel overlap of the first kind of validation; others have a chart of their own."""
    charts = []
    for label, records in validations.items():
        present = {name for record in records for name in record["metrics"]}
        for title, names in (("Scores", SCORES), ("Overlap", COUNTS)):
            lines = [
                Series(words(name), _points(records, lambda record, name=name: _there(record["metrics"][name])), number)  # type: ignore[misc]
                for number, name in enumerate((name for name in names if name in present), 1)
            ]
            charts.append(Chart(f"{title}, {label}", lines, marks=marks, note="mean over the held-out volumes"))
    return charts


def _shares(train: Sequence[Record], validations: dict[str, list[Record]], marks: list[Mark]) -> Chart:
    lines = []
    for number, (label, records) in enumerate((("train", train), *validations.items())):
        for what, dashed in (("predicted", False), ("true", True)):
            points = _points(records, lambda record, what=what: _percent(record[f"{what}_share"]))  # type: ignore[misc]
            lines.append(Series(f"{label}, {what}", points, number + 1, dashed))
    note = "percent of the labelled voxels; training patches are drawn towards the surface, volumes are not"
    return Chart("Surface share", lines, marks=marks, note=note)


def _time(train: Sequence[Record]) -> Chart:
    lines = [
        Series("all steps", _points(train, lambda record: record["seconds"]), 1),
        Series("waiting for data", _points(train, lambda record: record["loader_seconds"]), 2),
    ]
    return Chart("Seconds an epoch", lines)


def _both(train: Sequence[Record], validations: dict[str, list[Record]], get: Get) -> list[Series]:
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


def _validations(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Validation records by what to call them: which weights were validated, where there are several."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record["kind"] != "train":
            groups.setdefault(record.get("weights_of", "plain"), []).append(record)
    if len(groups) == 1:
        return dict(zip(["validation"], groups.values(), strict=True))
    return {f"validation, {WEIGHTS_NAMES.get(weights, weights)}": group for weights, group in groups.items()}


def _marks(events: Sequence[Record], records: Sequence[Record]) -> list[Mark]:
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


def _when(event: Record) -> str:
    return datetime.fromtimestamp(event["time"], UTC).strftime("%m-%d %H:%M:%S")


def _details(event: Record) -> str:
    left_out = {"step", "epoch", "time", "kind"}
    return ", ".join(f"{words(key)} {_value(value)}" for key, value in event.items() if key not in left_out)


def _value(value: object) -> str:
    if isinstance(value, float):
        return short(float(f"{value:.5g}"))
    if isinstance(value, dict):
        return "; ".join(f"{words(str(key))} {_value(item)}" for key, item in value.items())
    return str(value)


def _percent(share: float | None) -> float:
    return 100 * _there(share)


def _there(value: float | None) -> float:
    """A ratio that has a value; where it has none there is no point."""
    if value is None:
        raise KeyError
    return value
