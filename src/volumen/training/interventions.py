"""What each intervention does to a run's state: a table by kind, pure but for the state it is given.

Whatever lasts (weights of terms, schedule, optimiser, clipping, averaging, what is trained) goes into the state's
`repairs.changes`, so that checkpoints carry it and a rollback takes it back.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from volumen.config.intervention import (
    AddNoise,
    ClipGradient,
    DropTerm,
    Intervention,
    RateScale,
    ReloadBest,
    ResetLayer,
    RestoreLayer,
    StartAveraging,
    SwitchOptimiser,
    SwitchSchedule,
    Unfreeze,
    WeightTerm,
)
from volumen.config.optimisation import WeightAverage, WeightNoise
from volumen.errors import UserError
from volumen.models import build_model
from volumen.runs.checkpoints import CheckpointStore
from volumen.system.output import Warn, unheard
from volumen.training.noise import inject_noise
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState


def intervene(
    state: TrainingState, interventions: Sequence[Intervention], store: CheckpointStore, warn: Warn = unheard
) -> None:
    """Do interventions to a run's state, one after the other.

    Args:
        state: Between two epochs.
        interventions: In their order.
        store: The run's checkpoints, for those that look at the best one.
        warn: Told about a damaged checkpoint.

    Raises:
        UserError: One that this run cannot have: no such term or layer, no best state yet, nothing to unfreeze.
    """
    for one in interventions:
        _DONE[type(one)](state, one, lambda: _best(store, warn))


def refusal(state: TrainingState, interventions: Sequence[Intervention], store: CheckpointStore) -> str:
    """Why a run cannot have interventions; empty where it can. The state stays as it is."""
    try:
        for one in interventions:
            if isinstance(one, ReloadBest | RestoreLayer):
                _need_best(store)
            if isinstance(one, ResetLayer | RestoreLayer):
                _named(state, one.name)
            if isinstance(one, DropTerm | WeightTerm):
                _weights(state, one)
            if isinstance(one, StartAveraging):
                _need_no_average(state)
            if isinstance(one, Unfreeze):
                _frozen(state)
    except UserError as error:
        return str(error)
    return ""


Best = Callable[[], dict[str, Any]]


def _need_best(store: CheckpointStore) -> None:
    if store.manifest().best is None:
        raise UserError("there is no best state yet: wait for the first validation")


def _best(store: CheckpointStore, warn: Warn) -> dict[str, Any]:
    _need_best(store)
    return store.load_best(warn)


def _scale_rate(state: TrainingState, one: RateScale, best: Best) -> None:
    state.rate.multiply(one.factor, "intervention")


def _switch_schedule(state: TrainingState, one: SwitchSchedule, best: Best) -> None:
    state.adopt(state.repairs.changes.model_copy(update={"schedule": one.to}))


def _switch_optimiser(state: TrainingState, one: SwitchOptimiser, best: Best) -> None:
    state.adopt(state.repairs.changes.model_copy(update={"optimiser": one.to}), anew=True)


def _weights(state: TrainingState, one: DropTerm | WeightTerm) -> dict[str, float]:
    """The weights that would hold in place of the configured ones; every phase still to come keeps a term."""
    loss, epoch = state.config.loss, state.cursor.epoch
    present = loss.terms.present()
    if one.name not in present:
        raise UserError(f"the objective has no term {one.name!r:.80}: it has {', '.join(present)}")
    weights = {**state.repairs.changes.weights, one.name: one.weight if isinstance(one, WeightTerm) else 0.0}
    for start in (epoch, *(phase.start_epoch for phase in loss.curriculum if phase.start_epoch > epoch)):
        build_objective(loss, start, weights)
    return weights


def _weigh(state: TrainingState, one: DropTerm | WeightTerm, best: Best) -> None:
    state.adopt(state.repairs.changes.model_copy(update={"weights": _weights(state, one)}))
    state.watch.forget_totals()
    state.rate.forget_plateau()


def _clip(state: TrainingState, one: ClipGradient, best: Best) -> None:
    state.adopt(state.repairs.changes.model_copy(update={"gradient_clip": one.value}))


def _add_noise(state: TrainingState, one: AddNoise, best: Best) -> None:
    epoch = state.cursor.epoch
    inject_noise(state.model, WeightNoise(start_epoch=epoch, std=one.std), state.config.seed, epoch)


def _reload(state: TrainingState, one: ReloadBest, best: Best) -> None:
    state.roll_back(best(), "the best checkpoint")


def _need_no_average(state: TrainingState) -> None:
    if state.average is not None:
        raise UserError("the run keeps a moving average already: nothing to start")


def _start_averaging(state: TrainingState, one: StartAveraging, best: Best) -> None:
    _need_no_average(state)
    state.adopt(state.repairs.changes.model_copy(update={"average": WeightAverage(decay=one.decay)}))


def _frozen(state: TrainingState) -> tuple[str, ...]:
    names = tuple(name for name, parameter in state.model.named_parameters() if not parameter.requires_grad)
    if not names:
        raise UserError("every parameter is trained already: nothing to unfreeze")
    return names


def _unfreeze(state: TrainingState, one: Unfreeze, best: Best) -> None:
    changes = state.repairs.changes
    state.adopt(changes.model_copy(update={"unfrozen": (*changes.unfrozen, *_frozen(state))}))


def _named(state: TrainingState, layer: str) -> list[str]:
    names = [name for name, _ in state.model.named_parameters()]
    found = [name for name in names if name.startswith(f"{layer}.") or fnmatchcase(name, layer)]
    if not found:
        layers = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
        raise UserError(f"no parameter is called {layer!r:.80} or begins so: layers are {', '.join([*layers][:12])}")
    return found


def _reset(state: TrainingState, one: ResetLayer, best: Best) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(state.config.seed + state.cursor.epoch)
        fresh = build_model(state.config.model)
    _put(state, one.name, dict(fresh.named_parameters()))


def _restore(state: TrainingState, one: RestoreLayer, best: Best) -> None:
    _put(state, one.name, best()["model"])


@torch.no_grad()
def _put(state: TrainingState, layer: str, weights: Mapping[str, Tensor]) -> None:
    """Give a layer other weights, in the moving average too, and forget its moments."""
    parameters = dict(state.model.named_parameters())
    for name in _named(state, layer):
        parameters[name].copy_(weights[name])
        state.optimiser.state.pop(parameters[name], None)
        if state.average is not None:
            state.average.weights[name].copy_(weights[name])


_DONE: dict[type[Any], Callable[[TrainingState, Any, Best], None]] = {
    RateScale: _scale_rate,
    SwitchSchedule: _switch_schedule,
    SwitchOptimiser: _switch_optimiser,
    DropTerm: _weigh,
    WeightTerm: _weigh,
    ClipGradient: _clip,
    AddNoise: _add_noise,
    ReloadBest: _reload,
    StartAveraging: _start_averaging,
    Unfreeze: _unfreeze,
    ResetLayer: _reset,
    RestoreLayer: _restore,
}
