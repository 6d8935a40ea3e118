"""Runs side by side: what differs, what each reaches on volumes that all held out, and whether that tells anything.

Rows are ranked by one metric that was chosen beforehand, at each run's own threshold and at a matched share of surface;
totals of different objectives are shown and never ranked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volumen.config.compare import diff_configs
from volumen.config.load import load_config
from volumen.config.postprocessing import Threshold
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.comparing_intervals import Interval, Scores, interval
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN, Ranking, orders, rank, unranked
from volumen.experiments.comparing_runs import Row, Told, read_told, rows_of
from volumen.experiments.comparing_scores import (
    NetworkScores,
    Objective,
    recorded_scores,
    score_network,
    true_shares,
)
from volumen.metrics.table import METRICS
from volumen.runs.folder import CONFIG
from volumen.runs.run import DataSets, Run
from volumen.runs.saved import TrainedOn
from volumen.system.output import Progress, Warn, counted, unheard

QUICK_METRICS = ("leaderboard", "leaderboard_quick", "surface_dice", "dice")
"""By which recorded validations are ranked: the first that all of them have."""


@dataclass(frozen=True)
class Entry:
    """A row, with what its networks reach."""

    row: Row
    scores: Mapping[str, NetworkScores]
    """By name of the run; runs with the very weights of another one are left out."""
    own_totals: Mapping[str, float]
    """Each run's validation total under its own objective, as recorded; by name."""

    @property
    def label(self) -> str:
        """Name of the row."""
        return self.row.label

    @property
    def cases(self) -> frozenset[str]:
        """Volumes that any of its runs was scored on."""
        return frozenset(case for one in self.scores.values() for case in one.own)

    def by_case(self, metric: str, point: str = OWN) -> list[Scores]:
        """A metric by case, a mapping for each network."""
        found = (one.own if point == OWN else one.at_matched for one in self.scores.values())
        return [{case: values.get(metric, math.nan) for case, values in one.items()} for one in found]

    def terms(self, term: str) -> list[Scores]:
        """A raw term of the reference objective by case; the total where it is empty."""
        if not term:
            return [one.totals for one in self.scores.values()]
        return [
            {case: values.get(term, math.nan) for case, values in one.terms.items()} for one in self.scores.values()
        ]

    @property
    def thresholds(self) -> tuple[float | None, float | None]:
        """The row's own threshold, None where its masks are not made by one, and the mean of the matched ones."""
        first = self.row.config.postprocessing.steps[0]
        points = [one.point.threshold for one in self.scores.values() if one.point is not None]
        known = [one for one in points if one is not None]
        matched = sum(known) / len(known) if known and len(known) == len(points) else None
        return (first.level if isinstance(first, Threshold) else None), matched


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it."""

    told: tuple[Told, ...]
    problems: Mapping[str, str]
    """By run, why it was not scored."""
    entries: tuple[Entry, ...]
    shared: tuple[str, ...]
    """Cases that every scored row has."""
    true_shares: Scores
    """Of the shared cases."""
    metric: str
    rankings: tuple[Ranking, ...]
    reference: str
    """Whose objective measures all of them; empty where none does."""
    terms: tuple[str, ...]
    objectives_differ: tuple[str, ...]
    """Keys of the objective in which rows differ."""
    quick: bool
    which: str
    notes: tuple[str, ...]

    @property
    def scored(self) -> tuple[Entry, ...]:
        """Rows that have scores."""
        return tuple(one for one in self.entries if one.cases)

    def mean(self, entry: Entry, metric: str, point: str = OWN) -> Interval | None:
        """A metric's mean over the shared cases."""
        return interval(entry.by_case(metric, point), self.shared)


