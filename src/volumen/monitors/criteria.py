"""A training held against its criteria: its history as what a criterion is judged by, and what changed meanwhile."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volumen.config.experiment import Experiment
from volumen.criteria import Criterion, Records, State, Verdict, judge, parse_criterion, quantity_of
from volumen.errors import UserError
from volumen.monitors.history import CRITERION, read_history
from volumen.monitors.seen import TOTAL, EpochSeen, History, RunFacts, Seen, ValidationSeen
from volumen.monitors.statistics import noise_of
from volumen.runs.folder import CONFIG, run_config, run_owner
from volumen.runs.records import read_status
from volumen.runs.scales import VALIDATION, ProgressScales

ENDED = ("finished", "early_stopping", "out_of_time", "sick", "failed")
"""States in which a run goes on no more."""
Series = dict[str, dict[int, float]]


def records_of(
    seen: Sequence[Seen],
    facts: RunFacts,
    *,
    ended: bool,
    reach: Mapping[str, tuple[float, float]] | None = None,
    scores: Mapping[str, float] | None = None,
    parent: Records | None = None,
) -> Records:
    """What criteria are judged by.

    Args:
        seen: A training's records, in their order.
        facts: What is known beside them.
        ended: Whether it goes on no more.
        reach: Least and most value of losses, by quantity.
        scores: Means of the evaluation of whole volumes, by metric.
        parent: The parent's.
    """
    series: Series = {}
    for one in seen:
        if isinstance(one, EpochSeen):
            _add(series, one.epoch + 1, _of_epoch(one))
        elif isinstance(one, ValidationSeen):
            _add(series, one.epoch + 1, _of_validation(one))
    seconds, losses = series.get("validation_seconds", {}), series.get("train.loss", {})
    for epoch, value in series.get("epoch_time", {}).items():
        series["epoch_time"][epoch] = value + seconds.get(epoch, 0.0)
    gaps = {epoch: value - losses[epoch] for epoch, value in series.get("val.loss", {}).items() if epoch in losses}
    epochs = max((epoch for values in series.values() for epoch in values), default=0)
    best = _best_epoch(series, facts)
    for name, value in (scores or {}).items():
        series["score" if name == "leaderboard" else f"score.{name}"] = {best or epochs: value}
    series = {name: values for name, values in {**series, "gap": gaps}.items() if values and quantity_of(name)}
    noise = {name: found for name, values in series.items() if (found := noise_of(_in_order(values))) is not None}
    return Records(series, epochs, ended, facts.planned_epochs, best, noise, reach or {}, parent)


def records_of_history(history: History, parent: Records | None = None) -> Records:
    """Of a training of another program, which has ended as far as anybody knows."""
    return records_of(history.records, history.setting, ended=True, parent=parent)


def records_of_run(run: Path, scores: Mapping[str, float] | None = None, parent: Records | None = None) -> Records:
    """Of a run folder; without a parent, its configuration's own.

    Raises:
        UserError: No run there.
    """
    config, history = run_config(run), read_history(run)
    reach = reach_of(ProgressScales.load(run, run_owner(run)))
    ended = ((read_status(run) or {}).get("state")) in ENDED
    parent = parent or parent_records(config.experiment)
    return records_of(history.records, history.setting, ended=ended, reach=reach, scores=scores, parent=parent)


def parent_records(experiment: Experiment) -> Records | None:
    """What the run that a configuration names as its parent recorded; None where it names no run folder."""
    folder = Path(experiment.parent)
    if not experiment.parent or not os.path.isfile(folder / CONFIG):
        return None
    try:
        history = read_history(folder)
    except UserError:
        return None
    return records_of(history.records, history.setting, ended=True)


def reach_of(scales: ProgressScales) -> dict[str, tuple[float, float]]:
    """The least values that the audit found of the validation's losses, over all phases."""
    found: dict[str, tuple[float, float]] = {}
    for phase in scales.scales.values():
        for name, scale in phase.get(VALIDATION, {}).items():
            quantity = "val.loss" if name == TOTAL else f"val.term.{name}"
            found[quantity] = (min(scale.floor, found.get(quantity, (math.inf, 0.0))[0]), math.inf)
    return found


