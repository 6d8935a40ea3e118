"""The runs of an ablation: each in a process of its own, scored by one protocol, its result kept once it is known.

A run that diverges is a result. What was killed goes on: finished runs are kept, a half one is resumed, and what it
gives is what it would have given.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pebble import ProcessExpired, ProcessFuture

from volumen.config.remedies import CONTROL
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.ablation_plan import Job
from volumen.experiments.matched_share import LogitCounts, Matched, matched
from volumen.files import strict_json
from volumen.inference.predictor import weights_identity
from volumen.inference.recipe import Recipe, predictor_of
from volumen.metrics import mean_of_known
from volumen.postprocess import probabilities_from_logits
from volumen.runs.folder import CHECKPOINTS, CONFIG, open_run
from volumen.runs.run import Run
from volumen.runtime import choose_device, choose_precision
from volumen.system.output import Progress, Warn, duration
from volumen.system.processes import pool_of, processors
from volumen.system.records import append_record, mend_log
from volumen.training.listener import Outcome
from volumen.training.loop import run_training
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError, StepResult
from volumen.training.validate import Validation, loss_on_blocks, mask_metrics

RESULTS = "results.jsonl"
LAST = "last"
"""The weights that are compared: those after the last step."""
_POLL_SECONDS = 0.5
_STEP = ".step"
_Values = dict[str, float | None]


@dataclass(frozen=True)
class RunResult:
    """What one run came to, on whole held-out volumes."""

    seconds: float
    """Of training and scoring, in the session that ended it."""
    failed: str = ""
    """Why there are no numbers: it diverged."""
    metrics: _Values = field(default_factory=dict)
    cases: dict[str, _Values] = field(default_factory=dict)
    """The same by volume."""
    loss: float | None = None
    """Under the control's objective, whatever it was trained with."""
    terms: _Values = field(default_factory=dict)
    matched: Matched | None = None
    weights: str = ""
    """Their identity: two runs with the same have done the same."""
    parameters: int = 0


@dataclass(frozen=True)
class _Ended:
    """What a worker process returns: a result, or why there is none that lasts."""

    result: RunResult | None = None
    problem: str = ""


class _Steps:
    """Leaves the number of the last step in a file, for whoever shows progress."""

    def __init__(self, path: Path) -> None:
        self._path, self._said = path, 0.0

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        """Nothing to show."""

    def stepped(self, state: TrainingState, result: StepResult, steps_per_epoch: int) -> None:
        """Now and then, for a file costs more than a small step."""
        if time.monotonic() - self._said > _POLL_SECONDS:
            self._said = time.monotonic()
            with suppress(OSError):
                self._path.write_text(str(state.cursor.step), encoding="ascii")

    def validating(self, state: TrainingState, done: int, of: int) -> None:
        """Nothing to show."""

    def trying(self, state: TrainingState, branch: str, done: int, of: int) -> None:
        """Nothing to show."""

    def epoch_ended(self, state: TrainingState, record: dict[str, Any], validation: Validation | None) -> None:
        """Nothing to show."""

    def event(self, event: dict[str, Any]) -> None:
        """It stands in the run's own events."""