def compare_runs(
    runs: Sequence[Path],
    *,
    which: str = "best",
    reference: str = "",
    metric: str = "leaderboard",
    quick: bool = False,
    each: bool = False,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = unheard,
    warn: Warn = unheard,
) -> Comparison:
    """Compare runs; what is found about a network stays in its run's `comparison.jsonl`.

    Args:
        runs: Run folders, in any state.
        which: Which weights, as in `Run.trained`.
        reference: Run folder, YAML file or `preset:NAME` whose objective measures all; the first run's otherwise.
        metric: Of `METRICS`, higher being better, by which rows are ranked.
        quick: Take what the last validations recorded; predict nothing and write nothing.
        each: A row for every run, also where they are repeats of one configuration.
        dataset: Prepared data set, if it has moved.
        overrides: `key=value` for settings of prediction, for all of them.
        progress: Told what is worked on, and how many of how many tiles are done.
        warn: Told what is damaged and found anew.

    Raises:
        UserError: Not a run, runs of different data sets, a metric that ranks nothing, or no such reference.
    """
    if not runs:
        raise UserError("there is no run to compare: name run folders")
    if metric not in METRICS or not METRICS[metric].higher_is_better:
        good = ", ".join(name for name, one in METRICS.items() if one.higher_is_better)
        raise UserError(f"--metric {metric} ranks nothing: choose one of {good}")
    told = read_told(runs)
    rows = rows_of(told, each=each)
    problems = {run.name: run.problem for run in told if run.config is None}
    objective = _objective(reference, rows)
    names = {run.path: run for row in rows for run in row.runs}
    scores: dict[str, NetworkScores] = {}
    data: PreparedDataset | None = None
    if quick:
        scores = _recorded(list(names.values()), which, problems)
        found = next((name for name in QUICK_METRICS if _all_have(scores, name)), "dice")
        metric = metric if _all_have(scores, metric) else found
    elif objective is not None:
        scores, data = _scored(list(names.values()), which, objective, dataset, overrides, problems, progress, warn)
    entries, notes = _entries(rows, scores, which)
    return _concluded(
        Comparison(
            told, problems, entries, _shared(entries), {}, metric, (), objective.name if objective else "",
            (), _objectives(rows), quick, which, tuple(notes),
        ),
        data,
    )  # fmt: skip


def _objective(reference: str, rows: Sequence[Row]) -> Objective | None:
    if not reference:
        return Objective(rows[0].runs[0].name, rows[0].config) if rows else None
    place = Path(reference)
    return Objective(reference, load_config(place / CONFIG if place.is_dir() else reference).config)


def _recorded(runs: Sequence[Told], which: str, problems: dict[str, str]) -> dict[str, NetworkScores]:
    found = {}
    for run in runs:
        validation = run.validation(which)
        if validation is None or not validation.get("cases"):
            problems[run.name] = "no validation of single cases was recorded"
        else:
            found[run.name] = recorded_scores(validation)
    return found


def _all_have(scores: Mapping[str, NetworkScores], metric: str) -> bool:
    return all(metric in values for one in scores.values() for values in one.own.values())


def _scored(
    runs: Sequence[Told],
    which: str,
    objective: Objective,
    dataset: Path | None,
    overrides: Sequence[str],
    problems: dict[str, str],
    progress: Progress,
    warn: Warn,
) -> tuple[dict[str, NetworkScores], PreparedDataset | None]:
    """Scores by run; who has no network, or no data set, is in `problems` with the reason."""
    shared, learned = DataSets(), dict[str, TrainedOn]()
    for run in runs:
        try:
            learned[run.name] = Run(run.path, dataset, shared).trained(which).data
        except UserError as error:
            problems[run.name] = str(error)
    _refuse_different({name: one.dataset for name, one in learned.items()})
    found, data = dict[str, NetworkScores](), None
    for run in (one for one in runs if one.name in learned):
        opened = Run(run.path, dataset, shared)
        trained = opened.trained(which).overridden(overrides, run.path)
        data = opened.dataset(trained)
        found[run.name] = score_network(opened, trained, objective, name=run.name, progress=progress, warn=warn)
    return found, data


def _refuse_different(identities: Mapping[str, str]) -> None:
    if len(set(identities.values())) > 1:
        listed = ", ".join(f"{name}: {identity[:12]}" for name, identity in identities.items())
        raise UserError(
            f"the runs belong to different data sets ({listed}), and a score of one volume says nothing of another: "
            "compare runs of one data set"
        )