@dataclass
class CriteriaWatch:
    """A running training's criteria, and what was last said of each."""

    criteria: tuple[str, ...] = ()
    facts: RunFacts = field(default_factory=RunFacts)
    reach: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    parent: Records | None = None
    _seen: list[Seen] = field(default_factory=list)
    _said: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parsed: dict[str, Criterion] = {text: parse_criterion(text) for text in self.criteria}

    def see(self, record: Seen | None) -> None:
        """Take in a record of the run."""
        if self._parsed and isinstance(record, EpochSeen | ValidationSeen):
            self._seen.append(record)

    def verdicts(self, *, ended: bool = False) -> dict[str, Verdict]:
        """How each stands, by its text."""
        if not self._parsed:
            return {}
        records = records_of(self._seen, self.facts, ended=ended, reach=self.reach, parent=self.parent)
        return {text: judge(criterion, records) for text, criterion in self._parsed.items()}

    def changes(self) -> list[dict[str, Any]]:
        """Events of the verdicts that are others than the last time."""
        events = []
        for text, verdict in self.verdicts().items():
            if verdict.state is not self._said.get(text, State.not_yet):
                events.append(event_of(text, verdict))
            self._said[text] = verdict.state
        return events

    def last_word(self) -> list[dict[str, Any]]:
        """Events of all verdicts of a run that ends."""
        return [event_of(text, verdict) | {"final": True} for text, verdict in self.verdicts(ended=True).items()]


def watch_criteria(
    experiment: Experiment, facts: RunFacts, scales: ProgressScales, before: Sequence[Seen]
) -> CriteriaWatch:
    """The watch of a run that begins, or goes on after `before`, whose verdicts were told then."""
    if not experiment.criteria:
        return CriteriaWatch()
    watch = CriteriaWatch(experiment.criteria, facts, reach_of(scales), parent_records(experiment))
    for record in before:
        watch.see(record)
        if isinstance(record, ValidationSeen):
            watch.changes()
    return watch


def event_of(text: str, verdict: Verdict) -> dict[str, Any]:
    """As a run records it."""
    plain = verdict.to_dict()
    return {"kind": CRITERION, "criterion": text, "in_epoch": plain.pop("epoch"), **plain}


def judged(criteria: Sequence[str], records: Records) -> tuple[tuple[str, Verdict], ...]:
    """Each criterion with its verdict."""
    return tuple((text, judge(parse_criterion(text), records)) for text in criteria)


def _of_epoch(one: EpochSeen) -> dict[str, float | None]:
    return {
        "train.loss": one.total,
        **{f"train.term.{name}": value for name, value in one.terms.items()},
        "train.r": one.progress.get(TOTAL),
        "learning_rate": one.rate,
        "epoch_time": one.seconds,
        "memory": one.memory_gb,
    }


def _of_validation(one: ValidationSeen) -> dict[str, float | None]:
    return {
        **{f"val.{name}": value for name, value in one.metrics.items()},
        "val.loss": one.total,
        **{f"val.term.{name}": value for name, value in one.terms.items()},
        "val.r": one.progress.get(TOTAL),
        "val.predicted_share": one.predicted_share,
        "val.true_share": one.true_share,
        "validation_seconds": one.seconds,
    }


def _add(series: Series, epoch: int, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        if value is not None:
            series.setdefault(name, {})[epoch] = value


def _in_order(values: Mapping[int, float]) -> list[float]:
    return [values[epoch] for epoch in sorted(values)]


def _best_epoch(series: Series, facts: RunFacts) -> int | None:
    """The first epoch with the best selection metric; with the least validation loss where there is none."""
    metric = series.get(f"val.{facts.selection_metric}", {})
    known = {epoch: value for epoch, value in sorted(metric.items()) if not math.isnan(value)}
    if known:
        return max(known, key=lambda epoch: known[epoch])
    losses = {epoch: value for epoch, value in sorted(series.get("val.loss", {}).items()) if not math.isnan(value)}
    return min(losses, key=lambda epoch: losses[epoch], default=None)
