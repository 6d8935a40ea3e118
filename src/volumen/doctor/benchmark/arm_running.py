"""One run of an arm: the same fault, and what is done against it, at the same number of steps."""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.config.schema import Config
from volumen.data.randomness import generator
from volumen.doctor.benchmark.arms import ARM_VALUES, AS_PLANNED, MAXIMUM_SHARE, Arm, ArmDraw
from volumen.doctor.benchmark.bench import Started, run_missing
from volumen.doctor.benchmark.drawing import Draw
from volumen.doctor.benchmark.injections import Injection, Injector
from volumen.doctor.benchmark.running import (
    RUNS,
    WORK,
    Job,
    clean_volumes,
    dataset_of,
    keep,
    train_faulty,
    true_score,
)
from volumen.doctor.benchmark.setups import SETUPS, Values, config_of
from volumen.doctor.benchmark.volumes import UNSEEN
from volumen.errors import DamagedError
from volumen.monitors.diagnosis import SICK
from volumen.monitors.sign import Sign
from volumen.runs.folder import open_run
from volumen.runs.records import read_metrics
from volumen.runs.requests import ask
from volumen.system.output import Progress, unheard
from volumen.system.records import read_record
from volumen.training.interventions import refusal
from volumen.training.objective import weights_at
from volumen.training.remedies import REMEDIES, Situation
from volumen.training.repairs import Interventions
from volumen.training.state import TrainingState
from volumen.training.step import StepResult

ARM_RESULT, ARM_VERSION = "arm.json", 1
RESTARTED = 5000
"""What is added to the seed of a run that is begun again."""


@dataclass(frozen=True)
class ArmResult:
    """What came of an arm; beside it lie the records of its run, of a restart those of the better one."""

    arm: Arm
    draw: Draw
    dice: float
    """Mean over the unseen clean volumes, of the best checkpoint; 0 where there is none."""
    score: float
    outcome: str
    steps: int
    """All that were made: the run's own and those of trials."""
    trial_steps: int
    diagnosed_step: int | None
    """Of the doctor's first diagnosis; None where there was none."""
    tournaments: int
    done: tuple[str, ...]
    """What was done to the run against its fault."""
    seconds: float
    version: int = ARM_VERSION


@dataclass(frozen=True)
class ArmJob:
    """An arm with all that it is made of."""

    arm: ArmDraw
    source: Path | None = None
    values: Values | None = None

    @property
    def job(self) -> Job:
        """Its draw, with the fault."""
        return Job(self.arm.draw, self.source, self.values or {})


class ArmListener(Injector):
    """Brings the fault in once, at the same step in every arm, and notes what is done against it."""

    def __init__(self, injection: Injection, onset_step: int, seed: int) -> None:
        super().__init__(injection, 0.0 if onset_step <= 1 else 1.0, seed)
        self.onset_step, self.is_done = onset_step, False
        self.steps = self.trial_steps = self.tournaments = 0
        self.diagnosed_step: int | None = None
        self.done: list[str] = []
        self._is_new, self._path = False, Path()

    def started(self, path: object, config: object, facts: Mapping[str, Any]) -> None:
        """Keep the run's folder."""
        self._path = Path(str(path))

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """A run that went back and comes to the same step again meets no second fault."""
        self.planned, self.steps = state.planned_steps, self.steps + 1
        if state.cursor.step == self.onset_step and not self.is_done:
            self.is_done, self.began = True, self.began or (state.cursor.step, state.cursor.epoch)
            self._begin(state)
        if self.is_in and self.injection.every is not None:
            self.injection.every(state, self.random)

    def event(self, event: Mapping[str, Any]) -> None:
        """Count tournaments and what they cost, and see the first diagnosis."""
        kind = event["kind"]
        if kind == "tournament":
            self.tournaments += 1
            self.trial_steps += int(event["cost_steps"])
        if kind == "intervention":
            self.done.append(" ".join(str(event[key]) for key in ("what", *_PARAMETERS) if key in event))
        if kind == "diagnosis" and event["state"] == SICK and self.diagnosed_step is None:
            self._is_new = True

    def epoch_ended(self, state: TrainingState, record: Mapping[str, Any], validation: object) -> None:
        """Act where the doctor has spoken for the first time."""
        if self._is_new:
            self._is_new, self.diagnosed_step = False, state.cursor.step
            self.diagnosed(state, self._path)

    def diagnosed(self, state: TrainingState, run: Path) -> None:
        """The doctor's first diagnosis; an arm that does something does it here."""


_PARAMETERS = ("factor", "name", "weight", "value", "to", "std", "decay")


class _Stopping(ArmListener):
    """Ends the run at the first diagnosis."""

    def diagnosed(self, state: TrainingState, run: Path) -> None:
        state.planned_steps = state.cursor.step


class _Drawing(ArmListener):
    """Does one remedy of the whole table that the run can have, drawn by lot."""

    def diagnosed(self, state: TrainingState, run: Path) -> None:
        if state.cursor.step >= state.planned_steps:
            return
        store, now = open_run(run).checkpoints, situation_of(state)
        possible = [one for one in all_remedies(now) if not refusal(state, one, store)]
        number = generator(state.config.seed, state.cursor.epoch, 0, "benchmark remedy").integers(len(possible))
        for one in possible[int(number)]:
            ask(run, one, now=True)


def situation_of(state: TrainingState) -> Situation:
    """What remedies may depend on."""
    weights = weights_at(state.config.loss, state.cursor.epoch, state.repairs.changes.weights)
    return Situation(state.gradient_clip, weights)


