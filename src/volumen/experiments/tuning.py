"""Search post-processing by the leaderboard score, so that the gain it reports is not the gain it was fitted to.

The cases come in groups, the folds they were held out with. For each group a search of its own sees the other groups
only, and its best pipeline is scored on the group it never saw: these scores are reported. One more search sees all
groups, and its pipeline is the one to use. Killed and started again, the searches go on behind their last finished
trials. A pipeline's score on a case is computed once and shared among the searches.
"""

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired

from volumen import __version__
from volumen.config.dump import canonical
from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.errors import UserError
from volumen.experiments.held_out import HeldOut, identity_of
from volumen.experiments.searching import TrialLog, best_of, search_trials, starting_points
from volumen.metrics import beats_noise, leaderboard, mean_and_noise
from volumen.postprocess import apply_pipeline
from volumen.system.output import Progress, Warn, unheard
from volumen.system.processes import pool_of
from volumen.system.records import append_record, mend_log, read_log_from

ALL = "all"
SEARCHES = "searches"
THRESHOLDS = tuple(round(0.1 + 0.05 * number, 2) for number in range(17))
RAW = Postprocessing()
OWN, THRESHOLD, TUNED = "own", "threshold", "tuned"
SCORES = "scores"
KEPT_BYTES = 2e9  # of probabilities and labels, in each process


class Scorer:
    """Scores pipelines on held-out cases, each pair once; what was computed stands in a folder, one log a process.

    Scores of other predictions do not count. `warn` is told what is damaged and has to be computed again.
    """

    def __init__(
        self, cases: Sequence[HeldOut], folder: Path, threads: int | None = None, warn: Warn = unheard
    ) -> None:
        self.cases = {case.id: case for case in cases}
        self.folder, self.threads, self.warn = folder, threads, warn
        self.owner = f"{__version__} {identity_of(cases)}"
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = {}
        self._read: dict[Path, int] = {}
        largest = max(math.prod(case.dataset.case(case.id).shape) for case in cases)
        kept = lru_cache(maxsize=max(1, int(KEPT_BYTES / (6 * largest))))
        self._volumes = kept(
            lambda name: (self.cases[name].probabilities, self.cases[name].label, self.cases[name].scan)
        )

    def score(self, settings: Postprocessing, case_id: str) -> float:
        """Leaderboard score of a pipeline on a case.

        Raises:
            DamagedError: The case's prediction is not what was written.
            OSError: The score cannot be kept, such as on a full disk.
        """
        key = f"{case_id} {canonical(settings.model_dump(mode='json'))}"
        if key not in self._known:
            self._reload()
        if key not in self._known:
            probabilities, label, scan = self._volumes(case_id)
            mask = apply_pipeline(probabilities, settings, scan)
            score = leaderboard(mask, label, threads=self.threads).score
            append_record(self.folder / f"{os.getpid()}.jsonl", {"key": key, "score": score}, owner=self.owner)
            self._known[key] = score
        return self._known[key]

    def mean(self, settings: Postprocessing, case_ids: Sequence[str]) -> float:
        """Mean score over cases."""
        return float(np.mean([self.score(settings, case_id) for case_id in case_ids]))

    def mend(self) -> None:
        """Say and drop what is damaged; for the one process that works in the folder, before others do."""
        for path in sorted(self.folder.glob("*.jsonl")):
            faults = mend_log(path, owner=self.owner).faults(f"{path}")
            if faults:
                self.warn(f"{'; '.join(faults)}: these scores are computed again")

    def _reload(self) -> None:
        """Read what other processes have added."""
        for path in sorted(self.folder.glob("*.jsonl")):
            records, damaged, self._read[path] = read_log_from(path, self._read.get(path, 0), owner=self.owner)
            if damaged:
                self.warn(f"{path} is damaged in {damaged} new lines: these scores are computed again")
            self._known |= {str(record["key"]): float(record["score"]) for record in records}


@dataclass(frozen=True)
class Search:
    """One search: what it saw, and what it found."""

    left_out: str
    """The group it did not see; `all` for the last search."""
    pipeline: Postprocessing
    threshold: Postprocessing
    """The best threshold alone, on the cases it saw."""
    fitted: float
    """Mean score of the pipeline on the cases it saw."""
    trials: int


