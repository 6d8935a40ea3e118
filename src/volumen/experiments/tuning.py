"""Search post-processing by the leaderboard score, so that the gain it reports is not the gain it was fitted to.

The cases come in groups, the folds they were held out with. For each group a search of its own sees the other groups
only, and its best pipeline is scored on the group it never saw: these scores are reported. One more search sees all
groups, and its pipeline is the one to use. Each search is a study in one Optuna journal file; killed and started again,
it goes on behind the last finished trial. A pipeline's score on a case is computed once and shared among the searches.
"""

import importlib.util
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from volumen.config.dump import canonical
from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.errors import UserError
from volumen.experiments.out_of_fold import HeldOut
from volumen.experiments.search_space import starting_points, suggest
from volumen.metrics import leaderboard, standard_error
from volumen.postprocess import apply_pipeline

ALL = "all"
JOURNAL, SCORES = "journal.log", "scores"
THRESHOLDS = tuple(round(0.1 + 0.05 * number, 2) for number in range(17))
KEPT_BYTES = 2e9  # of probabilities and labels, in each process
RAW = Postprocessing()
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


class Scorer:
    """Scores pipelines on held-out cases, each pair once; what was computed stands in a folder.

    Args:
        cases: The held-out cases.
        folder: For the scores, one file a process, so that processes never write into one another's.
        threads: Of the metric; None takes the cores there are.
    """

    def __init__(self, cases: Sequence[HeldOut], folder: Path, threads: int | None = None) -> None:
        self.cases = {case.id: case for case in cases}
        self.folder, self.threads = folder, threads
        folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, float] = {}
        self._read: dict[Path, int] = {}
        largest = max(math.prod(case.dataset.case(case.id).shape) for case in cases)
        kept = lru_cache(maxsize=max(1, int(KEPT_BYTES / (5 * largest))))
        self._volumes = kept(lambda case_id: (self.cases[case_id].probabilities, self.cases[case_id].label))

    def score(self, settings: Postprocessing, case_id: str) -> float:
        """Leaderboard score of a pipeline on a case."""
        key = f"{case_id} {canonical(settings.model_dump(mode='json'))}"
        if key not in self._known:
            self._reload()
        if key not in self._known:
            probabilities, label = self._volumes(case_id)
            mask = apply_pipeline(probabilities, settings)
            self._known[key] = leaderboard(mask, label, threads=self.threads).score
            with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]

    def mean(self, settings: Postprocessing, case_ids: Sequence[str]) -> float:
        """Mean score over cases."""
        return float(np.mean([self.score(settings, case_id) for case_id in case_ids]))

    def _reload(self) -> None:
        """Read what other processes have added."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open(encoding="utf-8") as file:
                file.seek(self._read.get(path, 0))
                for line in iter(file.readline, ""):
                    if not line.endswith("\n"):
                        break  # half a line: its process is writing, or was killed
                    key, value = json.loads(line)
                    self._known[key] = value
                    self._read[path] = file.tell()


def tune(
    cases: Sequence[HeldOut],
    folder: Path,
    *,
    trials: int = 60,
    workers: int = 1,
    seed: int = 0,
    tell: Tell = lambda name, done, of: None,
) -> Tuned:
    """Search for the best post-processing, nested over the groups of the cases.

    Args:
        cases: Held-out predictions of two groups or more; a single group is taken apart into its cases.
        folder: Journal and scores; a search that was begun there goes on.
        trials: Of each search.
        workers: Processes; each does whole searches.
        seed: Of the searches.
        tell: Told the search that ended, how many did, and how many there are.

    Raises:
        UserError: Optuna is not installed, fewer than two cases, or fewer trials than there are starting points.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("the search needs Optuna, which is not installed: pip install 'volumen[tune]'")
    groups = groups_of(cases)
    if trials < len(starting_points()):
        raise UserError(f"--trials must be at least {len(starting_points())}, the points it starts from, got {trials}")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [*groups, ALL]
    arguments = [(list(cases), folder, name, trials, seed) for name in jobs]
    found: dict[str, Search] = {}
    if workers == 1:
        for name, one in zip(jobs, arguments, strict=True):
            found[name] = _search(*one)
            tell(name, len(found), len(jobs))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for name, search in zip(jobs, pool.map(_search_alone, arguments), strict=True):
                found[name] = search
                tell(name, len(found), len(jobs))
    final = found.pop(ALL)
    return Tuned(final, tuple(found.values()), _scores(cases, groups, found, final, folder))


def groups_of(cases: Sequence[HeldOut]) -> dict[str, tuple[str, ...]]:
    """Case ids by group; each case alone where there is one group only.

    Raises:
        UserError: Fewer than two cases.
    """
    if len(cases) < 2:
        raise UserError(
            f"tuning needs two held-out volumes or more, to be scored on ones it did not see; got {len(cases)}"
        )
    names = sorted({case.group for case in cases})
    if len(names) == 1:
        return {case.id: (case.id,) for case in cases}
    return {name: tuple(case.id for case in cases if case.group == name) for name in names}


def mean_and_noise(differences: Sequence[float]) -> tuple[float, float]:
    """Mean of paired differences and its standard error."""
    return float(np.mean(differences)), standard_error(differences)


def _search_alone(arguments: tuple[Sequence[HeldOut], Path, str, int, int]) -> Search:
    """A search in a process of its own, on one thread: the others have the other cores."""
    return _search(*arguments, threads=1)


def _search(
    cases: Sequence[HeldOut], folder: Path, left_out: str, trials: int, seed: int, threads: int | None = None
) -> Search:
    """One study: all cases but those of a group."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    hidden = groups_of(cases).get(left_out, ())
    seen = [case.id for case in cases if case.id not in hidden]
    scorer = Scorer(cases, folder / SCORES, threads)
    threshold = max(
        (Postprocessing(steps=(Threshold(level=level),)) for level in THRESHOLDS),
        key=lambda settings: scorer.mean(settings, seen),
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name=f"without {left_out}" if left_out != ALL else ALL,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=12),
        load_if_exists=True,
    )
    if not study.trials:
        for point in starting_points():
            study.enqueue_trial(point)
    done = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    study.optimize(lambda trial: scorer.mean(suggest(trial), seen), n_trials=max(0, trials - done))
    best = suggest(optuna.trial.FixedTrial(study.best_params))
    return Search(left_out, best, threshold, study.best_value, len(study.trials))


def _scores(
    cases: Sequence[HeldOut],
    groups: Mapping[str, Sequence[str]],
    nested: Mapping[str, Search],
    final: Search,
    folder: Path,
) -> dict[str, dict[str, float]]:
    """What each method reaches on cases that its search never saw, and the final pipeline on all of them."""
    scorer = Scorer(cases, folder / SCORES)
    rows: dict[str, dict[str, float]] = {"raw": {}, "threshold": {}, "tuned": {}, "final": {}}
    for group, ids in groups.items():
        for case_id in ids:
            rows["raw"][case_id] = scorer.score(RAW, case_id)
            rows["threshold"][case_id] = scorer.score(nested[group].threshold, case_id)
            rows["tuned"][case_id] = scorer.score(nested[group].pipeline, case_id)
            rows["final"][case_id] = scorer.score(final.pipeline, case_id)
    return rows
