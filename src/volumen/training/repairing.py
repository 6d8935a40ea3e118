"""When a run is repaired: after a validation on what monitors saw, between epochs on a person's request, and after a
number that was not finite.

What may help is in `remedies.py`, how it is tried in `tournament.py`, what it does to the state in `interventions.py`.
"""

from collections.abc import Sequence

from volumen.config.intervention import RateScale, ReloadBest
from volumen.config.optimisation import Tournament
from volumen.errors import DamagedError, UserError
from volumen.monitors.sign import Sign
from volumen.runs.requests import next_request
from volumen.training.objective import weights_at
from volumen.training.remedies import Situation, fault_of, remedies_for
from volumen.training.repairs import Interventions
from volumen.training.session import Session
from volumen.training.step import NonFiniteError
from volumen.training.tournament import begin_tournament, hold_tournament, make
from volumen.training.watch import Verdict

MOST_RESTARTS = 3
"""After as many numbers that were not finite a run ends after all."""
RESTART_SCALE = 0.3


def answer(session: Session, verdict: Verdict) -> Sign | None:
    """Answer what was seen at a validation, where the policy is to repair: begin a tournament if something may help.

    Returns:
        A fault of data, labels or configuration, which ends the run.
    """
    state, repairs, policy = session.state, session.state.repairs, session.config.training.intervention
    if not isinstance(policy, Tournament):
        return None
    signs = _seen(session, verdict)
    fault = None if session.config.training.keep_going else fault_of(signs)
    if fault is not None or state.cursor.epoch < repairs.quiet_until or repairs.tournament is not None:
        return fault
    weights = weights_at(session.config.loss, state.cursor.epoch, repairs.changes.weights)
    now = Situation(state.gradient_clip, weights)
    found = remedies_for(signs, now, repairs.tried)
    if found is None and repairs.tried:  # all of it was tried in vain, and the run is somewhere else since
        found = remedies_for(signs, now)
    if found is None:
        return None
    if found[1][0] in repairs.tried:
        state.repairs = repairs.but(tried=())
    sign, candidates = found
    reason = begin_tournament(session, sign.name, [one.evidence for one in signs], candidates)
    if reason:
        state.repairs = state.repairs.but(quiet_until=state.cursor.epoch + policy.cool_off_epochs)
        session.event({"kind": "no_tournament", "cause": sign.name, "reason": reason})
    return None


def _seen(session: Session, verdict: Verdict) -> tuple[Sign, ...]:
    """The monitors' signs, and the loss's own catastrophe where they do not say it themselves."""
    signs: Sequence[Sign] = session.signs_of(session)
    share = session.config.training.degradation.catastrophic_share
    above = verdict.numbers.get("above_best_share", 0.0)
    if above <= share or verdict.is_best or any(one.name == "catastrophic" for one in signs):
        return tuple(signs)
    cursor = session.state.cursor
    evidence = f"the validation loss is {above:.0%} above its best, {share:.0%} counts as catastrophic"
    own = Sign("R3", "catastrophic", "warn", evidence, cursor.epoch - 1, cursor.step, numbers=verdict.numbers)
    return (*signs, own)


def repair(session: Session) -> None:
    """Between two epochs: hold the tournament that is due, or was left, then answer people, in order.

    Raises:
        StopWanted: A signal asked to stop meanwhile; a save goes on where it was.
    """
    hold_tournament(session)
    while _take_request(session):
        hold_tournament(session)


def _take_request(session: Session) -> bool:
    """Begin or do what the next request asks for; False where there is none."""
    state = session.state
    number = state.repairs.requests + 1
    try:
        request = session.world.from_first(lambda: next_request(session.run.path, session.run.owner, number - 1))
        if request is None:
            return False
        wanted: Interventions = (request.intervention,)
        if request.now:
            make(session, wanted, by="person", request=number)
        elif not session.world.is_alone:
            raise UserError("a trial needs a run of one process; `--now` does it without a trial")
        else:
            reason = begin_tournament(session, "request", [], [wanted], request=number)
            if reason:
                raise UserError(f"{reason}; `--now` does it without a trial" if "trial of" in reason else reason)
            session.save()
            return True
    except DamagedError as error:
        _refuse(session, number, str(error))
    except UserError as error:
        _refuse(session, number, str(error))
    state.repairs = state.repairs.but(requests=number)
    session.save()
    return True


def _refuse(session: Session, number: int, reason: str) -> None:
    session.event({"kind": "refused", "request": number, "reason": reason})


def restart(session: Session, error: NonFiniteError) -> bool:
    """Go back to the last checkpoint, with the best weights and a lower rate, where the policy is to repair.

    No control is run: from the same state it would come to the same number. False where the run ends instead: another
    policy, no checkpoint yet, or three restarts already.
    """
    state, store = session.state, session.run.checkpoints
    repairs, planned, seconds = state.repairs, state.planned_steps, state.seconds
    may = isinstance(session.config.training.intervention, Tournament) and repairs.restarts < MOST_RESTARTS
    if not may or store.is_empty():
        return False
    session.event({"kind": "non_finite", "message": str(error)})
    session.probe.forget()
    session.readings.forget()
    state.load_state_dict(store.load_latest(session.warning), str(store.folder))
    session.watch(resumed=True)  # what was recorded since is done again
    state.planned_steps, state.seconds = planned, seconds
    state.repairs = state.repairs.but(restarts=repairs.restarts + 1)
    session.event({"kind": "restarted", "restarts": state.repairs.restarts})
    best = (ReloadBest(),) if store.manifest().best is not None else ()
    make(session, (*best, RateScale(factor=RESTART_SCALE)), by="non_finite")
    session.save()
    return True
