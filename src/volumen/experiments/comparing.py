"""Runs side by side: what differs, what each reaches on volumes that all held out, and whether that tells anything.

Rows are ranked by one metric that was chosen beforehand, at each run's own threshold and at a matched share of surface;
totals of different objectives are shown and never ranked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from volumen.config.compare import diff_configs
from volumen.config.load import load_config
from volumen.errors import UserError
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN, Ranking, orders, rank, unranked
from volumen.experiments.comparing_remarks import remarks, saying_nothing, trusted, why_unranked
from volumen.experiments.comparing_results import Comparison, Entry
from volumen.experiments.comparing_runs import Row, Told, read_told, rows_of
from volumen.experiments.comparing_scores import (
    NetworkScores,
    Objective,
    recorded_scores,
    score_network,
)
from volumen.metrics.table import METRICS
from volumen.runs.folder import CONFIG
from volumen.runs.run import DataSets, Run
from volumen.runs.saved import TrainedOn
from volumen.system.output import Progress, Warn, unheard

QUICK_METRICS = ("leaderboard", "leaderboard_quick", "surface_dice", "dice")
"""By which recorded validations are ranked: the first that all of them have."""
MOST_APART = 1e-5
"""Of true shares of the same voxels, rounded in records."""
NO_PROBLEMS: Mapping[str, str] = {}


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
    objective, named = _objective(reference, rows), [run for row in rows for run in row.runs]
    scores: dict[str, NetworkScores] = {}
    if quick:
        scores = _recorded(named, which, problems)
        metric = next((name for name in (metric, *QUICK_METRICS) if _all_have(scores, name)), metric)
    elif objective is not None:
        scores = _scored(named, which, objective, dataset, overrides, problems, progress, warn)
    measured = objective.name if objective is not None and not quick else ""
    return compare_scores(
        told, rows, scores, which=which, metric=metric, reference=measured, quick=quick, problems=problems
    )


def compare_scores(
    told: Sequence[Told],
    rows: Sequence[Row],
    scores: Mapping[str, NetworkScores],
    *,
    which: str = "best",
    metric: str = "leaderboard",
    reference: str = "",
    quick: bool = False,
    problems: Mapping[str, str] = NO_PROBLEMS,
) -> Comparison:
    """Compare what is known of runs; pure.

    Args:
        told: All runs.
        rows: Those with a configuration, as `rows_of` groups them.
        scores: What their networks reach, by name of the run; none for a run that was not scored.
        which: Which weights that were.
        metric: By which rows are ranked.
        reference: Whose objective gave the terms.
        quick: The scores are recorded validations, without a matched share.
        problems: By run, why it has no score.
    """
    entries, notes = _entries(rows, scores, which)
    found = Comparison(
        told=tuple(told),
        problems=problems,
        entries=entries,
        shared=_shared(entries),
        metric=metric,
        rankings=(),
        reference=reference,
        terms=_terms(scores),
        objectives_differ=_objectives(rows),
        quick=quick,
        which=which,
        notes=(),
    )
    nothing = saying_nothing(found)
    rankings = [trusted(_ranking(found, point), nothing) for point in ((OWN,) if quick else (OWN, AT_MATCHED))]
    return replace(found, rankings=tuple(rankings), notes=(*notes, *remarks(found), *orders(rankings)))


def _ranking(found: Comparison, point: str) -> Ranking:
    if len(found.scored) < 2 or not found.shared:
        return unranked(point, found.metric, why_unranked(found))
    rows = {one.label: one.by_case(found.metric, point) for one in found.scored}
    return rank(point, found.metric, rows, found.shared)


def _terms(scores: Mapping[str, NetworkScores]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in scores.values() for values in one.terms.values() for name in values))


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
    _refuse_other_voxels(found)
    return found


def _refuse_other_voxels(scores: Mapping[str, NetworkScores]) -> None:
    """Refuse validations of one case that saw other voxels, or another label."""
    seen: dict[str, tuple[str, float]] = {}
    for name, one in scores.items():
        for case, values in one.own.items():
            first, share = seen.setdefault(case, (name, values.get("true_share", math.nan)))
            if abs(values.get("true_share", math.nan) - share) > MOST_APART:
                raise UserError(
                    f"{first} and {name} were validated on other voxels or labels of {case} (true shares {share:.4f} "
                    f"and {values['true_share']:.4f}): compare without --quick"
                )


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
) -> dict[str, NetworkScores]:
    """Scores by run; who has no network, or no data set, is in `problems` with the reason."""
    shared, learned = DataSets(), dict[str, TrainedOn]()
    for run in runs:
        try:
            learned[run.name] = Run(run.path, dataset, shared).trained(which).data
        except UserError as error:
            problems[run.name] = str(error)
    _refuse_different({name: one.dataset for name, one in learned.items()})
    found = dict[str, NetworkScores]()
    for run in (one for one in runs if one.name in learned):
        opened = Run(run.path, dataset, shared)
        trained = opened.trained(which).overridden(overrides, run.path)
        try:
            opened.dataset(trained)
        except UserError as error:
            problems[run.name] = str(error)
            continue
        found[run.name] = score_network(opened, trained, objective, name=run.name, progress=progress, warn=warn)
    return found


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
