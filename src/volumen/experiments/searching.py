"""One search over post-processing: what it may choose, and trials that can be computed again.

Every step is optional, each number has a range that holds what the best solutions of the surface challenge report
(hysteresis 0.25-0.35 / 0.80-0.90, components below 5k to 20k voxels, closing z 2-3 and xy 1-2) and goes beyond it.

Which pipeline trial n tries is a function of the seed, the search's name and the finished trials before it, nothing
else: starting points go by number, and Optuna's sampler gets a seed for each trial. The study lives in memory and is
built from the log. So a search that is killed anywhere, or whose log loses lines, finds what it would have found.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from volumen.config.postprocessing import Postprocessing
from volumen.errors import DamagedError
from volumen.system.output import Warn, counted
from volumen.system.records import append_record, mend_log, typed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FixedTrial

RANDOM_TRIALS = 12
"""First trials, starting points among them, before the sampler learns from what was found."""
_NAME_LENGTH = 60
START: tuple[Mapping[str, Any], ...] = (
    {"decision": "threshold", "level": 0.5, "component": 50},
    {"decision": "threshold", "level": 0.5, "component": 2000},
    {"decision": "threshold", "level": 0.4, "component": 2000, "cavities": True, "pinholes": True},
    {
        "decision": "hysteresis",
        "low": 0.35,
        "above": 0.35,
        "component": 5000,
        "close_z": 2,
        "close_xy": 1,
        "pinholes": True,
        "cavities": True,
    },
)
"""Points at which a search begins: near the raw threshold, and near what is known to work."""
NEUTRAL: Mapping[str, Any] = {
    "ridges": 0.0,
    "split": False,
    "close_z": 0,
    "close_xy": 0,
    "median": False,
    "pinholes": False,
    "patch": 0,
    "cavities": False,
}


class Chooser(Protocol):
    """What Optuna's trial has; anything that chooses will do."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """A number from a range."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from a range."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


def suggest(trial: Chooser) -> Postprocessing:
    """One pipeline of the space."""
    steps: list[dict[str, Any]] = []
    weight = trial.suggest_categorical("ridges", (0.0, 0.3, 0.6))
    if weight:
        steps.append({"kind": "sharpen_ridges", "weight": weight})
    steps.append(_decision(trial))
    if trial.suggest_categorical("split", (False, True)):
        steps.append({"kind": "split_fused"})
    least = trial.suggest_int("component", 50, 20000, log=True)
    steps.append({"kind": "remove_small_components", "minimum_voxels": least})
    along, across = trial.suggest_int("close_z", 0, 3), trial.suggest_int("close_xy", 0, 2)
    if along or across:
        steps.append({"kind": "close", "radius_voxels": (along, across, across)})
    if trial.suggest_categorical("median", (False, True)):
        steps.append({"kind": "median"})
    if trial.suggest_categorical("pinholes", (False, True)):
        steps.append({"kind": "plug_pinholes"})
    hole = trial.suggest_categorical("patch", (0, 50, 200))
    if hole:
        steps.append({"kind": "patch_sheets", "maximum_hole_voxels": hole})
    if trial.suggest_categorical("cavities", (False, True)):
        steps.append({"kind": "fill_cavities"})
    return Postprocessing.model_validate({"steps": tuple(steps)})


def _decision(trial: Chooser) -> dict[str, Any]:
    if trial.suggest_categorical("decision", ("threshold", "hysteresis")) == "threshold":
        return {"kind": "threshold", "level": round(trial.suggest_float("level", 0.2, 0.8, step=0.02), 2)}
    low = trial.suggest_float("low", 0.15, 0.6, step=0.05)
    above = trial.suggest_float("above", 0.1, 0.35, step=0.05)
    return {"kind": "hysteresis", "low": round(low, 2), "high": round(low + above, 2)}


def starting_points() -> tuple[dict[str, Any], ...]:
    """The points of `START`, whole."""
    return tuple({**NEUTRAL, **point} for point in START)


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
        import optuna

        return suggest(optuna.trial.FixedTrial(dict(self.parameters)))


@dataclass(frozen=True)
class TrialLog:
    """Where the trials of a search are kept."""

    folder: Path
    """One log for each search."""
    search: str
    """The search's name; any text."""
    owner: str
    """What the trials depend on; trials of another owner do not count."""

    @property
    def path(self) -> Path:
        """The file; its name is a name whatever the search is called."""
        readable = re.sub(r"[^A-Za-z0-9_]+", "-", self.search)[:_NAME_LENGTH].strip("-")
        return self.folder / f"{readable}-{hashlib.sha256(self.search.encode()).hexdigest()[:8]}.jsonl"

    def read(self, warn: Warn) -> dict[int, Trial]:
        """The trials by number; what is damaged is said and dropped."""
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
        """Keep a finished trial; an `OSError` leaves the log as before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        append_record(self.path, vars(trial), owner=self.owner)


def search_trials(
    log: TrialLog, trials: int, seed: int, value_of: Callable[[Postprocessing], float], warn: Warn
) -> tuple[Trial, ...]:
    """The first `trials` trials of a search, in order; those that its log does not hold yet are done.

    Args:
        log: Of the search.
        trials: How many there are to be in all.
        seed: Of the searches.
        value_of: What a pipeline is worth; more is better.
        warn: Told which trials are done again.
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
    import optuna

    digest = hashlib.sha256(f"{seed} {number} {search}".encode()).digest()
    return optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"), n_startup_trials=RANDOM_TRIALS)


def _suggested(parameters: Mapping[str, Any]) -> "FixedTrial":
    """A choice of these parameters, those that its pipeline does not have left out."""
    import optuna

    fixed = optuna.trial.FixedTrial(dict(parameters))
    suggest(fixed)
    return fixed


def _add(study: "Study", trial: Trial) -> None:
    import optuna

    fixed = _suggested(trial.parameters)
    study.add_trial(
        optuna.trial.create_trial(value=trial.value, params=fixed.params, distributions=fixed.distributions)
    )
