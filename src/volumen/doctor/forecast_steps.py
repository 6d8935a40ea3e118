"""What a run's parts take on this machine: some real steps of the training itself, in a folder that goes again."""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volumen.config.schema import Config
from volumen.data.loader import PatchLoader
from volumen.doctor.context import Context
from volumen.doctor.cost.bench import voxels, with_size
from volumen.doctor.cost.profile import profile_step
from volumen.doctor.cost.validation import measure_validation
from volumen.doctor.forecast import Course, Disk, Pace, disk_of
from volumen.doctor.forecast_spans import Span, exactly, span_of
from volumen.doctor.forecast_validation import time_validation
from volumen.runs.folder import METRICS, RunFolder
from volumen.training.advance import advance, unread
from volumen.training.initial import Materials
from volumen.training.probe import FIRST_STEP
from volumen.training.session import Session, session_of
from volumen.training.totals import EpochTotals

LEAST_STEPS, MOST_STEPS = 4, 30
WARM_STEPS = 3
"""The first steps fill the allocator and choose kernels."""
GUESSED = 1.5
"""Factor within which a validation is known: a mask with more pieces is scored more slowly."""
RECORD_BYTES_OF_A_CASE = 700  # of a validation's record


@dataclass(frozen=True)
class Measured:
    """A pace, and what a checkpoint and an epoch's records occupy."""

    pace: Pace
    cpu_step: float
    """Processor seconds of a step in the training process; NaN where it was not measured."""
    cpu_validation: float
    """The same of a validation."""
    disk: Disk | None
    scaled: bool = False
    """The step was too large to be done here: a smaller one was measured and scaled."""


class Deaf:
    """A listener to whom nothing matters."""

    def __getattr__(self, name: str) -> Any:
        return lambda *told: None


@contextmanager
def _session(config: Config) -> Iterator[Session]:
    """A training of this configuration that has not begun, unwatched, in a temporary folder."""
    training = config.training.model_copy(update={"intervention": None})
    config = config.model_copy(update={"training": training})
    with TemporaryDirectory(prefix="volumen-plan-") as place:
        run = RunFolder.claim(Path(place) / "run")
        materials = Materials(config)
        with session_of(config, run, Deaf(), materials, begins=True, signs_of=lambda session: ()) as session:
            run.write_config(config)
            session.verification.confirm = lambda: None  # type: ignore[method-assign]
            yield session


def measure_pace(
    context: Context, batch: int, limit_seconds: float, expected_step: float | None, validation: Span | None
) -> Measured:
    """Do real steps of the run with this batch.

    Args:
        context: The run.
        batch: Patches a step.
        limit_seconds: About how long the steps may take in all.
        expected_step: Seconds of a step, as a trial found; None where the trial did not end: the audit's smaller
            step is scaled then.
        validation: Of one that was measured with another batch; None measures it.
    """
    config = with_size(context.config, batch, context.config.data.patch)
    course = Course.configured(config)
    if expected_step is None or LEAST_STEPS * len(course.phases) * expected_step > 2 * limit_seconds:
        found = _scaled(context, course, limit_seconds)
        timed = None
    else:
        with _session(config) as session:
            found = _timed(session, course, limit_seconds)
            timed = None if validation else time_validation(session, found.pace.median_seconds)
    if validation is None:
        wall, cpu = (measure_validation(context).seconds, math.nan) if timed is None else timed
        validation, found = exactly(wall).within(GUESSED), replace(found, cpu_validation=cpu)
    return replace(found, pace=replace(found.pace, validation=validation))


def _scaled(context: Context, course: Course, limit_seconds: float) -> Measured:
    room = voxels(with_size(context.config, 1, context.config.data.patch))
    found = profile_step(
        context, batch=course.config.data.batch, most_voxels=room, limit_seconds=limit_seconds / 4
    )  # fmt: skip
    step = exactly(found.paced_seconds).within(GUESSED)
    pace = Pace({name: step for name, _ in course.phases}, step.middle, 0, probe=step.middle)
    return Measured(pace, math.nan, math.nan, None, scaled=True)


