"""The training loop: a run from its first step, or from where it stopped, to its end.

`run_training` is the frame: folder, data, failures. `train` is the loop, to be read from top to bottom; all that it
does to the weights is in `step.py`, all that it remembers in `state.py`, all that it decides after a validation in
`watch.py`, how it is repaired in `repairing.py`, and the learning rate is written in `schedule.py` only.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from volumen.config.compare import Descent
from volumen.config.optimisation import PlanIntervention
from volumen.config.schema import Config
from volumen.data.loader import wait_for_workers
from volumen.errors import UserError
from volumen.losses import CompositeLoss
from volumen.runs.folder import WORK, Audited, RunFolder, run_owner
from volumen.runs.scales import ProgressScales
from volumen.system.locks import hold
from volumen.system.stopping import StopRequest, StopWanted
from volumen.training.advance import advance, begin_epoch, read_back
from volumen.training.bad_days import explained
from volumen.training.compiling import compile_steps, compiles
from volumen.training.distributed import ALONE, World
from volumen.training.facts import facts_of
from volumen.training.fitting import with_batch
from volumen.training.initial import Materials
from volumen.training.listener import Listener, Outcome
from volumen.training.out_of_memory import updates_of
from volumen.training.pacing import lengthen
from volumen.training.repairing import answer, repair, restart
from volumen.training.session import Session, SignsOf, session_of
from volumen.training.sharing import SharedStop, refuse_unshared, shared_folder, shared_stop
from volumen.training.signs import standing_signs
from volumen.training.step import NonFiniteError
from volumen.training.totals import EpochTotals
from volumen.training.watch import Verdict, plan_scale


def run_training(
    config: Config,
    folder: Path,
    listener: Listener,
    *,
    resume: bool = False,
    time_budget_seconds: float | None = None,
    audited: Audited | None = None,
    meant: Sequence[str] = (),
    descent: Descent | None = None,
    materials: Materials | None = None,
    may_validate_rarely: bool = False,
    signs_of: SignsOf = standing_signs,
    world: World = ALONE,
) -> Outcome:
    """Train a configuration into a run folder.

    Args:
        config: The run.
        folder: Its folder: new, or with `resume` one that was stopped.
        listener: Shows progress.
        resume: Go on from the newest whole checkpoint; the result equals never having stopped.
        time_budget_seconds: Plan as many steps (at most the configured epochs) as fit, earlier sessions included. A run
            that is gone on with keeps the budget it had, unless it gets another one or other epochs.
        audited: What an audit of a new run said, for its folder.
        meant: Keys that the user set by name.
        descent: What a new run changes in the configuration that it comes from.
        materials: Data set, fold and initial weights, where the audit has opened them already.
        may_validate_rarely: Lengthen a new run's interval of validations where they take more than 5 % of the training
            time on a card, since nobody set it by name.
        signs_of: Asked after each validation what is seen; the run's own monitors are.
        world: The processes that train together, each of which calls this; rank 0 alone writes and has a listener.

    Raises:
        UserError: Wrong folder, data set, fold or checkpoint; another process trains there; nothing is left to do; or a
            file of the data is not what `prepare` wrote, and the last checkpoint whose data were whole stands.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stands.
    """
    with _held(folder, resume, world), StopRequest() as own:
        config, stop = with_batch(config, folder if resume else None, world), shared_stop(own, world)
        refuse_unshared(config, world)
        run = shared_folder(
            world, folder, lambda: RunFolder.reopen(folder, config, meant) if resume else RunFolder.claim(folder)
        )
        opened = materials or Materials(config)
        with session_of(config, run, listener, opened, begins=not resume, signs_of=signs_of, world=world) as session:
            session.state.budget_seconds = time_budget_seconds
            if resume:
                session.resume()
                session.scales = world.from_first(lambda: ProgressScales.load(folder, run.owner))
                session.watch(resumed=True)
            else:  # only now, when nothing about data set, fold or model can be wrong any more, is the folder made
                run.write_config(config)
                session.state.pace.may_grow = may_validate_rarely
                if descent is not None:
                    session.event(descent.event())
                if session.initial is not None:
                    session.event({"kind": "initial_weights", **session.initial.record})
                if audited is not None:
                    session.event(run.write_audit(audited))
                    session.scales, session.findings = audited.scales, audited.findings
                session.watch()
            try:
                return _trained(session, stop)
            except BaseException as raised:
                error = world.explained(raised)
                session.fail(error)
                if isinstance(error, OSError) and not folder.is_dir():
                    gone = f"{folder} was removed while it was trained into: nothing is left to go on with"
                    raise UserError(gone) from error
                if error is not raised:
                    raise error from raised
                raise


@contextmanager
def _held(folder: Path, resume: bool, world: World) -> Iterator[None]:
    """The folder, held by rank 0 for all."""
    with ExitStack() as stack:
        world.from_first(lambda: stack.enter_context(_held_here(folder, resume)))
        yield


@contextmanager
def _held_here(folder: Path, resume: bool) -> Iterator[None]:
    """The folder, held by this process alone; one that was made for it and stayed empty goes again."""
    if resume:
        run_owner(folder)
    elif folder.exists() and not folder.is_dir():
        RunFolder.claim(folder)
    try:
        with hold(folder, WORK):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _trained(session: Session, stop: StopRequest | SharedStop) -> Outcome:
    """`train`, with errors of the machine in words."""
    with updates_of(session) as updates:
        try:
            return train(session, stop)
        except (MemoryError, RuntimeError) as error:
            said = explained(session, error, updates)
            if said is None:
                raise
    raise said


def train(session: Session, stop: StopRequest | SharedStop) -> Outcome:
    """Epochs until the planned end, early stopping, a fault that no repair mends, or a signal."""
    config, state, cut_short = session.config, session.state, False
    session.verification.start()
    session.listener.started(session.run.path, config, facts_of(session))
    if compiles(config, session.device):
        compile_steps(session)
    while state.cursor.step < state.planned_steps or state.ended_epoch:
        try:
            session.world.gather(lambda: wait_for_workers(config.data.workers))
            if state.cursor.batch == 0:
                repair(session)  # a tournament that is due, and what people ask for
            objective = state.objective()
            if not state.ended_epoch:
                _take_steps(session, objective, stop)

            # The epoch's record. A stop from here on repeats the validation and not what stands before it.
            began, cut_short = time.perf_counter(), state.cursor.batch < session.loader.batches_per_epoch
            record = session.epoch_record()
            if not state.ended_epoch:
                _end_epoch(session, record)

            last = state.cursor.step >= state.planned_steps
            validation, verdict = None, Verdict()
            if last or state.pace.is_due(state.cursor.epoch):
                validation, verdict = session.judge(objective)
        except StopWanted:
            session.save(waits=False)
            return session.end("stopped", signal=stop.name)
        except NonFiniteError as error:
            if not restart(session, error):
                raise
            continue

        _turn_the_page(session, record, time.perf_counter() - began, validated=validation is not None)
        session.listener.epoch_ended(state, record, validation)
        session.status("running")

        # The best states are kept; where the loss says so, the run goes back to the best one.
        is_best, ends = verdict.is_best or verdict.is_best_loss, verdict.stop or last
        goes_back = (verdict.rollback or verdict.intervene) and not ends
        fault = None if ends or goes_back or validation is None else answer(session, verdict)
        if is_best:
            session.save(best=verdict.is_best, best_loss=verdict.is_best_loss)
        if goes_back:
            _roll_back(session, verdict, record["gradient_norm"])
        if goes_back or not is_best:
            session.save()
        if verdict.stop:
            return session.end("early_stopping")
        if fault is not None:
            return session.end("sick", f"{fault.code} {fault.name}: {fault.evidence}")
        if stop.requested and not last:
            return session.end("stopped", signal=stop.name)
    ran_out = cut_short or state.planned_steps < state.configured_steps
    return session.end("out_of_time" if ran_out else "finished")


def _take_steps(session: Session, objective: CompositeLoss, stop: StopRequest | SharedStop) -> None:
    """The epoch's steps, from where it was left, to its end or the run's.

    Raises:
        StopWanted: Between two steps.
        NonFiniteError: See `advance`.
    """
    state, planner, steps = session.state, session.planner, session.loader.batches_per_epoch
    cursor = state.cursor
    if cursor.batch == 0:
        for event in begin_epoch(state):
            session.event(event)
    state.model.train()
    waited = time.perf_counter()
    for batch in session.loader.epoch(cursor.epoch, start_batch=cursor.batch):
        began = time.perf_counter()
        is_last = cursor.batch + 1 == steps or cursor.step + 1 == state.planned_steps
        look = session.probe.around(cursor.step, batch, objective, is_last)
        advance(session, objective, batch, look)
        read_back(session, wait=is_last or planner.is_early)
        ended = time.perf_counter()
        state.count(batch, seconds=ended - waited, loader_seconds=began - waited, world=session.world)
        waited = ended
        if planner.is_early:
            planner.replan()
        if cursor.step >= state.planned_steps:
            break
        if stop.requested and cursor.batch < steps:
            read_back(session, wait=True)
            raise StopWanted


def _end_epoch(session: Session, record: dict[str, Any]) -> None:
    """What an epoch's steps leave: its records, and where its time says so another plan."""
    state = session.state
    if state.swa is not None and state.swa.after_epoch(state.model, state.cursor.epoch):
        session.event({"kind": "swa_update", "averaged": state.swa.count})
    session.metric("steps", state.totals.by_step())
    session.metric("train", record)
    if state.cursor.step < state.planned_steps:  # the schedule has ended otherwise: nothing is added to it
        session.planner.replan()
    state.ended_epoch = True


