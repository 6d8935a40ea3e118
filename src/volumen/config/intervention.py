"""Interventions as data: what may be done to a run while it goes on, told apart by `kind`.

A tournament tries them (`training.tournament`), a person asks for one (`volumen intervene`). They are no part of a
run's configuration: what was done to a run is in its state and in its events.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from volumen.config.base import Section
from volumen.config.dump import canonical, config_values
from volumen.config.load import model_of
from volumen.config.loss import Weight
from volumen.config.optimisation import Norm, Optimiser, Rate, Schedule
from volumen.errors import UserError

Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
Named = Annotated[str, Field(min_length=1, max_length=200)]


class RateScale(Section):
    """Multiply the learning rate, from now to the end of the run."""

    kind: Literal["rate_scale"] = "rate_scale"
    factor: Scale


class SwitchSchedule(Section):
    """Another schedule, as if it had been there from the start."""

    kind: Literal["schedule"] = "schedule"
    to: Schedule


class SwitchOptimiser(Section):
    """Another optimiser, with a learning rate of its own and without moments."""

    kind: Literal["optimiser"] = "optimiser"
    to: Optimiser


class DropTerm(Section):
    """Leave a term out of the objective."""

    kind: Literal["drop_term"] = "drop_term"
    name: Named


class WeightTerm(Section):
    """Another weight of a term, in all phases to come."""

    kind: Literal["weight_term"] = "weight_term"
    name: Named
    weight: Weight


class ClipGradient(Section):
    """Another largest gradient norm."""

    kind: Literal["gradient_clip"] = "gradient_clip"
    value: Norm


class AddNoise(Section):
    """Gaussian noise on the weights, once; its standard deviation is relative to each tensor's own."""

    kind: Literal["weight_noise"] = "weight_noise"
    std: Rate


class ReloadBest(Section):
    """The best state: weights, optimiser, rate, averages, loss scale, objective and schedule together."""

    kind: Literal["reload_best"] = "reload_best"


class StartAveraging(Section):
    """A moving average of the weights from now on, validated in their place."""

    kind: Literal["start_averaging"] = "start_averaging"
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.999


class Unfreeze(Section):
    """Train all parameters."""

    kind: Literal["unfreeze"] = "unfreeze"


class ResetLayer(Section):
    """Draw a layer's weights anew, without moments; `name` as parameters are called, or their beginning."""

    kind: Literal["reset_layer"] = "reset_layer"
    name: Named


class RestoreLayer(Section):
    """A layer's weights from the best state, without moments."""

    kind: Literal["restore_layer"] = "restore_layer"
    name: Named


Intervention = Annotated[
    RateScale
    | SwitchSchedule
    | SwitchOptimiser
    | DropTerm
    | WeightTerm
    | ClipGradient
    | AddNoise
    | ReloadBest
    | StartAveraging
    | Unfreeze
    | ResetLayer
    | RestoreLayer,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[Section]] = {
    str(one.model_fields["kind"].default): one
    for one in (
        RateScale,
        SwitchSchedule,
        SwitchOptimiser,
        DropTerm,
        WeightTerm,
        ClipGradient,
        AddNoise,
        ReloadBest,
        StartAveraging,
        Unfreeze,
        ResetLayer,
        RestoreLayer,
    )
}


class _Asked(Section):
    intervention: Intervention


def read_intervention(kind: str, parameters: Sequence[str] = ()) -> Intervention:
    """An intervention from its kind and texts such as `factor=3`, read like a configuration's `-o`.

    Raises:
        UserError: No such kind.
        ConfigError: A parameter that it does not have, that it lacks, or out of its bounds.
    """
    if kind not in KINDS:
        raise UserError(f"there is no intervention {kind!r:.80}: choose one of {', '.join(KINDS)}")
    overrides = [f"intervention.{text}" for text in parameters]
    return model_of(_Asked, {"intervention": {"kind": kind}}, overrides, f"--kind {kind}").config.intervention


def parameters_of(one: Intervention) -> dict[str, object]:
    """Its parameters as plain values."""
    return {name: value for name, value in config_values(one).items() if name != "kind"}


def described(interventions: Sequence[Intervention]) -> str:
    """In words: `reload_best + rate_scale factor 0.3`; none is the control."""
    return " + ".join(map(_words, interventions)) or "control"


def _words(one: Intervention) -> str:
    said = [f"{name} {_value(value)}" for name, value in parameters_of(one).items()]
    return " ".join([one.kind, *said])


def _value(value: object) -> str:
    if isinstance(value, dict):
        return canonical(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
