"""What trial n tries: a pure function of the sweep's seed and of the trials before it, by Optuna's samplers.

The study that a sampler looks at is made from the journal for each trial and thrown away, and the sampler gets a seed
of its own, so that nothing is left in a process that another one would not have.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from volumen.errors import UserError
from volumen.experiments.sweep_halving import Entry, Value
from volumen.experiments.sweep_space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

TPE, RANDOM, GRID = "tpe", "random", "grid"
SAMPLERS = (TPE, RANDOM, GRID)
STARTUP_TRIALS = 10
"""Drawn at random before the sampler learns from what was found."""
MOST_POINTS = 10_000


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    """Optuna's words for a space."""
    from optuna import distributions as kinds

    found: dict[str, BaseDistribution] = {}
    for one in space.factors:
        if one.low is None:
            found[one.key] = kinds.CategoricalDistribution(tuple(one.choices))
        elif one.whole:
            step = 1 if one.step is None else int(one.step)
            found[one.key] = kinds.IntDistribution(int(one.low), int(one.last), log=one.log, step=step)
        else:
            found[one.key] = kinds.FloatDistribution(one.low, one.last, log=one.log, step=one.step)
    return found


def draw(
    space: Space, sampler: str, seed: int, number: int, entries: Sequence[Entry], rungs: Sequence[int], attempt: int = 0
) -> dict[str, Value]:
    """The values of a trial by factor.

    Args:
        space: What may be chosen.
        sampler: One of `SAMPLERS`.
        seed: Of the sweep.
        number: Of the trial, from 1 on; 0 is the configuration itself.
        entries: The trials before it, with the values that they have reached.
        rungs: Epochs by which values are told apart.
        attempt: Another draw of the same trial.
    """
    if sampler == GRID:
        points = grid_of(space)
        order = np.random.default_rng(seed).permutation(len(points))
        return points[int(order[(number - 1) % len(points)])]
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    own = int.from_bytes(hashlib.sha256(f"{seed} {number} {attempt}".encode()).digest()[:4], "big")
    chosen: optuna.samplers.BaseSampler = (
        optuna.samplers.RandomSampler(seed=own)
        if sampler == RANDOM
        else optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP_TRIALS)
    )
    study = optuna.create_study(direction="maximize", sampler=chosen)
    kinds = distributions(space)
    for entry in entries:
        study.add_trial(_frozen(entry, kinds, rungs))
    trial, found = study.ask(), dict[str, Value]()
    for factor in space.factors:
        if factor.counts(found):
            found[factor.key] = _suggested(trial, factor.key, kinds[factor.key])
    return found


def _suggested(trial: Any, name: str, kind: "BaseDistribution") -> Value:
    from optuna import distributions as kinds

    value: Value
    if isinstance(kind, kinds.CategoricalDistribution):
        value = trial.suggest_categorical(name, kind.choices)
    elif isinstance(kind, kinds.IntDistribution):
        value = trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
    else:
        assert isinstance(kind, kinds.FloatDistribution)
        value = float(f"{trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log):.12g}")
        value = min(max(value, kind.low), kind.high)
    return value


def _frozen(entry: Entry, kinds: "Mapping[str, BaseDistribution]", rungs: Sequence[int]) -> "FrozenTrial":
    """A trial for a sampler to learn from: what is left at a rung counts with the value it had there."""
    from optuna.trial import TrialState, create_trial

    fit = {key: value for key, value in entry.parameters.items() if key in kinds}
    known = dict(zip(rungs, entry.values, strict=False))
    ended = len(entry.values) >= len(rungs)
    begun = not ended and not entry.reason and not entry.values
    return create_trial(
        state=TrialState.COMPLETE if ended else TrialState.RUNNING if begun else TrialState.PRUNED,
        value=entry.values[-1] if ended else None,
        params=fit,
        distributions={key: kinds[key] for key in fit},
        intermediate_values=known,
    )


def grid_of(space: Space) -> list[dict[str, Value]]:
    """Every combination once.

    Raises:
        UserError: A range has no step, or there are too many.
    """
    axes, total = [], 1
    for factor in space.factors:
        if factor.grid is None:
            raise UserError(
                f"{factor.origin}: {factor.key}: --sampler grid needs a `step`, or a list of values in place of a range"
            )
        axes.append(factor.grid)
        total *= len(factor.grid)
    if total > MOST_POINTS:
        raise UserError(f"the grid has {total} points, at most {MOST_POINTS}: use larger steps, or --sampler tpe")
    found: dict[tuple[tuple[str, Value], ...], dict[str, Value]] = {}
    for values in itertools.product(*axes):
        point: dict[str, Value] = {}
        for factor, value in zip(space.factors, values, strict=True):
            if factor.counts(point):
                point[factor.key] = value
        found.setdefault(tuple(point.items()), point)
    return list(found.values())