def _turn_the_page(session: Session, record: dict[str, Any], seconds: float, *, validated: bool) -> None:
    """The next epoch begins; `seconds` are those since the last step."""
    state, planner = session.state, session.planner
    state.cursor.epoch, state.cursor.batch = state.cursor.epoch + 1, 0
    state.totals, state.ended_epoch = EpochTotals(), False
    state.seconds += seconds
    if not validated:
        return
    is_first, planner.validation_seconds = planner.validation_seconds is None, seconds
    if not is_first:  # a session's first validation compiles what is compiled once
        lengthen(
            state.pace,
            session.config,
            session.device,
            session.event,
            validation_seconds=seconds,
            epoch_seconds=record["seconds"],
            epochs_done=state.cursor.epoch,
            epochs_left=state.planned_epochs - state.cursor.epoch,
            world=session.world,
        )


def _roll_back(session: Session, verdict: Verdict, gradient_norm: float) -> None:
    """Restore the best state; an intervention scales the learning rate besides. Each is an event."""
    state, checkpoints = session.state, session.run.checkpoints
    state.roll_back(checkpoints.load_best(session.warning), str(checkpoints.folder))
    cause = "intervention" if verdict.intervene else "catastrophic_degradation"
    session.event({"kind": "rollback", "cause": cause, "to_epoch": state.watch.best_epoch, **verdict.numbers})
    policy = session.config.training.intervention
    if verdict.intervene and isinstance(policy, PlanIntervention):
        number = state.watch.note_intervention()
        event = state.rate.multiply(plan_scale(policy, number, gradient_norm), cause=f"plan:{policy.formula}")
        session.event({**event, "plateau": number, "gradient_norm": gradient_norm})
