"""All folds of a configuration: each trained and scored in processes of its own, by a supervisor of a few at a time.

A fold's processes are `volumen train` and then the prediction and scoring of what it held out. Whatever ends one of
them, the same call goes on: what is finished is kept, what was begun is resumed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volumen.config.dump import config_hash
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.criteria import State
from volumen.errors import UserError
from volumen.experiments.evaluation_file import EVALUATION, load_evaluation
from volumen.experiments.fold_records import (
    LOGS,
    TRAINED,
    WORK,
    FoldsRecord,
    fold_name,
    is_begun,
    is_scored,
    note_attempt,
    refuse_others,
    status_of,
)
from volumen.monitors.criteria import judged, parent_records, records_of_run
from volumen.runs.folder import run_config
from volumen.runs.records import read_run_logs
from volumen.system.attempts import Attempt
from volumen.system.locks import hold
from volumen.system.output import Warn, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.processes import processors
from volumen.system.supervising import Situation, Slot, Step, Supervisor, Watcher
from volumen.training.initial import Materials

TRAIN, RESUME, SCORE = "train", "resume", "score"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
MOST_RESTARTS = 100


@dataclass(frozen=True)
class FoldsPlan:
    """Folds of a configuration, and the folder that they go into."""

    source: str
    """File or preset."""
    overrides: tuple[str, ...]
    config: Config
    folder: Path
    folds: tuple[int, ...]
    record: FoldsRecord
    accept: tuple[str, ...] = ()
    keep_going: bool = False

    def run(self, fold: int) -> Path:
        """The run folder of a fold."""
        return self.folder / fold_name(fold)

    def config_of(self, fold: int) -> Config:
        """The configuration of a fold."""
        return self.config.model_copy(update={"data": self.config.data.model_copy(update={"fold": fold})})


def plan_folds(
    source: str,
    overrides: Sequence[str],
    *,
    folds: str = "all",
    folder: Path | None = None,
    accept: Sequence[str] = (),
    keep_going: bool = False,
) -> FoldsPlan:
    """Which folds are to be trained, and whether what lies in the folder is theirs; nothing is written.

    Args:
        source: A YAML file or `preset:NAME`.
        overrides: `key=value`.
        folds: `0-4`, `0,2,4` or `all`.
        folder: `runs/NAME-folds` by default.
        accept: Codes of findings that stop no run.
        keep_going: Train on where a fault is seen.

    Raises:
        UserError: No such configuration, data set or fold, or a folder that holds something else; says what differs.
    """
    if Path(source).is_dir():
        raise UserError(f"{source} is a folder: give a YAML file or preset:NAME")
    config = load_config(source, list(overrides)).config
    materials = Materials(config)
    division = materials.division
    chosen = parse_folds(folds, len(division.folds))
    place = folder or Path("runs") / f"{config.name}-folds"
    now = FoldsRecord.of(config, source, materials.dataset.identity, division.folds)
    before = FoldsRecord.read(place)
    plan = FoldsPlan(source, tuple(overrides), config, place, chosen, before or now, tuple(accept), keep_going)
    refuse_others(place, before, now, {fold: plan.config_of(fold) for fold in range(len(division.folds))})
    return replace(plan, record=plan.record.with_wanted(chosen))


def parse_folds(text: str, count: int) -> tuple[int, ...]:
    """The numbers that `0-4`, `0,2,4` or `all` names, of folds 0 to `count` - 1, rising.

    Raises:
        UserError: It is none of these, or names a fold that does not exist.
    """
    if text.strip() == "all":
        return tuple(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or max(len(first), len(last)) > 6:
            raise UserError(f"--folds {text}: {part.strip() or 'nothing'} is no fold: give 0-4, 0,2,4 or all")
        ends = int(first), int(last or first)
        if ends[0] > ends[1]:
            raise UserError(f"--folds {text}: {part.strip()} runs backwards: give {ends[1]}-{ends[0]}")
        if ends[1] >= count:
            raise UserError(f"--folds {text}: fold {ends[1]} does not exist (there are 0 to {count - 1})")
        chosen.update(range(ends[0], ends[1] + 1))
    return tuple(sorted(chosen))


@dataclass(frozen=True)
class FoldJob:
    """What a fold needs next, by what lies in its folder."""

    plan: FoldsPlan
    fold: int

    @property
    def name(self) -> str:
        """As its run folder."""
        return fold_name(self.fold)

    @property
    def log(self) -> Path:
        """Output of its processes."""
        return self.plan.folder / LOGS / f"{self.name}.log"

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.plan.run(self.fold)

    def next(self) -> Step | None:
        """Train, resume, score, or nothing.

        Raises:
            UserError: The run is sick, or the configuration was changed meanwhile.
        """
        status = status_of(self.run)
        if status.get("state") in TRAINED:
            if is_scored(self.plan.folder, self.run):
                return None
            return Step(SCORE, ("volumen", "folds", "score", str(self.run), "--folder", str(self.plan.folder)))
        if status.get("state") == "sick" and not self.plan.keep_going:
            raise UserError(_sick(status))
        own = load_config(self.plan.source, [*self.plan.overrides, f"data.fold={self.fold}"]).config
        if config_hash(own) != config_hash(self.plan.config_of(self.fold)):
            raise UserError(f"{self.plan.source} was changed since the folds began: put it back, or use another --out")
        begun = is_begun(self.run)
        options = [word for override in self.plan.overrides for word in ("-o", override)]
        options += ["--fold", str(self.fold), "--out", str(self.run), *(["--resume"] if begun else [])]
        options += [word for code in self.plan.accept for word in ("--accept", code)]
        options += ["--keep-going"] if self.plan.keep_going else []
        return Step(RESUME if begun else TRAIN, ("volumen", "train", self.plan.source, *options))

    def lasting(self, attempt: Attempt) -> str:
        """Why a fold that failed would fail again: it is sick, or its numbers are no longer finite."""
        if attempt.step == SCORE:
            return ""
        status = status_of(self.run)
        if status.get("state") == "sick":
            return _sick(status)
        events = read_run_logs(self.run).events if status else ()
        return attempt.why if events and events[-1].get("kind") == "non_finite" else ""


def _sick(status: Mapping[str, object]) -> str:
    reason = str(status.get("reason") or "a fault of data, labels or configuration")
    return f"sick: {reason}; --keep-going trains on all the same"


def criteria_met(run: Path, config: Config | None = None) -> tuple[bool, str]:
    """Whether a run meets every criterion of its experiment, and a sentence on each.

    Args:
        run: Run folder.
        config: Holds the criteria; the run's own by default.

    Raises:
        UserError: There are none, or it was never validated.
    """
    experiment = (config or run_config(run)).experiment
    _need_criteria(len(experiment.criteria), str(run))
    scores = load_evaluation(run).mean if (run / EVALUATION).is_file() else None
    records = records_of_run(run, scores, parent_records(experiment))
    if not records.of("val.loss"):
        raise UserError(f"{run} was never validated: look into its log")
    verdicts = judged(experiment.criteria, records)
    said = "; ".join(f"{text}: {verdict.state}, {verdict.sentence}" for text, verdict in verdicts)
    return all(verdict.state is State.met for _, verdict in verdicts), said


def _need_criteria(count: int, where: str) -> None:
    if not count:
        raise UserError(
            f"{where} has no criteria that the first fold could meet: give some under experiment.criteria, or leave "
            "--first-must-meet out"
        )


def slots_of(config: Config, jobs: int | None, gpus: Sequence[str], visible: int) -> tuple[tuple[Slot, ...], str]:
    """Places for processes, and a sentence on how they share the machine.

    Args:
        config: Of the folds.
        jobs: How many at a time; as many as GPUs by default, or one.
        gpus: Numbers of CUDA devices, each of which one process has to itself; empty where none were named.
        visible: How many CUDA devices there are.

    Raises:
        UserError: More jobs than GPUs, or GPUs that are not there.
    """
    if gpus:
        wrong = [one for one in gpus if not one.isdecimal() or len(one) > 4 or int(one) >= visible]
        if config.device == "cpu" or wrong or len(set(gpus)) < len(gpus):
            there = f"there are {visible}" if visible else "PyTorch sees no CUDA device"
            fault = "the configuration's device is cpu" if config.device == "cpu" else there
            raise UserError(f"--gpus {','.join(gpus)}: {fault}: name each GPU once, such as 0,1, or leave --gpus out")
        if jobs is not None and jobs > len(gpus):
            raise UserError(f"--jobs {jobs} with {counted(len(gpus), 'GPU')}: one fold at a time has a GPU to itself")
        narrowed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = [narrowed[int(one)] if int(one) < len(narrowed) and narrowed[0] else one for one in gpus]
        slots = tuple(
            Slot(f"GPU {one}", {"CUDA_VISIBLE_DEVICES": name}) for one, name in zip(gpus, names, strict=True)
        )[: jobs or len(gpus)]
        return slots, f"{counted(len(slots), 'fold')} at a time, each with a GPU to itself"
    count = jobs or 1
    if visible and config.device != "cpu":
        return tuple(Slot("GPU") for _ in range(count)), f"{counted(count, 'fold')} at a time on one GPU"
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) else processors()
    threads = max(1, min(most, processors() // count))
    environment = dict.fromkeys(THREADS, str(threads))
    return tuple(Slot("CPU", environment) for _ in range(count)), (
        f"{counted(count, 'fold')} at a time, {counted(threads, 'thread')} each"
    )


class Recorder:
    """Writes every process down, and passes everything on."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        self._folder, self._watcher = folder, watcher

    def began(self, attempt: Attempt) -> None:
        """A process was started."""
        note_attempt(self._folder, attempt.job, "began", attempt)
        self._watcher.began(attempt)

    def ended(self, attempt: Attempt, said: str) -> None:
        """A process ended."""
        note_attempt(self._folder, attempt.job, "ended", attempt)
        self._watcher.ended(attempt, said)

    def looked(self, situations: Mapping[str, Situation]) -> None:
        """Time has gone by."""
        self._watcher.looked(situations)


