"""Folds as jobs of a cluster, by submitit, which is imported only here.

A job supervises one fold as `volumen folds train` does here. Before its time is over, or when it has to make way, the
scheduler says so by a signal: the training saves, and the job is queued again and resumes. The call that submits
returns; the same command again says how the jobs stand, submits what is missing, and makes the summary.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volumen.errors import UserError
from volumen.experiments.fold_jobs import FoldJob, FoldsPlan, Recorder
from volumen.experiments.fold_records import LOGS, WORK, ClusterJob, fold_name, note_attempt
from volumen.system.attempts import Attempt
from volumen.system.locks import hold
from volumen.system.names import one_line
from volumen.system.output import Warn, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.supervising import Situation, Slot, Supervisor

if TYPE_CHECKING:
    import submitit

SLURM, LOCAL = "slurm", "local"
SIGNAL_SECONDS = 120
"""Before the end of a job's time, for saving."""
MOST_REQUEUES = 1000
_STATES_LEFT = {"PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "CONFIGURING", "COMPLETING", "RESIZING"}
_UNKNOWN = "UNKNOWN"
_LISTED_SECONDS = 86400.0
_OURS = {"time", "job_name", "signal_delay_s", "ntasks_per_node", "nodes"}


class FoldTask:
    """One fold in a job; submitit pickles it, calls it, and asks it for a `checkpoint` before the job has to end.

    Args:
        plan: Of the folds.
        fold: Its number.
        restarts: After a death.
    """

    def __init__(self, plan: FoldsPlan, fold: int, restarts: int) -> None:
        self.plan, self.fold, self.restarts = plan, fold, restarts
        self._supervisor: Supervisor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_supervisor": None}

    def __call__(self) -> str:
        """Train and score the fold; its state at the end."""
        name, folder = fold_name(self.fold), self.plan.folder
        with hold(folder, f"{WORK}-{name}"):
            job = FoldJob(self.plan, self.fold)
            self._supervisor = Supervisor([job], [Slot("job")], Recorder(folder, _Silent()), restarts=self.restarts)
            (found,) = self._supervisor.run().values()
            if found.state == "failed":
                note_attempt(folder, name, "given_up", why=found.why)
            if self._supervisor.stopped_by == "SIGTERM":  # of a job that makes way: the signal to queue again follows
                time.sleep(SIGNAL_SECONDS)
            return found.state

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Let the training save, and have the same fold queued again."""
        import submitit

        if self._supervisor is not None:
            self._supervisor.stop_now(SIGNAL_SECONDS - 20.0)
        return submitit.helpers.DelayedSubmission(FoldTask(self.plan, self.fold, self.restarts))


class _Silent:
    """A watcher for whom the logs are enough."""

    def began(self, attempt: Attempt) -> None:
        """Nothing to show."""

    def ended(self, attempt: Attempt, said: str) -> None:
        """Into the job's own log."""
        if said:
            print(said, flush=True)

    def looked(self, situations: Mapping[str, Situation]) -> None:
        """Nothing to show."""


def parse_options(given: Sequence[str]) -> dict[str, str | int]:
    """`KEY=VALUE` of sbatch; whole numbers as such.

    Raises:
        UserError: No such form, or a key that is set otherwise.
    """
    options: dict[str, str | int] = {}
    for text in given:
        key, equals, value = (part.strip() for part in text.partition("="))
        name = key.lstrip("-").replace("-", "_")
        if not equals or not name.isidentifier():
            raise UserError(f"--slurm-option {text}: give KEY=VALUE, such as partition=gpu")
        if name in _OURS:
            fix = "use --slurm-time" if name == "time" else "leave it out"
            raise UserError(f"--slurm-option {text}: {name} is set by volumen: {fix}")
        options[name] = int(value) if value.isdecimal() and len(value) < 10 else value
    return options


def submit_folds(
    plan: FoldsPlan,
    cluster: str,
    *,
    minutes: int,
    options: Mapping[str, str | int],
    restarts: int = 2,
    warn: Warn = unheard,
) -> None:
    """Hand what is missing to a cluster; a fold whose job is still there is left alone.

    Args:
        plan: As `plan_folds` made it.
        cluster: `slurm`, or `local`: processes on this machine, to try it out.
        minutes: Time of a job, after which it is queued again.
        options: For sbatch.
        restarts: Of each fold within a job.
        warn: Told what was submitted, and which jobs are there.

    Raises:
        UserError: submitit or the cluster is not there, or does not know an option.
    """
    submitit = _submitit()
    plan = replace(plan, folder=plan.folder.resolve())
    writable_folder(plan.folder, "choose another folder with --out, or make it writable")
    with hold(plan.folder, WORK):
        jobs = dict(plan.record.jobs)
        here = plan.folder / LOGS / "jobs"
        left = []
        for fold in plan.folds:
            known = jobs.get(str(fold))
            if known is not None and _is_there(known, here):
                warn(f"{fold_name(fold)}: job {known.id} is {_state(known, here)}")
            elif _has_work(plan, fold, warn):
                left.append(fold)
            else:
                jobs.pop(str(fold), None)
        plan.record.write(plan.folder)
        if left:
            executor = _executor(submitit, cluster, here, minutes, options, plan.config.name)
            for fold in left:
                try:
                    job = executor.submit(FoldTask(plan, fold, restarts))
                except submitit.core.utils.FailedJobError as error:
                    raise UserError(f"{cluster} refuses the job: {one_line(str(error), 400)}") from error
                jobs[str(fold)] = ClusterJob(cluster, str(job.job_id))
                replace(plan.record, jobs=jobs).write(plan.folder)
                warn(f"{fold_name(fold)}: submitted as job {job.job_id}")
            warn(f"{counted(len(left), 'job')} submitted; the same command again says how they stand")
        replace(plan.record, jobs=jobs).write(plan.folder)


def refuse_submitted(plan: FoldsPlan) -> None:
    """Refuse to train here what a cluster still has to train.

    Raises:
        UserError: A job of one of the folds waits or runs.
    """
    folder = plan.folder.resolve() / LOGS / "jobs"
    for fold in plan.folds:
        known = plan.record.jobs.get(str(fold))
        if known is not None and _is_there(known, folder):
            raise UserError(
                f"{fold_name(fold)} is job {known.id} of the cluster ({_state(known, folder)}): wait for it, cancel "
                "it, or leave the fold out with --folds"
            )


def _has_work(plan: FoldsPlan, fold: int, warn: Warn) -> bool:
    try:
        return FoldJob(plan, fold).next() is not None
    except UserError as error:
        warn(f"{fold_name(fold)}: {error}")
        return False


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError('--cluster needs submitit: pip install "volumen[slurm]"') from error
    return submitit


def _executor(
    submitit: Any, cluster: str, folder: Path, minutes: int, options: Mapping[str, str | int], name: str
) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if cluster == LOCAL:
            executor = submitit.LocalExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
            gpus = {name: value for name, value in options.items() if name == "gpus_per_node"}
            executor.update_parameters(timeout_min=minutes, signal_delay_s=30, **gpus)
        else:
            executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
            known = submitit.SlurmExecutor._valid_parameters()  # handed to srun as well, where that is due
            native = {key: value for key, value in options.items() if key in known}
            others = {key.replace("_", "-"): value for key, value in options.items() if key not in known}
            executor.update_parameters(
                time=minutes,
                job_name=f"volumen-{name}",
                signal_delay_s=SIGNAL_SECONDS,
                nodes=1,
                additional_parameters=others,
                **native,
            )
    except RuntimeError as error:  # no sbatch
        raise UserError(f"--cluster {cluster}: {error}: run this where sbatch is to be had, or leave it out") from error
    return executor


def _job(known: ClusterJob, folder: Path) -> Any:
    submitit = _submitit()
    kind = submitit.LocalJob if known.cluster == LOCAL else submitit.SlurmJob
    return kind(folder=folder, job_id=known.id)


def _state(known: ClusterJob, folder: Path) -> str:
    return "running" if known.cluster == LOCAL else str(_job(known, folder).state).lower()


def _is_there(known: ClusterJob, folder: Path) -> bool:
    """Whether a job waits or runs."""
    job = _job(known, folder)
    if job.paths.result_pickle.exists():
        return False
    if known.cluster != LOCAL:
        state = str(job.state).split(" ")[0].rstrip("+").upper()
        if state == _UNKNOWN:  # not listed yet, or no more
            handed_in = job.paths.submitted_pickle
            return bool(handed_in.exists() and time.time() - handed_in.stat().st_mtime < _LISTED_SECONDS)
        return state in _STATES_LEFT
    with suppress(OSError, ValueError):
        os.kill(int(known.id), 0)
        return True
    return False
