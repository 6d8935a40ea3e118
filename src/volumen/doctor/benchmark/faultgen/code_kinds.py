"""Faults of code of one's own, as it is handed to the audit in place of the package's makers of parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volumen.config.loss import Loss
from volumen.doctor.benchmark.faultgen.bundle import Act, Bundle
from volumen.doctor.benchmark.faultgen.kind import Kind, between, whole
from volumen.doctor.context import Parts
from volumen.inference.tiles import Tiles, Triple, plan_tiles
from volumen.losses import CompositeLoss, LossBreakdown
from volumen.training.objective import build_objective
from volumen.training.state import TrainingState, fresh_state

Objective = Callable[[Loss, int], CompositeLoss]


class _Own(CompositeLoss):
    """An objective that hands something else on than it was given, or gives something else back."""

    def __init__(self, objective: CompositeLoss, alter: Callable[..., LossBreakdown]) -> None:
        self.terms, self._objective, self._alter = objective.terms, objective, alter

    def __call__(self, logits: Any, target: Tensor, valid: Tensor, **precomputed: Any) -> LossBreakdown:
        return self._alter(self._objective, logits, target, valid, precomputed)


def _objective(alter: Callable[[float], Callable[..., LossBreakdown]]) -> Act:
    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
        own = alter(u)
        parts = Parts(objective=lambda loss, epoch: _Own(build_objective(loss, epoch), own))
        return replace(bundle, parts=parts)

    return act


def _state(spoil: Callable[[TrainingState, float], TrainingState | None]) -> Act:
    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
        def make(*arguments: Any, **options: Any) -> TrainingState:
            state = fresh_state(*arguments, **options)
            return spoil(state, u) or state

        return replace(bundle, parts=Parts(state=make))

    return act


def _unmasked(u: float) -> Callable[..., LossBreakdown]:
    """Ignored voxels count as background."""
    return lambda loss, logits, target, valid, more: loss(logits, target, torch.ones_like(valid))


def _twice(u: float) -> Callable[..., LossBreakdown]:
    """The objective's own activation on probabilities."""

    def alter(loss: CompositeLoss, logits: Any, target: Tensor, valid: Tensor, more: Any) -> LossBreakdown:
        levels = [torch.sigmoid(one) for one in logits] if isinstance(logits, list | tuple) else torch.sigmoid(logits)
        return loss(levels, target, valid, **more)

    return alter


def _changed(change: Callable[[Tensor], Tensor]) -> Callable[[float], Callable[..., LossBreakdown]]:
    """The first term changed within the sum."""

    def alter(loss: CompositeLoss, logits: Any, target: Tensor, valid: Tensor, more: Any) -> LossBreakdown:
        found = loss(logits, target, valid, **more)
        first = next(iter(found.weighted))
        weighted = {**found.weighted, first: change(found.weighted[first])}
        return LossBreakdown(torch.stack(list(weighted.values())).sum(), found.raw, weighted)

    return lambda u: alter


def _hidden(u: float) -> Callable[..., LossBreakdown]:
    """A term in the sum that nothing reports."""

    def alter(loss: CompositeLoss, logits: Any, target: Tensor, valid: Tensor, more: Any) -> LossBreakdown:
        found = loss(logits, target, valid, **more)
        finest = logits[0] if isinstance(logits, list | tuple) else logits
        total = found.total + between(0.05, 2, u) * torch.sigmoid(finest).mean()
        return LossBreakdown(total, found.raw, found.weighted)

    return alter


class _Activated(nn.Module):
    """A network with an activation too many."""

    def __init__(self, network: nn.Module, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.last = network, last

    def forward(self, images: Tensor) -> Any:
        """Of the network's logits."""
        found = self.network(images)
        return [self.last(one) for one in found] if isinstance(found, list | tuple) else self.last(found)


def _activated(state: TrainingState, u: float) -> TrainingState:
    """The second activation: sigmoid, tanh, or none below zero."""
    last = (torch.sigmoid, torch.tanh, torch.relu)[whole(0, 2, u)]
    state.model = _Activated(state.model, last)
    return state


def _half_optimiser(state: TrainingState, u: float) -> TrainingState:
    """The optimiser knows a part of the weights."""
    group = state.optimiser.param_groups[0]
    kept = max(1, round(between(0.8, 0.1, u) * len(group["params"])))
    group["params"] = group["params"][:kept]
    return state


def _frozen(state: TrainingState, u: float) -> TrainingState:
    """Weights that ask for no gradient."""
    weights = list(state.model.parameters())
    for one in weights[: max(1, round(between(0.2, 0.8, u) * len(weights)))]:
        one.requires_grad = False
    return state


class _Forgetful(TrainingState):
    """A state that gives back less than it was given."""

    forgets = "optimiser"

    def load_state_dict(self, state: dict[str, Any], origin: str) -> None:
        """All but what it forgets."""
        own = self.state_dict()
        super().load_state_dict({**state, self.forgets: own[self.forgets]}, origin)


def _forgets(state: TrainingState, u: float) -> TrainingState:
    """Resumes without its optimiser's moments, or without its weights' average."""
    state.__class__ = type("Forgetful", (_Forgetful,), {"forgets": ("optimiser", "model")[whole(0, 1, u)]})
    return state


def _ignores_decay(state: TrainingState, u: float) -> TrainingState:
    """A learning rate that is written in the code."""
    for group in state.optimiser.param_groups:
        group["weight_decay"] = 0.0
    return state


def _holes(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
    """Tiles that leave out the end of each axis, or what lies between two."""

    def plan(shape: Triple, tile: Triple, overlap: float) -> Tiles:
        found = plan_tiles(shape, tile, overlap)
        starts = tuple(one[:-1] if len(one) > 1 else one for one in found.starts)
        return replace(found, starts=(starts[0], starts[1], starts[2]))

    small = bundle.having({"inference": {"tile": (24, 24, 24), "overlap": 0.25}})
    return replace(small, parts=Parts(tiles=plan))


_CODE = ("P8", "P6", "P5")
CODE_KINDS = (
    Kind("ignored_voxels_count", "code", ("P1", "P6"), _objective(_unmasked), harm="definition"),
    Kind("activated_twice", "code", ("P8", "P5", "P6"), _objective(_twice), harm="definition"),
    Kind("term_detached", "code", _CODE, _objective(_changed(lambda value: value.detach())), harm="definition"),
    Kind("term_of_wrong_sign", "code", ("P5", "P4", "P6", "P8"), _objective(_changed(torch.neg)), harm="definition"),
    Kind("term_hidden", "code", ("P6", "P5"), _objective(_hidden), harm="definition"),
    Kind("head_activated", "code", ("P8",), _state(_activated), harm="definition"),
    Kind("half_optimiser", "code", ("P8", "P6"), _state(_half_optimiser), harm="definition"),
    Kind("weights_frozen", "code", ("P8", "P6"), _state(_frozen), harm="definition"),
    Kind("resume_forgets", "code", ("P8",), _state(_forgets), harm="definition"),
    Kind("decay_ignored", "code", ("P6",), _state(_ignores_decay), harm="definition"),
    Kind("tiles_with_a_hole", "code", ("P8",), _holes, harm="definition"),
)
"""Programs that are wrong: what a fault of theirs costs, the bench of monitors measures on its own kinds."""