def train_folds(
    plan: FoldsPlan,
    slots: Sequence[Slot],
    watcher: Watcher,
    *,
    restarts: int = 2,
    first_must_meet: bool = False,
    warn: Warn = unheard,
) -> str:
    """Train and score what is not done yet; returns the signal that asked to stop, empty where none did.

    Args:
        plan: As `plan_folds` made it.
        slots: Places for processes.
        watcher: Told what happens; everything is in the folder's logs as well.
        restarts: Of each fold, after a death.
        first_must_meet: The folds after the first are trained only where it meets its criteria.
        warn: Told what the first fold came to.

    Raises:
        UserError: The folder is in use or cannot be written to, or there are no criteria to meet.
    """
    if first_must_meet:
        _need_criteria(len(plan.config.experiment.criteria), plan.source)
    writable_folder(plan.folder, "choose another folder with --out, or make it writable")
    with hold(plan.folder, WORK):
        here = {fold: job for fold, job in plan.record.jobs.items() if int(fold) not in plan.folds}
        record = replace(plan.record, jobs=here)
        record.write(plan.folder)
        first, later = plan.folds[:1], plan.folds[1:]
        held_back = ""
        for folds in (first, later) if first_must_meet else (plan.folds,):
            supervisor = Supervisor(
                [FoldJob(plan, fold) for fold in folds], slots, Recorder(plan.folder, watcher), restarts=restarts
            )
            for name, found in supervisor.run().items():
                if found.state == "failed":
                    note_attempt(plan.folder, name, "given_up", why=found.why)
            if supervisor.stopped_by:
                return supervisor.stopped_by
            if first_must_meet and folds == first and later:
                held_back = _held_back(plan, first[0], warn)
                if held_back:
                    break
        replace(record, held_back=held_back).write(plan.folder)
    return ""


def _held_back(plan: FoldsPlan, fold: int, warn: Warn) -> str:
    """Why the later folds are not trained; empty where they are."""
    name = fold_name(fold)
    if status_of(plan.run(fold)).get("state") not in TRAINED:
        return f"{name} was not trained to its end"
    met, said = criteria_met(plan.run(fold), plan.config)
    warn(f"{name} {'meets' if met else 'misses'} its criteria: {said}")
    return "" if met else f"{name} misses its criteria: {said}"