def _timed(session: Session, course: Course, limit_seconds: float) -> Measured:
    """Steps of every phase in turn; whole epochs where they are short, so that what each begins with is in them."""
    per_epoch, phases = course.per_epoch, course.phases
    steps: dict[str, Span] = {}
    walls, cpus, starts, waits = list[float](), list[float](), list[float](), list[float]()
    size = session.run.path / METRICS
    for number, (name, first) in enumerate(phases):
        session.state.cursor.epoch = first // per_epoch
        warm = WARM_STEPS if number == 0 else 1
        found = _Steps(session, limit_seconds / len(phases), MOST_STEPS // len(phases) + LEAST_STEPS)
        found.run(warm, whole=2 * per_epoch <= found.most)
        steps[name] = span_of(found.walls)
        walls, cpus, starts = walls + found.walls, cpus + found.cpus, starts + found.starts
        waits.append(found.first_wait)
    start = statistics.median(starts) if starts else _first_batch(session)
    probe, probe_bytes = _probe(session, statistics.median(walls), size)
    save, checkpoint = _save(session)
    watched = course.config.training.monitoring is not None and probe > 0
    before = size.stat().st_size if size.exists() else 0
    totals = session.state.totals
    session.metric("steps", totals.by_step())
    per_step = (size.stat().st_size - before) / max(totals.steps, 1)
    session.metric("train", session.epoch_record())
    per_epoch_bytes = size.stat().st_size - before - per_step * totals.steps
    end = course.counts(course.steps)
    records: float = (
        per_step * course.steps + per_epoch_bytes * end.ended + probe_bytes * (end.probes if watched else 0)
    )
    records += end.validations * (per_epoch_bytes + RECORD_BYTES_OF_A_CASE * len(session.held_out))
    workers_up = max(waits[0] - start, 0.0) if course.config.data.workers else 0.0
    pace = Pace(steps, statistics.median(walls), len(walls), workers_up, start, probe, save=save)
    return Measured(pace, statistics.fmean(cpus), math.nan, disk_of(checkpoint, records))


@dataclass
class _Steps:
    """Timed steps of one phase."""

    session: Session
    limit_seconds: float
    most: int

    def __post_init__(self) -> None:
        self.walls: list[float] = []
        self.cpus: list[float] = []
        self.starts: list[float] = []
        self.first_wait = -1.0

    def run(self, warm: int, *, whole: bool) -> None:
        """Do `warm` steps that do not count, then as many as there is time for; of `whole` epochs only."""
        began, epoch = time.perf_counter(), self.session.state.cursor.epoch
        while len(self.walls) < self.most:
            batches = iter(self.session.loader.epoch(epoch))
            firsts, others, is_warm = list[float](), list[float](), warm > 0
            self.session.state.cursor.batch, self.session.state.totals = 0, EpochTotals()
            while whole or len(self.walls) + len(others) < self.most:
                step = self._step(batches)
                if step is None:
                    break
                warm -= 1
                if is_warm and (whole or warm >= 0):
                    continue
                (others if firsts or not whole else firsts).append(step[0])
                self.cpus.append(step[1])
                enough = len(self.walls) + len(others) >= LEAST_STEPS
                if not whole and enough and time.perf_counter() - began > self.limit_seconds:
                    break
            self.walls += others or firsts
            if firsts and others:
                self.starts.append(max(firsts[0] - statistics.fmean(others), 0.0))
            if len(self.walls) >= LEAST_STEPS and time.perf_counter() - began > self.limit_seconds:
                return

    def _step(self, batches: Iterator[dict[str, Any]]) -> tuple[float, float] | None:
        """Wall and processor seconds of a step, waiting included; None at the epoch's end."""
        session, objective = self.session, self.session.state.objective()
        began, used = time.perf_counter(), time.process_time()
        batch = next(batches, None)
        if batch is None:
            return None
        loaded = time.perf_counter()
        if self.first_wait < 0:
            self.first_wait = loaded - began
        session.state.model.train()
        advance(session, objective, batch)
        for _, result in unread(session, wait=True):
            session.state.totals.add(result)
        ended = time.perf_counter()
        session.state.count(batch, seconds=ended - began, loader_seconds=loaded - began)
        return ended - began, time.process_time() - used


def _first_batch(session: Session) -> float:
    """The wait for an epoch's first batch: workers make it as one thread does, and nothing is done meanwhile."""
    if session.loader.workers == 0:
        return 0.0
    data = session.config.data
    with PatchLoader(session.patches, data.batch, workers=0) as loader:
        batches = loader.epoch(0)
        began = time.perf_counter()
        next(batches)
        return time.perf_counter() - began


def _probe(session: Session, step_seconds: float, log: Path) -> tuple[float, int]:
    """Seconds of a closer look beyond its step, and the bytes of its record."""
    if session.probe.every is None:
        return 0.0, 0
    before = log.stat().st_size if log.exists() else 0
    batch = next(iter(session.loader.epoch(session.state.cursor.epoch)))
    objective, seconds = session.state.objective(), []
    for _ in range(2):
        began = time.perf_counter()
        advance(session, objective, batch, session.probe.around(FIRST_STEP, batch, objective, True))
        list(unread(session, wait=True))
        seconds.append(time.perf_counter() - began)
    return max(min(seconds) - step_seconds, 0.0), (log.stat().st_size - before) // 2


def _save(session: Session) -> tuple[Span, int]:
    """An epoch's checkpoints - the last one, and sometimes one or two best ones - and the bytes of one."""
    store, state = session.run.checkpoints, session.state
    seconds = []
    for number, best in ((1, False), (2, True)):
        began = time.perf_counter()
        path = store.save(state.state_dict(), step=number, epoch=0, best=best, best_loss=best)
        seconds.append(time.perf_counter() - began)
    plain, both = min(seconds), max(seconds)
    return Span(plain, (plain + both) / 2, both), path.stat().st_size