@dataclass(frozen=True)
class Tuned:
    final: Search
    nested: tuple[Search, ...]
    scores: Mapping[str, Mapping[str, float]] = field(repr=False)
    """By method and case; the pipelines of `nested` on the cases they never saw."""
    own: Postprocessing = RAW
    """What there was before, under the method `own`."""

    def gain(self, method: str, ids: Sequence[str]) -> tuple[float, float]:
        """What a method gains over what there was on these cases, which its search never saw, and the noise of that."""
        return mean_and_noise([self.scores[method][name] - self.scores[OWN][name] for name in ids])

    @property
    def advised(self) -> str:
        """The best method among those that beat what there was by more than noise; `own` where none does."""
        ids = list(self.scores[OWN])
        gains = {method: self.gain(method, ids) for method in (THRESHOLD, TUNED)}
        better = [method for method, (gain, noise) in gains.items() if beats_noise(gain, noise, len(ids))]
        return max(better, key=lambda method: gains[method][0], default=OWN)

    @property
    def to_use(self) -> Postprocessing:
        """The post-processing to go on with."""
        return {OWN: self.own, THRESHOLD: self.final.threshold, TUNED: self.final.pipeline}[self.advised]


@dataclass(frozen=True)
class Ablation:
    """What a step is worth on cases that the search which chose it never saw."""

    step: str
    searches: int
    """Nested searches whose pipeline has the step."""
    gain: float
    """Mean score with the step less without it, over the cases of those searches."""
    noise: float
    """Standard error of the gain over the cases; NaN for one case."""
    volumes: int
    """Cases of those searches."""

    @property
    def harmful(self) -> bool:
        """The step lowers the score."""
        return self.gain < 0

    @property
    def within_noise(self) -> bool:
        """Nothing can be said of the step."""
        return not beats_noise(abs(self.gain), self.noise, self.volumes)


@dataclass(frozen=True)
class _Job:
    cases: tuple[HeldOut, ...]
    folder: Path
    left_out: str
    trials: int
    seed: int
    threads: int | None = None

    @property
    def log(self) -> TrialLog:
        name = f"without {self.left_out}" if self.left_out != ALL else ALL
        return TrialLog(self.folder / SEARCHES, name, canonical(origin_of(self.cases, self.seed)))


