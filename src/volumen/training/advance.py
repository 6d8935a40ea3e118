"""A step of the run and the start of an epoch, for the loop and for the branches of a tournament alike."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from volumen.losses import CompositeLoss
from volumen.training.distributed import World
from volumen.training.noise import inject_noise, noise_is_due
from volumen.training.objective import phase_at, weights_at
from volumen.training.readings import LateError
from volumen.training.session import Session
from volumen.training.state import TrainingState
from volumen.training.step import Launched, NonFiniteError, StepResult, launch_step, training_step


def advance(
    session: Session,
    objective: CompositeLoss,
    batch: Mapping[str, Any],
    look: AbstractContextManager[None] | None = None,
) -> None:
    """Write the rate, do a step, move the average and the place in the data; `look` is what looks at the step.

    What the step did is read by `unread` or `read_back`.

    Raises:
        NonFiniteError: The state is that before the bad step, this one or one that was not read yet.
    """
    state, readings = session.state, session.readings
    _set_rate(state, session.loader.batches_per_epoch)
    with look or nullcontext():
        with session.world.whole_batch(), _named_by_all(session.world):
            done = _step(session, objective, batch)
        readings.add(state.cursor.step, done)
        if session.probe.is_looking and readings.guard is not None:  # what is looked at must be whole
            read = list(unread(session, wait=True))
            for number, result in read:
                readings.add(number, result)
    if state.average is not None:
        state.average.update(state.model, None if readings.guard is None else readings.guard.raised)
    state.cursor.step, state.cursor.batch = state.cursor.step + 1, state.cursor.batch + 1


def _step(session: Session, objective: CompositeLoss, batch: Mapping[str, Any]) -> Launched | StepResult:
    """Launched where a guard decides about updates on the device, else done and read."""
    state, guard = session.state, session.readings.guard
    parts = (state.model, objective, state.optimiser, session.named(batch))
    settings: dict[str, Any] = {
        "precision": session.precision,
        "device": session.device,
        "gradient_clip": state.gradient_clip,
        "forward": session.forward,
    }
    if guard is None:
        return training_step(*parts, **settings, scaler=state.scaler)
    recorded = session.forward is state.model and not session.probe.is_looking
    recorder = session.recorder if recorded else None
    return launch_step(*parts, **settings, guard=guard, recorder=recorder)


def unread(session: Session, *, wait: bool) -> Iterator[tuple[int, StepResult]]:
    """Numbers and results of the steps that can be read by now, or with `wait` of all; to be gone through.

    Raises:
        NonFiniteError: A step was bad; the state is that before it.
    """
    with _named_by_all(session.world):
        try:
            yield from session.readings.read(wait=wait)
        except LateError as error:
            state, late = session.state, session.state.cursor.step - error.step
            state.cursor.step, state.cursor.batch = error.step, state.cursor.batch - late
            if state.average is not None:
                state.average.count -= late
            _set_rate(state, session.loader.batches_per_epoch)
            raise


def read_back(session: Session, *, wait: bool) -> None:
    """Count and show the steps that can be read by now, or with `wait` all; each is shown in its place in the data.

    Raises:
        NonFiniteError: A step was bad; the state is that before it.
    """
    state, now = session.state, session.state.cursor
    for number, result in _of_all(session.world, unread(session, wait=wait)):
        state.totals.add(result)
        late = now.step - number - 1
        state.cursor = replace(now, step=now.step - late, batch=now.batch - late) if late else now
        try:
            session.listener.stepped(state, result, session.loader.batches_per_epoch)
        finally:
            state.cursor = now


def _set_rate(state: TrainingState, steps: int) -> None:
    state.rate.apply(state.cursor.step / steps, state.planned_steps / steps)


def _of_all(world: World, read: Iterator[tuple[int, StepResult]]) -> Iterator[tuple[int, StepResult]]:
    """Results with the counts of all ranks, which read the same steps at the same time; losses are equal already."""
    if world.is_alone:
        yield from read
        return
    found, failed = list[tuple[int, StepResult]](), None
    try:
        found.extend(read)
    except NonFiniteError as error:
        failed = error
    counts = [count for _, one in found for count in (one.predicted, one.true, one.valid)]
    sums = iter(world.sum(*counts) if counts else ())
    for number, one in found:
        yield number, replace(one, predicted=next(sums), true=next(sums), valid=next(sums))
    if failed is not None:
        raise failed


@contextmanager
def _named_by_all(world: World) -> Iterator[None]:
    """A number that is not finite is the same on all ranks: the error names the cases of all."""
    try:
        yield
    except NonFiniteError as error:
        if world.is_alone:
            raise
        what, _, cases = str(error).partition("; patches of ")
        named = ", ".join(filter(None, world.gather(lambda: cases)))
        raise NonFiniteError(f"{what}; patches of {named}" if named else what) from error


def begin_epoch(state: TrainingState) -> list[dict[str, Any]]:
    """What changes at the start of an epoch: the objective's phase, and weight noise where it is due; its events."""
    config, epoch, events = state.config, state.cursor.epoch, []
    phase = phase_at(config.loss, epoch)
    if phase is not None and phase.start_epoch == epoch:
        state.watch.forget_totals()
        state.rate.forget_plateau()
        weights = weights_at(config.loss, epoch, state.repairs.changes.weights)
        events.append({"kind": "phase", "name": phase.name, "weights": weights})
    noise = config.training.weight_noise
    if noise is not None and noise_is_due(noise, epoch):
        events.append(inject_noise(state.model, noise, config.seed, epoch))
    return events
