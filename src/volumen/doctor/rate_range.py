"""Which learning rates does a run bear? A range test (Smith 2017, arXiv 1506.01186) with full restore of the state.

From a state, the rate rises step by step from far too small to far too large, always on the same four patches, so that
the curve is not blurred by other data. Meanwhile they are learnt by heart, which forgives rates that no run on changing
patches bears: the upper end is a bound, beyond which even this fails, and no recommendation. (With fresh patches for
each step, r fell by less than 0.1 in as many steps, and the upper ends of three seeds lay apart by a factor of 16.)
Losses are read as progress r (1: best constant, 0: best attainable), which gives the thresholds below one meaning for
every objective:

- *lower*: the rate at which r has fallen by a tenth of all that it falls.
- *diverging*: the first rate after the least r at which r is again above half of what was gained, or not finite.
- *upper*: a third of the rate of the least r, where a loss that has begun to shake is left out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from volumen.data.dataset import surface_share
from volumen.doctor.autopsy import Range
from volumen.doctor.first_steps import Board, board_of, copied
from volumen.doctor.overfit import highest_rate_epoch
from volumen.doctor.stages import CPU, precision_of
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError

if TYPE_CHECKING:  # the audit's checks call this module
    from volumen.doctor.audit.context import Context

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 112
SECONDS = 50.0
SMOOTHED = 3
"""Steps whose median is taken."""
BEGINS, LOST = 0.1, 0.5
"""Shares of the fall of r: where it begins, and of which so much is lost again where it diverges."""
BELOW_LEAST = 3.0
LEAST_FALL = 0.02
"""A smaller fall of r is none."""


@dataclass(frozen=True)
class Interval:
    """What a curve of progress over rates says; None where it says nothing."""

    lower: float | None
    upper: float | None
    diverging: float | None


@dataclass(frozen=True)
class RateRange:
    """A range test."""

    rates: tuple[float, ...]
    progress: tuple[float, ...]
    """Progress r after the step at each rate; shorter where a step was not finite."""
    start: float
    """Progress before the first step."""
    interval: Interval
    configured: float
    """The highest rate of the run."""
    seconds: float
    complete: bool
    """Whether the highest rate or divergence was reached within the time."""


def measure_rates(context: "Context", *, steps: int = STEPS, seconds: float = SECONDS) -> RateRange:
    """The range test of a run that has not started, with its own network, optimiser, precision and first objective."""
    config = context.config
    board = board_of(context, 4)
    prior = surface_share(context.dataset, context.training)
    state = context.parts.state(
        config, CPU, precision_of(config), steps_per_epoch=1, prior=prior, initial=context.initial
    )
    return sweep(state, board, next(iter(context.autopsies.values())).total, steps=steps, seconds=seconds)


def sweep(
    state: TrainingState, board: Board, reach: Range, *, steps: int = STEPS, seconds: float = SECONDS
) -> RateRange:
    """Raise the rate from 1e-6 to 10 and give the state back as it was, to the last bit.

    Args:
        state: Living or fresh.
        board: The patches.
        reach: Floor and baseline of the objective.
        steps: From the lowest to the highest rate.
        seconds: No step is begun after this time.
    """
    began, before = time.perf_counter(), copied(state.state_dict())
    was_training, precision = state.model.training, precision_of(state.config)
    epochs = state.config.training.epochs
    peak = highest_rate_epoch(state)
    configured = state.rate.rate_at(peak, epochs)
    planned = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    rates, progress, finite = list[float](), list[float](), True
    start = reach.progress(board.loss(state.model, precision))
    try:
        for rate in planned:
            if time.perf_counter() - began > seconds:
                break
            state.rate.scale = before["rate"]["scale"] * rate / configured
            state.rate.apply(peak, epochs)
            rates.append(rate)
            try:
                board.step(state, precision)
                value = reach.progress(board.loss(state.model, precision))
            except NonFiniteError:
                value = float("inf")
            finite = bool(np.isfinite(value))
            if not finite:
                break
            progress.append(value)
    finally:
        state.load_state_dict(before, "the state before the range test")
        state.model.zero_grad(set_to_none=True)
        state.model.train(was_training)
    interval = interval_of(rates, progress, start)
    complete = not finite or len(rates) == len(planned) or interval.diverging is not None
    return RateRange(
        tuple(rates), tuple(progress), start, interval, configured, time.perf_counter() - began, complete
    )  # fmt: skip


def interval_of(rates: Sequence[float], progress: Sequence[float], start: float) -> Interval:
    """Lower and upper end of the useful rates, and the rate of divergence; see the module.

    Args:
        rates: Rising; one more than `progress` where the last step was not finite.
        progress: After the step at each rate.
        start: Before the first.
    """
    curve = np.array([np.median(progress[max(0, i - SMOOTHED + 1) : i + 1]) for i in range(len(progress))])
    broke = rates[len(progress)] if len(rates) > len(progress) else None
    if len(curve) == 0 or start - curve.min() < LEAST_FALL:
        return Interval(None, None, broke)
    least = int(curve.argmin())
    fall = start - curve[least]
    lower = rates[int(np.argmax(curve < start - BEGINS * fall))]
    back = np.flatnonzero(curve[least:] > curve[least] + LOST * fall)
    diverging = rates[least + int(back[0])] if len(back) else broke
    return Interval(lower, max(lower, rates[least] / BELOW_LEAST), diverging)