def all_remedies(now: Situation) -> list[Interventions]:
    """Every remedy of the table, whatever it is against, each once."""
    terms = " ".join(f"term {name}" for name in now.weights)
    places = ("", "constant", "term_floor")
    signs = [Sign("", name, "warn", terms, 0, 0, where) for name in REMEDIES for where in places]
    return list(dict.fromkeys(one for sign in signs for one in REMEDIES[sign.name](sign, now)))


_LISTENERS: dict[Arm, Callable[..., ArmListener]] = {"restart": _Stopping, "random": _Drawing}


def run_arm(asked: ArmJob, out: Path) -> ArmResult:
    """Train under an arm, score, and keep the records under `out/runs`."""
    arm, draw, job = asked.arm.arm, asked.arm.draw, asked.job
    clean = clean_volumes(job, out)
    config = _config(asked, dataset_of(job, clean, out))
    folder = out / WORK / f"{asked.arm.name}-{secrets.token_hex(3)}"
    began = os.times()
    listener = _LISTENERS.get(arm, ArmListener)(job.injection, _onset_step(config, arm, draw), draw.seed)
    outcome, steps, done = train_faulty(config, folder, listener), 0, list(listener.done)
    if arm == "restart":
        outcome, folder, steps = _restarted(config, folder, listener, job, outcome)
        done = ["restart"] if steps else []
    dice, score = true_score(folder, job, clean[-UNSEEN:])
    ended = os.times()
    result = ArmResult(
        arm=arm,
        draw=draw,
        dice=dice,
        score=score,
        outcome=outcome,
        steps=listener.steps + listener.trial_steps + steps,
        trial_steps=listener.trial_steps,
        diagnosed_step=listener.diagnosed_step,
        tournaments=listener.tournaments,
        done=tuple(done),
        seconds=ended.user - began.user + ended.system - began.system,
    )
    keep(folder, out / RUNS / asked.arm.name, ARM_RESULT, asdict(result))
    return result


def _config(asked: ArmJob, dataset: Path) -> Config:
    """The run's configuration, as long as its arm has it."""
    arm, draw, job = asked.arm.arm, asked.arm.draw, asked.job
    layers = (SETUPS[draw.setup].values, job.injection.values, ARM_VALUES.get(arm, {}), job.values)
    config = config_of(asked.arm.name, dataset, draw.seed, job.look.side, *layers)
    if arm in AS_PLANNED:
        return config
    return _with_epochs(config, round(config.training.epochs * (1 + MAXIMUM_SHARE)))


def _with_epochs(config: Config, epochs: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})


def _onset_step(config: Config, arm: Arm, draw: Draw) -> int:
    """At which the fault comes in: the same one in every arm, a share of the steps that were planned."""
    epochs = config.training.epochs / (1 if arm in AS_PLANNED else 1 + MAXIMUM_SHARE)
    return max(1, round(draw.onset * round(epochs) * _steps(config)))


def _steps(config: Config) -> int:
    return config.data.sampling.patches_per_epoch // config.data.batch


def _restarted(config: Config, folder: Path, first: ArmListener, job: Job, outcome: str) -> tuple[str, Path, int]:
    """Begin again with the steps that a stopped run has left; how the better one ended, its folder, and the new steps.

    A fault that was there from the start is there again. One that came later was an event, which does not come twice.
    """
    left = config.training.epochs - -(-first.steps // _steps(config))
    if left < 1:
        return outcome, folder, 0
    seed = config.seed + RESTARTED
    injection = job.injection if first.onset_step <= 1 else Injection(job.injection.values)
    listener = ArmListener(injection, first.onset_step, seed)
    again = folder.with_name(f"{folder.name}-again")
    ended = train_faulty(replace_seed(_with_epochs(config, left), seed), again, listener)
    if _best(again) > _best(folder):
        shutil.rmtree(folder)
        return ended, again, listener.steps
    shutil.rmtree(again)
    return outcome, folder, listener.steps


def replace_seed(config: Config, seed: int) -> Config:
    """The same run from other weights, on other patches."""
    return config.model_copy(update={"seed": seed})


def _best(run: Path) -> float:
    """By the run's own validations; below all others where it has none."""
    seen = [one.get("metrics", {}).get("dice") for one in read_metrics(run) if one.get("kind") == "validation"]
    return max((float(one) for one in seen if isinstance(one, int | float)), default=-1.0)


def read_arms(out: Path) -> dict[str, ArmResult]:
    """The results that are whole and of this version, by the name of their run."""
    found = {}
    for path in sorted((out / RUNS).glob(f"arm-*/{ARM_RESULT}")):
        try:
            result: ArmResult = read_record(path, ArmResult, "remove its folder, it is run again")
        except DamagedError:
            continue
        if result.version == ARM_VERSION and ArmDraw(result.arm, result.draw).name == path.parent.name:
            found[path.parent.name] = result
    return found


def run_repair(
    out: Path,
    draws: Sequence[ArmDraw],
    *,
    source: Path | None = None,
    values: Values | None = None,
    seconds: float = float("inf"),
    jobs: int = 1,
    progress: Progress = unheard,
) -> tuple[dict[str, ArmResult], dict[str, str]]:
    """Run what is missing of some arms, as `run_bench` does of the benchmark; arguments and errors are the same.

    Returns:
        Results by the name of the run, those of earlier calls too; and why runs could not be made.
    """
    results = read_arms(out)

    def begin(draw: ArmDraw) -> Started[ArmResult]:
        return run_arm, (ArmJob(draw, source, values), out)

    failures = run_missing(out, draws, results, begin, seconds=seconds, jobs=jobs, progress=progress)
    return results, failures