def run_jobs(
    jobs: Sequence[Job],
    reference: Config,
    out: Path,
    *,
    processes: int,
    keep: bool,
    progress: Progress,
    warn: Warn,
) -> tuple[dict[str, RunResult], dict[str, str]]:
    """Do what is not done yet.

    Args:
        jobs: All runs.
        reference: Its objective measures every run.
        out: Folder of the ablation, held by this process.
        processes: Runs at a time.
        keep: Keep the checkpoints of runs that are scored.
        progress: Told what runs, and how many of how many steps are done.
        warn: Told the forecast, and what is damaged and done again.

    Returns:
        Results by the job's key, and the reason by key for each run that could not be made here and now.

    Raises:
        UserError: The control cannot be trained, or a worker process was ended from outside; the same call goes on.
    """
    done = read_results(out, warn)
    left = [job for job in jobs if job.key not in done]
    problems: dict[str, str] = {}
    steps = jobs[0].config.training.epochs * (
        jobs[0].config.data.sampling.patches_per_epoch // jobs[0].config.data.batch
    )
    show = _Shown(jobs, left, steps, min(processes, max(len(left), 1)), progress, warn)
    if not left:
        show.now(())
        return done, problems
    with pool_of(min(processes, len(left))) as pool:
        threads = max(1, processors() // processes)  # however few are left: their number changes last bits
        waiting = {job.key: (job, pool.schedule(run_job, args=(job, reference, threads))) for job in left}
        while waiting:
            for job, future in list(waiting.values()):
                if not future.done():
                    continue
                del waiting[job.key]
                ended = _returned(future)
                if ended.result is None:
                    if job.candidate == CONTROL:  # nothing could be compared with it
                        raise UserError(f"the control cannot be trained: {ended.problem}")
                    problems[job.key] = ended.problem
                else:
                    append_record(out / RESULTS, _record(job, ended.result))
                    _tidy(job, keep=keep)
                show.ended(ended)
            show.now([job for job, future in waiting.values() if future.running()])
            if waiting:
                time.sleep(_POLL_SECONDS / 5)
    return read_results(out, warn), problems


def _returned(future: "ProcessFuture[_Ended]") -> _Ended:
    try:
        ended: _Ended = future.result()
    except (ProcessExpired, BrokenExecutor) as error:
        raise UserError(
            "a run's process was ended from outside, perhaps for want of memory: start the same command again, with "
            "fewer --jobs; it goes on"
        ) from error
    if ended.result is None and not ended.problem:
        raise UserError("a run was asked from outside to stop: start the same command again; it goes on")
    return ended


class _Shown:
    """Progress and forecast."""

    def __init__(
        self, jobs: Sequence[Job], left: Sequence[Job], steps: int, at_once: int, progress: Progress, warn: Warn
    ) -> None:
        self._steps, self._all, self._left, self._at_once = steps, len(jobs) * steps, len(left), at_once
        self._done = (len(jobs) - len(left)) * steps
        self._progress, self._warn, self._told = progress, warn, False

    def ended(self, ended: _Ended) -> None:
        """A run is over; after the first, what the rest will take is said."""
        self._done, self._left = self._done + self._steps, self._left - 1
        if not self._told and self._left and ended.result is not None:
            self._told = True
            each = ended.result.seconds
            rounds = -(-self._left // self._at_once)
            self._warn(
                f"forecast: {duration(each * rounds)} more for {self._left} of the runs, {duration(each)} each, "
                f"{self._at_once} at a time"
            )

    def now(self, running: Sequence[Job]) -> None:
        """Tell how far everything is."""
        within = sum(min(_step_of(job), self._steps) for job in running)
        self._progress(", ".join(job.config.name for job in running) or "runs", self._done + within, self._all)


def _step_file(job: Job) -> Path:
    return job.folder.with_name(job.folder.name + _STEP)


def _step_of(job: Job) -> int:
    try:
        text = _step_file(job).read_text(encoding="ascii")
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdecimal() else 0


def _record(job: Job, result: RunResult) -> dict[str, Any]:
    return {"key": job.key, "candidate": job.candidate, "seed": job.seed, "result": asdict(result)}


def read_results(out: Path, warn: Warn) -> dict[str, RunResult]:
    """Results by key; damaged lines are said, and their runs are done again."""
    path = out / RESULTS
    log = mend_log(path)
    for fault in log.faults(str(path)):
        warn(f"{fault}: these runs are done again")
    return {str(record["key"]): result_of(record["result"]) for record in log.records}


def result_of(values: Mapping[str, Any]) -> RunResult:
    """A result as it stands in the log."""
    found = values["matched"]
    point = None if found is None else Matched(**{**found, "cases": tuple(found["cases"])})
    return RunResult(**{**values, "matched": point})


def _tidy(job: Job, *, keep: bool) -> None:
    _step_file(job).unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(job.folder / CHECKPOINTS, ignore_errors=True)


def run_job(job: Job, reference: Config, threads: int) -> _Ended:
    """Train and score one run, or go on with it; called in a process of its own."""
    torch.set_num_threads(min(threads, torch.get_num_threads()))  # OMP_NUM_THREADS may ask for fewer
    began = time.monotonic()
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        outcome = _trained(job)
        return _Ended() if outcome.state == "stopped" else _Ended(score_run(job, reference, began))
    except NonFiniteError as error:
        return _Ended(RunResult(time.monotonic() - began, failed=f"diverged: {error}"))
    except UserError as error:
        return _Ended(problem=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        return _Ended(problem=f"not enough memory: {error!s:.200}; fewer --jobs may do")


def _trained(job: Job) -> Outcome:
    begun = (job.folder / CONFIG).is_file() and not open_run(job.folder).checkpoints.is_empty()
    return run_training(job.config, job.folder, _Steps(_step_file(job)), resume=begun)


def score_run(job: Job, reference: Config, began: float) -> RunResult:
    """Score the weights after the last step on whole held-out volumes.

    Args:
        job: A run that is finished.
        reference: Its objective, as it is at the end of a run, gives the loss.
        began: Moment of `time.monotonic` from which the seconds count.
    """
    run = Run(job.folder)
    trained = run.trained(LAST)
    config, dataset = trained.config, run.dataset(trained)
    device = choose_device(config.device)
    predictor = predictor_of(trained.model, config, device, choose_precision(config.precision, device))
    recipe = Recipe(predictor, config.data.normalisation, config.postprocessing)
    objective = build_objective(reference.loss, reference.training.epochs - 1)
    full = config.training.selection_metric in ("leaderboard", "topo")
    cases, losses, counts = {}, list[tuple[float, dict[str, float], dict[str, float]]](), list[LogitCounts]()
    for name in trained.data.validation:
        logits, label, lesson, scan = _predicted(recipe, dataset, name)
        losses.append(loss_on_blocks(objective, logits, lesson))
        counts.append(LogitCounts.of(logits, label))
        cases[name] = mask_metrics(recipe.mask(probabilities_from_logits(logits), scan), label, full=full)
    names = dict.fromkeys(key for case in cases.values() for key in case)
    result = RunResult(
        time.monotonic() - began,
        metrics={key: mean_of_known(case[key] for case in cases.values() if key in case) for key in names},
        cases={name: dict(case) for name, case in cases.items()},
        loss=mean_of_known(total for total, _, _ in losses),
        terms={name: mean_of_known(raw[name] for _, raw, _ in losses if name in raw) for name in losses[0][1]},
        matched=matched(counts),
        weights=weights_identity(trained.model),
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
    )
    plain = strict_json(asdict(result))
    plain.pop("non_finite", None)
    return result_of(plain)


def _predicted(recipe: Recipe, dataset: PreparedDataset, name: str) -> tuple[Any, Any, Any, Any]:
    """Logits of a held-out volume, its label, its lesson and its scan."""
    scan = dataset.scan(name)
    image = recipe.normalised(np.asarray(dataset.image(name)), dataset.case(name).statistics)
    logits = recipe.predictor.logits(image, scan)
    return logits, np.asarray(dataset.label(name)), np.asarray(dataset.lesson(name)[...]), scan
