"""A step of the run and the start of an epoch, for the loop and for the branches of a tournament alike."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

from volumen.losses import CompositeLoss
from volumen.training.distributed import Replica
from volumen.training.noise import inject_noise, noise_is_due
from volumen.training.objective import phase_at, weights_at
from volumen.training.session import Session
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError, StepResult, training_step


def advance(
    session: Session,
    objective: CompositeLoss,
    batch: Mapping[str, Any],
    look: AbstractContextManager[None] | None = None,
) -> StepResult:
    """Write the rate, do a step, move the average and the place in the data; `look` is what looks at the step.

    Raises:
        NonFiniteError: Before the weights changed.
    """
    state, steps = session.state, session.loader.batches_per_epoch
    state.rate.apply(state.cursor.step / steps, state.planned_steps / steps)
    with look or nullcontext(), session.world.whole_batch(), _named_by_all(session, batch):
        result = training_step(
            state.model,
            objective,
            state.optimiser,
            session.named(batch),
            precision=session.precision,
            device=session.device,
            gradient_clip=state.gradient_clip,
            scaler=state.scaler,
            forward=session.forward,
        )
    if state.average is not None:
        state.average.update(state.model)
    state.cursor.step, state.cursor.batch = state.cursor.step + 1, state.cursor.batch + 1
    return result


@contextmanager
def _named_by_all(session: Session, batch: Mapping[str, Any]) -> Iterator[None]:
    """A number that is not finite is the same on all ranks: the error names the cases of all."""
    try:
        yield
    except NonFiniteError as error:
        if session.world.is_alone:
            raise
        cases = chain(*session.world.gather(lambda: session.named(batch)["case"]))
        if isinstance(session.forward, Replica):
            session.forward.forget()
        raise NonFiniteError(f"{str(error).rpartition('; ')[0]}; patches of {', '.join(cases)}") from error


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
