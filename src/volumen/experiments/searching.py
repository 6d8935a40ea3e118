"""One search over post-processing: trials that can be computed again, in a log that can be trusted.

Which pipeline trial n tries is a function of the seed, the search's name and the finished trials before it, nothing
else: starting points go by number, and Optuna's sampler gets a seed for each trial. The study lives in memory and is
built from the log. So a search that is killed anywhere, or whose log loses lines, finds what it would have found.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volumen.config.postprocessing import Postprocessing
from volumen.errors import DamagedError
from volumen.experiments.search_space import starting_points, suggest
from volumen.system.output import counted
from volumen.system.records import append_record, mend_log, typed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FixedTrial

RANDOM_TRIALS = 12
"""First trials, starting points among them, before the sampler learns from what was found."""
_NAME_LENGTH = 60


@dataclass(frozen=True)
class Trial:
    """A finished trial, as it stands in the log."""

    search: str
    number: int
    parameters: dict[str, bool | int | float | str]
    value: float

    @property
    def pipeline(self) -> Postprocessing:
        """What was tried."""
        return _pipeline(self.parameters)


@dataclass(frozen=True)
class TrialLog:
    """Where the trials of a search are kept.

    Args:
        folder: One log for each search.
        search: The search's name; any text.
        owner: What the trials depend on; trials of another owner do not count.
    """

    folder: Path
    search: str
    owner: str

    @property
    def path(self) -> Path:
        """The file; its name is a name whatever the search is called."""
        readable = re.sub(r"[^A-Za-z0-9_]+", "-", self.search)[:_NAME_LENGTH].strip("-")
        return self.folder / f"{readable}-{hashlib.sha256(self.search.encode()).hexdigest()[:8]}.jsonl"

    def read(self, warn: Callable[[str], None]) -> dict[int, Trial]:
        """The trials by number; what is damaged is said and dropped.

        Raises:
            DamagedError: The log cannot be read.
            OSError: There is no room to drop what is damaged.
        """
        log, found, strange = mend_log(self.path, owner=self.owner), {}, 0
        for record in log.records:
            try:
                trial: Trial = typed(record, Trial, self.path, "")
                strange += trial.search != self.search
                if trial.search == self.search and trial.pipeline:
                    found[trial.number] = trial
            except (DamagedError, ValueError):  # of another search space
                strange += 1
        faults = [
            *log.faults(str(self.path)),
            *([f"{self.path}: {counted(strange, 'trial')} of another search"] * bool(strange)),
        ]
        if faults:
            warn(f"{'; '.join(faults)}: these trials are done again")
        return found

    def append(self, trial: Trial) -> None:
        """Keep a finished trial.

        Raises:
            OSError: It does not fit; the log is as before.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        append_record(self.path, vars(trial), owner=self.owner)


def search_trials(
    log: TrialLog, trials: int, seed: int, value_of: Callable[[Postprocessing], float], warn: Callable[[str], None]
) -> tuple[Trial, ...]:
    """Do the trials of a search that its log does not hold yet.

    Args:
        log: Of the search.
        trials: How many there are to be in all.
        seed: Of the searches.
        value_of: What a pipeline is worth; more is better.
        warn: Told which trials are done again.

    Returns:
        The first `trials` trials, in order.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    known, done = log.read(warn), []
    for number in range(trials):
        trial = known.get(number)
        if trial is not None:
            _add(study, trial)
        elif number < len(starting_points()):
            point = _suggested(starting_points()[number])
            trial = Trial(log.search, number, point.params, value_of(suggest(point)))
            log.append(trial)
            _add(study, trial)
        else:
            study.sampler = _sampler(log.search, number, seed)
            asked = study.ask()
            pipeline = suggest(asked)
            trial = Trial(log.search, number, asked.params, value_of(pipeline))
            log.append(trial)
            study.tell(asked, trial.value)
        done.append(trial)
    return tuple(done)


def best_of(trials: tuple[Trial, ...]) -> Trial:
    """The trial of the highest value, the first of several."""
    return max(trials, key=lambda trial: trial.value)


def _sampler(search: str, number: int, seed: int) -> "BaseSampler":
    """Of one trial."""
    import optuna

    digest = hashlib.sha256(f"{seed} {number} {search}".encode()).digest()
    return optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"), n_startup_trials=RANDOM_TRIALS)


def _suggested(parameters: Mapping[str, Any]) -> "FixedTrial":
    """A trial that chose these parameters, those that its pipeline does not have left out."""
    import optuna

    fixed = optuna.trial.FixedTrial(dict(parameters))
    suggest(fixed)
    return fixed


def _add(study: "Study", trial: Trial) -> None:
    """Tell a study of a finished trial."""
    import optuna

    fixed = _suggested(trial.parameters)
    study.add_trial(
        optuna.trial.create_trial(value=trial.value, params=fixed.params, distributions=fixed.distributions)
    )


def _pipeline(parameters: Mapping[str, Any]) -> Postprocessing:
    import optuna

    return suggest(optuna.trial.FixedTrial(dict(parameters)))
