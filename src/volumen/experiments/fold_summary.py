"""What became of all folds: each one's story, and the scores over volumes, over folds and by scroll.

A fold that was not scored is in no mean, and the means say over how many folds they are.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from volumen.errors import UserError
from volumen.experiments.evaluation_file import load_evaluation
from volumen.experiments.fold_records import (
    RECORD,
    SUMMARY,
    TRAINED,
    FoldsRecord,
    fold_name,
    is_begun,
    is_scored,
    read_attempts,
    status_of,
)
from volumen.experiments.scoring import CaseResult, Evaluation
from volumen.files import strict_json
from volumen.metrics import mean_of_known
from volumen.metrics.table import METRICS
from volumen.runs.folder import WORK
from volumen.system.attempts import Attempt
from volumen.system.locks import is_held
from volumen.system.output import counted, duration
from volumen.system.records import write_record

SCORED, UNSCORED, RUNNING, FAILED, STOPPED, NOT_BEGUN, HELD_BACK, QUEUED = (
    "scored",
    "trained",
    "running",
    "failed",
    "stopped",
    "not begun",
    "held back",
    "queued",
)


@dataclass(frozen=True)
class FoldReport:
    """One fold."""

    fold: int
    state: str
    """`scored`, `trained` (not scored), `running`, `failed`, `stopped`, `held back`, `queued` (on a
    cluster) or `not begun`."""
    how: str = ""
    """How the training ended, as its run says it."""
    epochs: int = 0
    planned_epochs: int = 0
    best_epoch: int | None = None
    """Counted from 1."""
    metric: str = ""
    best: float | None = None
    """The selection metric in the best validation."""
    training_seconds: float = 0.0
    wall_seconds: float = 0.0
    """Of all of its processes."""
    restarts: int = 0
    """Starts after a death or a failure."""
    cases: int = 0
    """Held-out volumes."""
    means: dict[str, float] | None = None
    """Over its held-out volumes, by metric; None where it was not scored."""
    volumes: dict[str, float] = field(default_factory=dict)
    """Leaderboard score of each held-out volume, by its id."""
    story: str = ""
    """What happened, in one sentence."""


@dataclass(frozen=True)
class Spread:
    """A mean, and the deviation (n - 1) of the numbers that it is of; NaN with fewer than two."""

    mean: float
    deviation: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of those numbers that have a value."""
        known = [value for value in values if not math.isnan(value)]
        deviation = statistics.stdev(known) if len(known) > 1 else math.nan
        return cls(statistics.fmean(known) if known else math.nan, deviation, len(known))


