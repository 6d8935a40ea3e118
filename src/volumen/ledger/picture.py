"""How an experiment stands: its runs, the difference from its parent, the verdicts on its criteria, what to do next."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.config.compare import ABSENT, Difference, confounded, diff_configs, factors_of
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.criteria import Records, State, Verdict
from volumen.errors import UserError
from volumen.experiments.evaluation_file import EVALUATION, load_evaluation
from volumen.ledger.entry import Entry
from volumen.logs.read import read_log_of
from volumen.monitors.criteria import judged, records_of_history, records_of_run
from volumen.runs.folder import CONFIG, run_config

RUNS = Path("runs")
"""Where `volumen train` puts runs."""
NOT_THERE = "not there yet"
MANY_TIMES = ("seed", "data.fold", "training.epochs")
"""Keys by which runs of one experiment may differ."""
_DATA_SET = ("data.dataset=unknown",)
"""For presets, which leave it open; no difference is made of it."""


@dataclass(frozen=True)
class JudgedRun:
    """A run of an experiment."""

    place: str
    verdicts: tuple[tuple[str, Verdict], ...] = ()
    """By criterion."""
    outcomes: tuple[Verdict | None, ...] = ()
    """Of each expected outcome, where it has a criterion."""
    fault: str = ""
    """Why it cannot be read."""

    @property
    def state(self) -> State | None:
        """The verdict on all criteria together; None where there is none or the run cannot be read."""
        states = {verdict.state for _, verdict in self.verdicts}
        order = (State.failed, State.unreachable, State.not_yet, State.undecidable, State.met)
        return next((state for state in order if state in states), None)


@dataclass(frozen=True)
class Picture:
    """An experiment and what is known of it."""

    entry: Entry
    criteria: tuple[str, ...]
    factors: Mapping[str, tuple[str, ...]] | None
    """What differs from the parent, in words, by factor; None where one of them has no configuration."""
    why_unknown: str
    """Why the difference is not known."""
    runs: tuple[JudgedRun, ...]
    fallback: tuple[str, ...]

    @property
    def state(self) -> State | None:
        """The verdict over its runs: the worst of them; None where nothing can be said."""
        states = {run.state for run in self.runs} - {None}
        order = (State.failed, State.unreachable, State.not_yet, State.undecidable, State.met)
        return next((state for state in order if state in states), None)

    @property
    def mark(self) -> str:
        """The state in a word."""
        if self.state is not None:
            return str(self.state)
        if not self.is_begun:
            return "no run"
        return "no criteria" if not self.criteria else "unknown"

    @property
    def is_begun(self) -> bool:
        """Whether any of its runs is there."""
        return any(run.fault != NOT_THERE for run in self.runs)

    @property
    def warning(self) -> str:
        """What is to be said of more than one factor."""
        return confounded(self.factors or ())

    @property
    def next_step(self) -> str:
        """What to do now."""
        if self.entry.status == "closed":
            return ""
        name = self.entry.name
        if self.state in (State.failed, State.unreachable):
            step = f"fallback: {self.fallback[0]}; " if self.fallback else "no fallback was written down; "
            return f"{step}then volumen experiment close {name} --outcome N"
        if self.state is State.met:
            return f"volumen experiment close {name} --outcome N"
        if not self.is_begun:
            return _training(self.entry) if self.entry.config else "add runs: to its file"
        if not self.criteria:
            return "add criteria: to its file"
        if self.state is State.undecidable:
            return "repeat it with another seed or fold: the margin lies within the noise, or a number is not known"
        return "wait for its run, or volumen evaluate it"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.entry.model_dump(mode="json"),
            "criteria": list(self.criteria),
            "factors": None if self.factors is None else {name: list(told) for name, told in self.factors.items()},
            "warning": self.warning,
            "state": self.mark,
            "judged_runs": [_plain(run) for run in self.runs],
            "next": self.next_step,
        }


def _plain(run: JudgedRun) -> dict[str, Any]:
    return {
        "run": run.place,
        "state": None if run.state is None else str(run.state),
        "verdicts": [{"criterion": text, **verdict.to_dict()} for text, verdict in run.verdicts],
        "outcomes": [None if one is None else one.to_dict() for one in run.outcomes],
        "fault": run.fault,
    }


def picture_of(name: str, ledger: Mapping[str, Entry], runs: Path = RUNS) -> Picture:
    """How an experiment of a ledger stands.

    Args:
        name: The experiment.
        ledger: All entries by name.
        runs: Folder in which runs are looked for where an entry names none.

    Raises:
        UserError: Its configuration has mistakes.
    """
    entry = ledger[name]
    parent = None if entry.parent is None else ledger[entry.parent]
    config, parent_config = config_of(entry), None if parent is None else config_of(parent)
    factors, why = None, ""
    if config is None or parent_config is None:
        lacking = entry.name if config is None else entry.parent
        why = f"{lacking} has no config: in its file" if lacking else "it has no parent"
    else:
        found = factors_of(diff_configs(parent_config, config))
        factors = {
            factor: tuple(each.in_words() for each in changes if _tells(each)) for factor, changes in found.items()
        }
    experiment = None if config is None else config.experiment
    criteria = entry.criteria or (() if experiment is None else experiment.criteria)
    reference = None if parent is None else _parent_records(parent, runs)
    fallback = entry.fallback or ((experiment.fallback,) if experiment is not None and experiment.fallback else ())
    judged_runs = tuple(_judge(entry, criteria, place, reference) for place in places_of(entry, config, runs))
    return Picture(entry, criteria, factors, why, judged_runs, fallback)


def config_of(entry: Entry) -> Config | None:
    """The configuration of an experiment; None where it names none.

    Raises:
        UserError: It has mistakes.
    """
    if entry.config is None:
        return None
    try:
        return load_config(entry.config, entry.overrides).config
    except UserError:  # a preset leaves the data set open
        return load_config(entry.config, (*_DATA_SET, *entry.overrides)).config


def places_of(entry: Entry, config: Config | None, runs: Path = RUNS) -> tuple[str, ...]:
    """The runs that an entry names; otherwise the folders in `runs` with its configuration, folds and seeds apart."""
    if entry.runs or config is None or not runs.is_dir():
        return entry.runs
    named = re.compile(rf"^name: [\"']?{re.escape(config.name)}[\"']?\s*$", re.M)
    found = []
    for path in sorted(runs.glob(f"*/{CONFIG}")):
        if not named.search(path.read_text(encoding="utf-8", errors="replace")):
            continue
        try:
            own = run_config(path.parent)
        except UserError:
            continue
        differ = [each for changes in factors_of(diff_configs(config, own)).values() for each in changes]
        if all(each.key in MANY_TIMES for each in differ):
            found.append(str(path.parent))
    return tuple(found)


def _tells(one: Difference) -> bool:
    """Whether a difference is told: a section that is there or not shows by its keys."""
    sides = (one.left, one.right)
    return not (any(side is ABSENT for side in sides) and any(side is None for side in sides))


def _training(entry: Entry) -> str:
    overrides = [part for each in entry.overrides for part in ("-o", each)]
    out = ["--out", entry.runs[0]] if entry.runs else []
    return shlex.join(["volumen", "train", str(entry.config), *overrides, *out])


def _parent_records(parent: Entry, runs: Path) -> Records | None:
    """Of the parent's first run that can be read."""
    for place in places_of(parent, config_of(parent), runs):
        try:
            return _records(Path(place), None)
        except UserError:
            continue
    return None


def _records(place: Path, parent: Records | None) -> Records:
    if not (place / CONFIG).is_file():
        return records_of_history(read_log_of(place), parent)
    scores = load_evaluation(place).mean if (place / EVALUATION).is_file() else None
    return records_of_run(place, scores, parent)


def _judge(entry: Entry, criteria: tuple[str, ...], place: str, parent: Records | None) -> JudgedRun:
    if not Path(place).exists():
        return JudgedRun(place, fault=NOT_THERE)
    try:
        records = _records(Path(place), parent)
    except UserError as error:
        return JudgedRun(place, fault=str(error))
    asked = [one.criterion for one in entry.outcomes]
    outcomes = tuple(None if text is None else judged([text], records)[0][1] for text in asked)
    return JudgedRun(place, judged(criteria, records), outcomes)
