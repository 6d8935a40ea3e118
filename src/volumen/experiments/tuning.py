"""Search post-processing by the leaderboard score, so that the gain it reports is not the gain it was fitted to.

The cases come in groups, the folds they were held out with. For each group a search of its own sees the other groups
only, and its best pipeline is scored on the group it never saw: these scores are reported. One more search sees all
groups, and its pipeline is the one to use. Killed and started again, the searches go on behind their last finished
trials. A pipeline's score on a case is computed once and shared among the searches.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pebble import ProcessExpired

from volumen import __version__
from volumen.config.dump import canonical
from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.errors import UserError
from volumen.experiments.held_out import HeldOut, identity_of
from volumen.experiments.pipeline_scores import SCORES, Scorer, Warn
from volumen.experiments.search_space import starting_points
from volumen.experiments.searching import TrialLog, best_of, search_trials
from volumen.metrics import beats_noise, mean_and_noise
from volumen.system.processes import pool_of

ALL = "all"
SEARCHES = "searches"
THRESHOLDS = tuple(round(0.1 + 0.05 * number, 2) for number in range(17))
RAW = Postprocessing()
OWN, THRESHOLD, TUNED = "own", "threshold", "tuned"
Tell = Callable[[str, int, int], None]


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
    """Everything that was found."""

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
class _Job:
    """One search to be done."""

    cases: tuple[HeldOut, ...]
    folder: Path
    left_out: str
    trials: int
    seed: int
    threads: int | None = None

    @property
    def log(self) -> TrialLog:
        """Where its trials are kept."""
        name = f"without {self.left_out}" if self.left_out != ALL else ALL
        return TrialLog(self.folder / SEARCHES, name, canonical(origin_of(self.cases, self.seed)))


def check_search(trials: int) -> None:
    """Refuse, before anything is computed, a search that cannot be done.

    Raises:
        UserError: Optuna is not installed, or fewer trials than there are starting points.
    """
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
    tell: Tell = lambda name, done, of: None,
    warn: Warn = lambda sentence: None,
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
        UserError: Optuna is not installed, fewer than two cases, fewer trials than there are starting points, a
            damaged prediction, or a worker process that was ended from outside.
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


def _searched(jobs: Sequence[_Job], workers: int, tell: Tell, warn: Warn) -> dict[str, Search]:
    """What each job finds, by the group it did not see."""
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
    """A search in a process of its own, and what is to be said of it."""
    sentences: list[str] = []
    return _search(job, sentences.append), sentences


def _search(job: _Job, warn: Warn) -> Search:
    """One search: all cases but those of a group."""
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
        for case_id in ids:
            rows[OWN][case_id] = scorer.score(own, case_id)
            rows["raw"][case_id] = scorer.score(RAW, case_id)
            rows[THRESHOLD][case_id] = scorer.score(nested[group].threshold, case_id)
            rows[TUNED][case_id] = scorer.score(nested[group].pipeline, case_id)
            rows["final"][case_id] = scorer.score(final.pipeline, case_id)
    return rows
