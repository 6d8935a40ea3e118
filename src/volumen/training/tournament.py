"""The tournament: remedies are tried beside a control that changes nothing, and the winner's change is made.

Every branch begins with the run's whole state (`TrainingState.state_dict`: weights, optimiser, rate, averages, loss
scale, objective, random state, place in the data, memory of the validations, sums) and trains on the patches that would
have come next. Afterwards the run is where it was, bit for bit. What won is then done to that state: its steps are made
once more, as the run's own, with all records; a tournament that nobody won leaves no trace in the weights.

Checkpoints meanwhile hold the run's own state, and beside it what the tournament has come to. A branch is a function of
the state, so one that was killed is run again and ends the same; one that was asked to stop is saved in the middle.
"""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

from volumen.config.intervention import DropTerm, WeightTerm, described, parameters_of
from volumen.config.optimisation import Tournament
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.runs.records import read_metrics
from volumen.system.output import counted
from volumen.system.stopping import StopWanted, raise_if_wanted
from volumen.training.advance import advance, begin_epoch, unread
from volumen.training.interventions import intervene, refusal
from volumen.training.objective import weights_at
from volumen.training.repairs import Interventions, Progress, Trial
from volumen.training.session import Session
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError
from volumen.training.trials import CONTROL, judge, scatter

SNAPSHOT = "the state before the tournament"


def policy_of(config: Config) -> Tournament:
    """The configured policy; the default one where a person asks in a run that has none."""
    policy = config.training.intervention
    return policy if isinstance(policy, Tournament) else Tournament()


def trial_steps(config: Config, steps_per_epoch: int) -> int:
    """Steps of a branch."""
    return policy_of(config).steps or config.training.validate_every_epochs * steps_per_epoch


def begin_tournament(
    session: Session,
    cause: str,
    signs: Sequence[str],
    candidates: Sequence[Interventions],
    *,
    request: int | None = None,
) -> str:
    """Note in the state that a tournament is to be held; `hold_tournament` holds it.

    Args:
        session: Between two epochs.
        cause: What it answers.
        signs: What was seen, a sentence each.
        candidates: The likeliest first; those that this run cannot have are passed over.
        request: Number of a person's request, which the limit of all tournaments' steps does not bind.

    Returns:
        Why there is none; empty where there is one.
    """
    state, policy = session.state, policy_of(session.config)
    steps = trial_steps(session.config, session.loader.batches_per_epoch)
    left = state.planned_steps - state.cursor.step
    if steps > left:
        return f"a trial of {counted(steps, 'step')} does not fit into the {left} that are left"
    refused = [refusal(state, one, session.run.checkpoints) for one in candidates]
    possible = [one for one, reason in zip(candidates, refused, strict=True) if not reason]
    if not possible:
        return next(iter(refused), "there is no remedy")
    count = min(len(possible), policy.candidates if request is None else 1)
    if request is None:
        count = min(count, _affordable(session, policy, steps) - 1)
    if count < 1:
        return f"{policy.maximum_share:.0%} of the run is all that tournaments may cost, and too little of it is left"
    history, losses = _validations(session)
    state.repairs = state.repairs.but(
        tournament=Progress(
            cause=cause,
            signs=tuple(signs),
            branches=((), *possible[:count]),
            steps=steps,
            sigma=scatter(history, policy.minimum_sigma),
            loss_sigma=scatter(losses, policy.minimum_sigma),
            before=history[-1] if history and math.isfinite(history[-1]) else None,
            request=request,
        )
    )
    return ""


def _affordable(session: Session, policy: Tournament, steps: int) -> int:
    """Branches of so many steps that steps and time still allow."""
    state, repairs = session.state, session.state.repairs
    branches = (policy.maximum_share * state.planned_steps - repairs.cost_steps) / steps
    if state.budget_seconds is not None:
        each = steps * (state.seconds - repairs.seconds) / max(state.cursor.step, 1)
        seconds = policy.maximum_share * state.budget_seconds - repairs.seconds
        branches = min(branches, seconds / max(each, 1e-9))
    return math.floor(branches)


def _validations(session: Session) -> tuple[list[float], list[float]]:
    """Selection metric and loss at each validation so far, NaN where there was no value."""
    metric, step = session.config.training.selection_metric, session.state.cursor.step
    records = [one for one in read_metrics(session.run.path) if one.get("kind") == "validation" and one["step"] <= step]
    found = [(one.get("metrics", {}).get(metric), one.get("total")) for one in records]
    metrics, losses = zip(*found, strict=True) if found else ((), ())
    return [_number(value) for value in metrics], [_number(value) for value in losses]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def hold_tournament(session: Session) -> None:
    """Run the branches that are left, judge them, and do to the run what won; nothing where no tournament is on.

    Raises:
        StopWanted: A signal asked to stop; the state is the run's own, with the branch beside it.
    """
    state = session.state
    if state.repairs.tournament is None:
        return
    progress, branch, state.branch = state.repairs.tournament, state.branch, None
    snapshot, repairs, began = copied(state), state.repairs, time.perf_counter()

    def back(progress: Progress) -> None:
        """The run's own state, which knows what the tournament has come to and what that took."""
        took = time.perf_counter() - began
        put_back(state, snapshot)
        state.seconds += took
        state.repairs = repairs.but(tournament=progress, seconds=repairs.seconds + took)

    while len(progress.trials) < len(progress.branches):
        session.status("running")
        try:
            trial = _run_branch(session, progress, branch)
        except StopWanted:
            left = copied(state)
            back(progress)
            state.branch = left
            raise
        branch, progress = None, progress.model_copy(update={"trials": (*progress.trials, trial)})
        back(progress)
        session.save()
    _conclude(session, progress)
    session.save()
    session.planner.replan()


