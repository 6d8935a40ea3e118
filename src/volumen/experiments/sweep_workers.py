"""The processes of a sweep: each takes a trial, takes it to its next rung, reports, and takes another.

They end with the process that started them, and are asked by it to save and stop. One that is ended from outside is
replaced; what it had is taken by whoever comes next.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from volumen.errors import UserError
from volumen.experiments.sweep_beats import beat, owner_of
from volumen.experiments.sweep_desk import Desk, Job
from volumen.experiments.sweep_halving import DONE
from volumen.experiments.sweep_plan import SweepPlan
from volumen.experiments.sweep_training import Objective
from volumen.system.locks import HeldError
from volumen.system.output import Warn
from volumen.system.processes import deaf_children, end_with_parent
from volumen.system.stopping import StopRequest, StopWanted, ask_to_stop

POLL_SECONDS = 0.5
BEAT_SECONDS = 10.0
MOST_STILLBORN = 3
"""Workers in a row that end before they have taken a trial."""
_TOOK = "took"


@dataclass
class _Worker:
    process: SpawnProcess
    said: Connection


def run_workers(
    out: Path, plan: SweepPlan, objective: Objective, *, workers: int, look: Callable[[], None], warn: Warn
) -> None:
    """Let processes work until nothing is left to do.

    Args:
        out: Folder of the sweep.
        plan: What is to be done.
        objective: What is done with a trial.
        workers: Processes of this machine.
        look: Called now and then, to show how far everything is.
        warn: Told of workers that were ended from outside.

    Raises:
        StopWanted: A signal asked to stop; the workers have saved.
        UserError: What a worker met that no other trial would be spared.
    """
    context = multiprocessing.get_context("spawn")
    alive: list[_Worker] = []
    stillborn = 0
    with StopRequest() as stop:
        try:
            for _ in range(workers):
                alive.append(_start(context, out, plan, objective, workers))
            while alive:
                wait([one.process.sentinel for one in alive], POLL_SECONDS)
                look()
                for one in [each for each in alive if not each.process.is_alive()]:
                    alive.remove(one)
                    took, trouble, over = _last_words(one)
                    if trouble:
                        raise UserError(trouble)
                    if over or stop.requested:
                        continue
                    stillborn = 0 if took else stillborn + 1
                    if stillborn >= MOST_STILLBORN:
                        raise UserError(
                            "the worker processes end as soon as they begin, perhaps for want of memory: give fewer "
                            "--workers; the same command goes on"
                        )
                    warn("a worker process was ended from outside: another one takes its place and its trial")
                    alive.append(_start(context, out, plan, objective, workers))
                if stop.requested:
                    raise StopWanted
        finally:
            _end(alive)


def _start(
    context: "multiprocessing.context.SpawnContext", out: Path, plan: SweepPlan, objective: Objective, workers: int
) -> _Worker:
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(out, plan, objective, workers, there), name="sweep worker")
    with deaf_children():
        process.start()
    there.close()
    return _Worker(process, here)


def _last_words(worker: _Worker) -> tuple[bool, str, bool]:
    """Whether it took a trial, what it met, and whether it found nothing left to do."""
    took, trouble, over = False, "", False
    with suppress(EOFError, OSError):
        while worker.said.poll():
            kind, text = worker.said.recv()
            took, over = took or kind == _TOOK, over or kind == DONE
            trouble = text or trouble
    worker.process.join()
    worker.said.close()
    return took, trouble, over


def _end(workers: list[_Worker]) -> None:
    """Ask workers to save and stop, as often as it takes; one may be between two trials when it is asked."""
    try:
        while any(one.process.is_alive() for one in workers):
            for one in workers:
                if one.process.is_alive():
                    one.process.terminate()
            wait([one.process.sentinel for one in workers if one.process.is_alive()], 2.0)
    except KeyboardInterrupt:  # a second Ctrl-C: what was saved before stands
        for one in workers:
            one.process.kill()
        raise


def _work(out: Path, plan: SweepPlan, objective: Objective, workers: int, said: Connection) -> None:
    """A worker process."""
    end_with_parent()
    with StopRequest() as stop:
        try:
            objective.prepare(workers)
            desk = Desk(out, plan, objective.saved)
            while not stop.requested:
                taken = desk.take()
                if isinstance(taken, Job):
                    said.send((_TOOK, ""))
                    if not _advance(desk, taken, objective):
                        return
                elif taken == DONE:
                    said.send((DONE, ""))
                    return
                else:
                    time.sleep(POLL_SECONDS)
        except (UserError, OSError) as error:
            said.send(("trouble", f"{error}; the same command goes on"))


def _advance(desk: Desk, job: Job, objective: Objective) -> bool:
    """Take a trial to its rung; False where this process is to end."""
    lost, over = threading.Event(), threading.Event()
    beats = threading.Thread(target=_beat, args=(job, over, lost), name="beats", daemon=True)
    beats.start()
    try:
        result = objective.advance(job)
        over.set()
        beats.join()
        if lost.is_set():
            return True
        if result is None:
            desk.release(job)
            return False
        desk.report(job, result)
    except HeldError:  # somebody of another machine, taken for dead, is still at it
        desk.release(job)
        time.sleep(POLL_SECONDS)
    except BaseException:
        desk.release(job)
        raise
    finally:
        over.set()
        job.close()
    return True


def _beat(job: Job, over: threading.Event, lost: threading.Event) -> None:
    """Signs of life, until the trial is somebody else's: a process that slept too long stops then."""
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):
            if owner_of(job.claims) not in ("", job.claim.token):
                lost.set()
                ask_to_stop("lost")
                return
            beat(job.claims, job.claim.token)