def check_search(trials: int) -> None:
    """Raise a `UserError` where Optuna is missing, or for fewer trials than there are starting points."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("the search needs Optuna, which is not installed: pip install 'volumen[tune]'")
    if trials < len(starting_points()):
        raise UserError(f"--trials must be at least {len(starting_points())}, the points it starts from, got {trials}")


def origin_of(cases: Sequence[HeldOut], seed: int) -> dict[str, Any]:
    """All that the trials of a search depend on, as plain values."""
    versions = {"volumen": __version__, "optuna": version("optuna")}
    return {"predictions": identity_of(cases), "seed": seed, **versions}


def tune(
    cases: Sequence[HeldOut],
    folder: Path,
    *,
    own: Postprocessing = RAW,
    trials: int = 60,
    workers: int = 1,
    seed: int = 0,
    tell: Progress = unheard,
    warn: Warn = unheard,
) -> Tuned:
    """Search for the best post-processing, nested over the groups of the cases.

    Args:
        cases: Held-out predictions of two groups or more; a single group is taken apart into its cases.
        folder: Trials and scores; searches that were begun there go on. One process at a time may do so.
        own: What there was before, which a pipeline has to beat.
        trials: Of each search.
        workers: Processes; each does whole searches.
        seed: Of the searches.
        tell: Told the search that ended, how many did, and how many there are.
        warn: Told what is damaged and is done again.

    Raises:
        UserError: As `check_search`, fewer than two cases, a damaged prediction, or a worker process that was ended
            from outside.
        OSError: A full disk; the same call goes on where it stopped.
    """
    check_search(trials)
    groups = groups_of(cases)
    scorer = Scorer(cases, folder / SCORES, warn=warn)
    scorer.mend()
    threads = None if workers == 1 else 1  # the other workers have the other cores
    jobs = [_Job(tuple(cases), folder, name, trials, seed, threads) for name in (*groups, ALL)]
    found = _searched(jobs, workers, tell, warn)
    final = found.pop(ALL)
    return Tuned(final, tuple(found.values()), _scores(scorer, groups, found, final, own), own)


def _searched(jobs: Sequence[_Job], workers: int, tell: Progress, warn: Warn) -> dict[str, Search]:
    found: dict[str, Search] = {}
    if workers == 1:
        for job in jobs:
            found[job.left_out] = _search(job, warn)
            tell(job.left_out, len(found), len(jobs))
        return found
    with pool_of(min(workers, len(jobs))) as pool:
        results = [pool.schedule(_search_apart, args=(job,)) for job in jobs]
        for job, result in zip(jobs, results, strict=True):
            try:
                found[job.left_out], sentences = result.result()
            except (ProcessExpired, BrokenExecutor) as error:
                raise UserError(
                    "a worker process of the search was ended from outside, perhaps for want of memory: start the same "
                    "command again, with fewer --workers; it goes on"
                ) from error
            for sentence in sentences:
                warn(sentence)
            tell(job.left_out, len(found), len(jobs))
    return found


def groups_of(cases: Sequence[HeldOut]) -> dict[str, tuple[str, ...]]:
    """Case ids by group; each case alone where there is one group only.

    Raises:
        UserError: Fewer than two cases.
    """
    if len(cases) < 2:
        raise UserError(
            f"a search needs two held-out volumes or more, to be scored on one it did not see: got {len(cases)}"
        )
    names = sorted({case.group for case in cases})
    if len(names) == 1:
        return {case.id: (case.id,) for case in cases}
    return {name: tuple(case.id for case in cases if case.group == name) for name in names}


def _search_apart(job: _Job) -> tuple[Search, list[str]]:
    sentences: list[str] = []
    return _search(job, sentences.append), sentences


def _search(job: _Job, warn: Warn) -> Search:
    hidden = groups_of(job.cases).get(job.left_out, ())
    seen = [case.id for case in job.cases if case.id not in hidden]
    scorer = Scorer(job.cases, job.folder / SCORES, job.threads, warn)
    threshold = max(
        (Postprocessing(steps=(Threshold(level=level),)) for level in THRESHOLDS),
        key=lambda settings: scorer.mean(settings, seen),
    )
    done = search_trials(job.log, job.trials, job.seed, lambda settings: scorer.mean(settings, seen), warn)
    best = best_of(done)
    return Search(job.left_out, best.pipeline, threshold, best.value, len(done))


def _scores(
    scorer: Scorer,
    groups: Mapping[str, Sequence[str]],
    nested: Mapping[str, Search],
    final: Search,
    own: Postprocessing,
) -> dict[str, dict[str, float]]:
    """What each method reaches on cases that its search never saw, and the final pipeline on all of them."""
    rows: dict[str, dict[str, float]] = {name: {} for name in (OWN, "raw", THRESHOLD, TUNED, "final")}
    for group, ids in groups.items():
        pipelines = own, RAW, nested[group].threshold, nested[group].pipeline, final.pipeline
        for case_id in ids:
            for row, pipeline in zip(rows.values(), pipelines, strict=True):
                row[case_id] = scorer.score(pipeline, case_id)
    return rows


def ablation(tuned: Tuned, cases: Sequence[HeldOut], folder: Path) -> tuple[Ablation, ...]:
    """Leave out every step of the nested pipelines in turn; the step that decides becomes the threshold 0.5."""
    scorer, groups = Scorer(cases, folder / SCORES), groups_of(cases)
    gains: dict[str, list[float]] = {}
    searches: dict[str, int] = {}
    for search in tuned.nested:
        for number, step in enumerate(search.pipeline.steps):
            without = leave_out(search.pipeline, number)
            searches[step.kind] = searches.get(step.kind, 0) + 1
            gains.setdefault(step.kind, []).extend(
                scorer.score(search.pipeline, case_id) - scorer.score(without, case_id)
                for case_id in groups[search.left_out]
            )
    return tuple(Ablation(kind, searches[kind], *mean_and_noise(values), len(values)) for kind, values in gains.items())


def leave_out(settings: Postprocessing, number: int) -> Postprocessing:
    """The pipeline without one of its steps."""
    steps = list(settings.steps)
    kept = [Threshold()] if steps[number].kind in ("threshold", "hysteresis") else []
    return Postprocessing(steps=(*steps[:number], *kept, *steps[number + 1 :]))