def copied(state: TrainingState) -> dict[str, Any]:
    """A copy of the whole state, in memory."""
    return copy.deepcopy(state.state_dict())


def put_back(state: TrainingState, snapshot: dict[str, Any]) -> None:
    """The state as it was; the copy can be put back again."""
    optimiser = copy.deepcopy(snapshot["optimiser"])  # which goes on to work in the tensors that it is given
    state.load_state_dict({**snapshot, "optimiser": optimiser}, SNAPSHOT)


def _run_branch(session: Session, progress: Progress, branch: dict[str, Any] | None) -> Trial:
    """The next branch to its end and its validation, or from where it was left."""
    state, interventions = session.state, progress.branches[len(progress.trials)]
    begins = state.cursor.step
    session.listener.trying(state, described(interventions), 0, progress.steps)
    try:
        if branch is None:
            intervene(state, interventions, session.run.checkpoints, session.warning)
        else:
            state.load_state_dict(branch, SNAPSHOT)
        _train(session, described(interventions), begins, progress.steps)
        validation = session.score(state.objective(), state.average)
    except (NonFiniteError, UserError) as error:
        return Trial(interventions=interventions, metric=None, steps=state.cursor.step - begins, failed=str(error))
    name = session.config.training.selection_metric
    values = {case: values[name] for case, values in validation.cases.items() if name in values}
    metric = validation.metrics[name]
    return Trial(
        interventions=interventions,
        metric=metric if math.isfinite(metric) else None,
        cases={case: value for case, value in values.items() if math.isfinite(value)},
        loss=None if any(isinstance(one, DropTerm | WeightTerm) for one in interventions) else validation.total,
        steps=progress.steps,
    )


def _train(session: Session, name: str, begins: int, steps: int) -> None:
    """As many steps as the run's own would be; nothing is written, and nothing is shown but how far it is."""
    state = session.state
    while state.cursor.step < begins + steps:
        cursor = state.cursor
        if cursor.batch == 0:
            begin_epoch(state)
        objective = state.objective()
        state.model.train()
        for batch in session.loader.epoch(cursor.epoch, start_batch=cursor.batch):
            advance(session, objective, batch)
            session.listener.trying(state, name, cursor.step - begins, steps)
            _read(session, wait=False)
            if cursor.step >= begins + steps:
                break
            try:
                raise_if_wanted()
            except StopWanted:
                _read(session, wait=True)
                raise
        _read(session, wait=True)
        if cursor.batch >= session.loader.batches_per_epoch:
            if state.swa is not None:
                state.swa.after_epoch(state.model, cursor.epoch)
            cursor.epoch, cursor.batch = cursor.epoch + 1, 0


def _read(session: Session, *, wait: bool) -> None:
    """Stop where a step was bad; what the others did is nobody's concern."""
    for _ in unread(session, wait=wait):
        pass


def _conclude(session: Session, progress: Progress) -> None:
    """Judge; do to the run what won; write down what was tried, what it cost and who won."""
    state, policy, repairs = session.state, policy_of(session.config), session.state.repairs
    session.listener.trying(state, "judging", progress.steps, progress.steps)
    judged = judge(progress.trials, progress.sigma, progress.loss_sigma)
    winner, cost = progress.branches[judged.winner], sum(trial.steps for trial in progress.trials)
    tried = () if judged.winner != CONTROL else (*repairs.tried, *progress.branches[1:])
    state.repairs = repairs.but(
        tournament=None,
        tried=tried if progress.request is None else repairs.tried,
        held=repairs.held + 1,
        kept=repairs.kept + (judged.winner != CONTROL),
        cost_steps=repairs.cost_steps + cost,
        quiet_until=max(repairs.quiet_until, state.cursor.epoch + policy.cool_off_epochs),
        requests=max(repairs.requests, progress.request or 0),
    )
    names = [described(trial.interventions) for trial in progress.trials]
    session.event(
        {
            "kind": "tournament",
            "cause": progress.cause,
            "signs": list(progress.signs),
            "winner": names[judged.winner],
            "before": progress.before,
            "metrics": {name: trial.metric for name, trial in zip(names, progress.trials, strict=True)},
            "gain": judged.gain,
            "sigma": judged.sigma,
            "steps": progress.steps,
            "cost_steps": cost,
            "cost_steps_in_all": state.repairs.cost_steps,
            **({} if progress.request is None else {"request": progress.request}),
            **_failures(names, progress.trials),
        }
    )
    if winner:
        make(session, winner, by="tournament" if progress.request is None else "person", request=progress.request)


def _failures(names: Sequence[str], trials: Sequence[Trial]) -> dict[str, Any]:
    failed = {name: trial.failed for name, trial in zip(names, trials, strict=True) if trial.failed}
    return {"failed": failed} if failed else {}


def make(session: Session, interventions: Interventions, *, by: str, request: int | None = None) -> None:
    """Do interventions to the run itself; each is an event with its parameters, and says who wanted it.

    Raises:
        UserError: The run cannot have one of them; nothing was done.
    """
    reason = refusal(session.state, interventions, session.run.checkpoints)
    if reason:
        raise UserError(reason)
    for one in interventions:
        intervene(session.state, (one,), session.run.checkpoints, session.warning)
        asked = {} if request is None else {"request": request}
        session.event({"kind": "intervention", "what": one.kind, "by": by, **asked, **parameters_of(one)})
        if isinstance(one, DropTerm | WeightTerm):
            changed = session.state.repairs.changes.weights
            session.event(
                {"kind": "objective", "weights": weights_at(session.config.loss, session.state.cursor.epoch, changed)}
            )