@dataclass(frozen=True)
class FoldsSummary:
    """All folds."""

    name: str
    folder: str
    folds: tuple[FoldReport, ...]
    over_cases: dict[str, Spread]
    over_folds: dict[str, Spread]
    """Of the folds' means."""
    scrolls: dict[str, dict[str, float]]
    """Means by scroll and metric; `cases` is their number."""
    notes: tuple[str, ...]

    @property
    def scored(self) -> tuple[FoldReport, ...]:
        """Folds that are in the means."""
        return tuple(one for one in self.folds if one.means is not None)

    @property
    def missing(self) -> tuple[FoldReport, ...]:
        """Folds that are in none."""
        return tuple(one for one in self.folds if one.means is None)

    @property
    def is_complete(self) -> bool:
        """Whether every fold that was asked for is scored."""
        return not self.missing

    @property
    def headline(self) -> str:
        """The outcome in a sentence."""
        whole = f"{len(self.scored)} of {counted(len(self.folds), 'fold')} scored"
        if not self.scored:
            return whole
        score = self.over_folds["leaderboard"]
        spread = "" if math.isnan(score.deviation) else f" +- {score.deviation:.3f}"
        return f"{whole}: leaderboard score {score.mean:.3f}{spread} (mean and deviation over the folds)"

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "headline": self.headline, "complete": self.is_complete}

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON."""
        return strict_json(self.record())


def summarise_folds(folder: Path) -> FoldsSummary:
    """Read what a folder of folds holds.

    Raises:
        UserError: It holds none, or its record is damaged.
    """
    record = FoldsRecord.read(folder)
    if record is None:
        raise UserError(f"{folder} has no {RECORD}: give the folder that `volumen folds train` printed")
    attempts, given_up, faults = read_attempts(folder)
    reports, evaluations = [], dict[int, Evaluation]()
    for fold in record.wanted:
        name = fold_name(fold)
        if is_scored(folder, folder / name):
            evaluations[fold] = load_evaluation(folder / name)
        tried, why = attempts.get(name, []), given_up.get(name, "")
        reports.append(_report(folder, record, fold, tried, why, evaluations.get(fold)))
    cases = [case for one in evaluations.values() for case in one.cases]
    notes = list(faults)
    missing = [str(one.fold) for one in reports if one.means is None]
    if missing and evaluations:
        folds = counted(len(evaluations), "fold")
        notes.append(f"means are over {folds} of {len(reports)}: without {', '.join(missing)}")
    lacking = sorted(set(range(len(record.folds))) - set(record.wanted))
    if lacking:
        notes.append(f"not asked for: {', '.join(map(fold_name, lacking))}")
    return FoldsSummary(
        record.name,
        str(folder),
        tuple(reports),
        {name: Spread.of([case.values[name] for case in cases]) for name in METRICS} if cases else {},
        {name: Spread.of([one.mean[name] for one in evaluations.values()]) for name in METRICS} if cases else {},
        _by_scroll(cases),
        tuple(notes),
    )


def write_summary(folder: Path, summary: FoldsSummary) -> None:
    """Leave the summary in the folder."""
    write_record(folder / SUMMARY, summary.record())


def _by_scroll(cases: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    result = {}
    for scroll in sorted({case.scroll_id for case in cases}):
        rows = [case.values for case in cases if case.scroll_id == scroll]
        result[scroll] = {
            "cases": float(len(rows)),
            **{name: mean_of_known(row[name] for row in rows) for name in METRICS},
        }
    return result


def _report(
    folder: Path,
    record: FoldsRecord,
    fold: int,
    attempts: Sequence[Attempt],
    given_up: str,
    evaluation: Evaluation | None,
) -> FoldReport:
    status = status_of(folder / fold_name(fold))
    best = status.get("best") or {}
    epoch = best.get("epoch")
    state = _state(folder, record, fold, attempts, given_up, status, evaluation)
    lost = [one for one in attempts[:-1] if one.ending in ("died", "failed", None)]
    return FoldReport(
        fold,
        state,
        str(status.get("state", "")),
        int(status.get("epoch", 0)),
        int(status.get("planned_epochs", 0)),
        None if epoch is None else int(epoch) + 1,
        str(best.get("metric", "")),
        best.get("value"),
        float(status.get("seconds", 0.0)),
        sum(one.seconds or 0.0 for one in attempts),
        len(lost),
        record.held_out[fold],
        None if evaluation is None else evaluation.mean,
        {} if evaluation is None else {case.id: case.values["leaderboard"] for case in evaluation.cases},
        story_of(attempts, given_up or (record.held_back if state == HELD_BACK else "")),
    )


def _state(
    folder: Path,
    record: FoldsRecord,
    fold: int,
    attempts: Sequence[Attempt],
    given_up: str,
    status: dict[str, Any],
    evaluation: Evaluation | None,
) -> str:
    if evaluation is not None:
        return SCORED
    if given_up:
        return FAILED
    if attempts and attempts[-1].ending in ("failed", "refused", "died"):
        return FAILED
    run = folder / fold_name(fold)
    if attempts and attempts[-1].ending is None and (str(fold) in record.jobs or is_held(run, WORK)):
        return RUNNING
    if status.get("state") in TRAINED:
        return UNSCORED
    if attempts or is_begun(run):
        return STOPPED
    if str(fold) in record.jobs:
        return QUEUED
    return HELD_BACK if record.held_back else NOT_BEGUN


def story_of(attempts: Sequence[Attempt], given_up: str = "") -> str:
    """What happened to a fold, process by process, in one sentence."""
    said = []
    for number, one in enumerate(attempts):
        if one.ending is None:
            after = number + 1 < len(attempts)
            said.append(f"{one.step} ended with its supervisor" if after else f"{one.step} begun")
            continue
        lasted = duration(one.seconds or 0.0)
        if one.ending == "done":
            said.append(f"{one.step} done in {lasted}")
        elif one.ending == "stopped":
            said.append(f"{one.step} stopped after {lasted}")
        elif one.ending == "died":
            said.append(f"{one.step} {one.why} after {lasted}")
        else:
            said.append(f"{one.step} failed after {lasted} ({one.why})")
    last = attempts[-1].why if attempts else ""
    if given_up and given_up.split(", after ")[0] != last:
        said.append(given_up)
    return "; ".join(said)