def _entries(
    rows: Sequence[Row], scores: Mapping[str, NetworkScores], which: str
) -> tuple[tuple[Entry, ...], list[str]]:
    """Rows with their scores; repeats that hold the very weights of another one count once."""
    entries, notes = [], [row.note for row in rows if row.note]
    for row in rows:
        kept: dict[str, NetworkScores] = {}
        for run in row.runs:
            one = scores.get(run.name)
            twin = next(
                (name for name, other in kept.items() if one and one.weights and one.weights == other.weights), ""
            )
            if twin:
                notes.append(f"{run.name} holds the very weights of {twin}: they are a tie, and count once")
            elif one is not None:
                kept[run.name] = one
        records = {run.name: run.validation(which) for run in row.runs}
        totals = {name: float(record["total"]) for name, record in records.items()
                  if record is not None and record["total"] is not None}  # fmt: skip
        entries.append(Entry(row, kept, totals))
    return tuple(entries), notes


def _shared(entries: Sequence[Entry]) -> tuple[str, ...]:
    known = [one.cases for one in entries if one.cases]
    return tuple(sorted(frozenset.intersection(*known))) if known else ()


def _objectives(rows: Sequence[Row]) -> tuple[str, ...]:
    """Keys of the objective in which rows differ: its terms and weights, and the epoch that ends it."""
    keys = [each.key for row in rows[1:] for each in diff_configs(rows[0].config, row.config)]
    curriculum = any(row.config.loss.curriculum for row in rows)
    return tuple(dict.fromkeys(key for key in keys if key.startswith("loss.")
                               or (curriculum and key == "training.epochs")))  # fmt: skip


def _concluded(found: Comparison, data: PreparedDataset | None) -> Comparison:
    """With rankings, shares and what is to be said."""
    scored = {one.label: one for one in found.scored}
    points = (OWN,) if found.quick else (OWN, AT_MATCHED)
    rankings = [
        rank(
            point, found.metric, {name: one.by_case(found.metric, point) for name, one in scored.items()}, found.shared
        )
        if len(scored) > 1 and found.shared
        else unranked(point, found.metric, _why_unranked(found))
        for point in points
    ]
    names = dict.fromkeys(term for one in scored.values() for part in one.scores.values()
                          for terms in part.terms.values() for term in terms)  # fmt: skip
    if data is not None:
        shares = true_shares(data, found.shared)
    else:
        shares = {case: _recorded_share(found.scored, case) for case in found.shared}
    return replace(
        found,
        rankings=tuple(rankings),
        terms=tuple(names),
        true_shares=shares,
        notes=(*found.notes, *_remarks(found), *orders(rankings)),
    )


def _recorded_share(entries: Sequence[Entry], case: str) -> float:
    values = [run.get(case, math.nan) for one in entries for run in one.by_case("true_share")]
    return next((value for value in values if not math.isnan(value)), math.nan)


def _why_unranked(found: Comparison) -> str:
    if not found.scored:
        return "no run has a score"
    if len(found.scored) == 1:
        return f"there is one row only, {found.scored[0].label}: nothing to rank (--each makes a row of every run)"
    listed = "; ".join(f"{one.label}: {', '.join(sorted(one.cases))}" for one in found.scored)
    return (
        f"the runs held out different volumes ({listed}), and no volume is held out by all: a difference could be the "
        "volumes'; compare runs of one fold, or all folds of each configuration"
    )


def _remarks(found: Comparison) -> list[str]:
    said = []
    for one in found.scored:
        more = sorted(one.cases - set(found.shared))
        if more and found.shared:
            said.append(f"{one.label} held out {', '.join(more)} as well, and not all rows did: they are in no mean")
    if found.quick:
        said.append(
            "--quick: the numbers are those of the recorded validations, by the protocol of each run's own training; "
            "there is no matched share and no reference objective"
        )
        protocols = {_validation_of(one.row.config) for one in found.scored}
        if len(protocols) > 1:
            said.append("the runs were validated in different ways (training.validation): compare without --quick")
    singles = [one.label for one in found.scored if len(one.scores) == 1]
    if singles and len(found.scored) > 1:
        said.append(
            f"one run each of {', '.join(singles)}: what is said holds for these weights, and not for the "
            "configuration trained with another seed"
        )
    repeats = [one for one in found.entries if 0 < len(one.scores) < len(one.row.runs)]
    said += [
        f"{one.label}: {counted(len(one.scores), 'run is', 'runs are')} scored of {len(one.row.runs)}"
        for one in repeats
    ]
    return said


def _validation_of(config: Config) -> str:
    return config.training.validation.model_dump_json()
