"""P10: does the learning rate lie where the loss falls? A range test (Smith 2017, arXiv 1506.01186).

From a state, the rate rises step by step from far too small to far too large, always on the same four patches, so that
the curve is not blurred by other data. Meanwhile they are learnt by heart, which forgives rates that no run on changing
patches bears: the upper end is a bound, beyond which even this fails, and no recommendation. (With fresh patches for
each step, r fell by less than 0.1 in as many steps, and the upper ends of three seeds lay apart by a factor of 16.)
Losses are read as progress r (1: best constant, 0: best attainable), which gives the thresholds below one meaning for
every objective:

- *lower*: the rate at which r has fallen by a tenth of all that it falls.
- *diverging*: the first rate after the least r at which r is again above half of what was gained, or not finite.
- *upper*: a third of the rate of the least r, where a loss that has begun to shake is left out.

The quick audit does fewer steps on two patches, and compares paths: the sum of the rates, times what a momentum makes
of them, is how far weights can move. A run whose whole path is no longer than the test's up to *lower* learns nothing.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from volumen.config.optimisation import Sgd
from volumen.doctor.check import Check
from volumen.doctor.context import Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.autopsy import Range
from volumen.doctor.objective.check import autopsies
from volumen.doctor.settings.course import rates_of, steps_of
from volumen.doctor.start.first_steps import Board, alone, board_of, copied, cpu_precision, fresh
from volumen.doctor.start.overfit import highest_rate_epoch
from volumen.training.state import TrainingState
from volumen.training.step import NonFiniteError

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
FAR_BELOW = 30.0
"""Below the lower end by more than this factor is too low; a range test's rates act for one step each, a run's for all
of them. Healthy runs: at most 9."""
FAR_ABOVE = 5.0
"""Above the upper end by more than this factor is too high."""
QUICK_STEPS, QUICK_SECONDS, QUICK_PATCHES = 40, 6.0, 2
FEWEST_STEPS = 100
"""A shorter run is a try, and takes less time than the quick test."""
STRONG_DECAY, MANY_FOLDS = {"sgd": 0.5, "adamw": 3.0}, 3.0
"""Decay of 1 does no harm to AdamW, nor 0.1 to SGD, to which 1 does; how often a weight is divided by e in the run."""
SHORT_PATH, NO_PATH = 2.0, 0.4
"""Paths of a run, in paths to the lower end; measured in runs of 216 steps: what learns has 2.8 and more, what has 0.8
and less gives no surface at all."""


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


def measure_rates(context: Context, *, steps: int = STEPS, seconds: float = SECONDS) -> RateRange:
    """The range test of a run that has not started, with its own network, optimiser, precision and first objective."""
    board, state = board_of(context, 4), fresh(context, cpu_precision(context.config))
    return sweep(state, board, next(iter(autopsies(context).values())).total, steps=steps, seconds=seconds)


def sweep(
    state: TrainingState, board: Board, reach: Range, *, steps: int = STEPS, seconds: float = SECONDS
) -> RateRange:
    """Raise the rate from 1e-6 to 10 and give the state back as it was, to the last bit.

    Args:
        state: Living or fresh.
        board: The patches.
        reach: Floor and baseline of the objective.
        steps: From the lowest to the highest rate.
        seconds: Of processor time a thread, after which no step is begun: what else the machine does decides nothing.
    """
    began, used, before = time.perf_counter(), time.process_time(), copied(state.state_dict())
    limit = seconds * torch.get_num_threads()
    was_training, precision = state.model.training, cpu_precision(state.config)
    epochs = state.config.training.epochs
    peak = highest_rate_epoch(state)
    configured = state.rate.rate_at(peak, epochs)
    planned = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    rates, progress, finite = list[float](), list[float](), True
    start = reach.progress(board.loss(state.model, precision))
    try:
        for rate in planned:
            if time.process_time() - used > limit:
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


def path_of(rates: Sequence[float], momentum: float = 0.0) -> float:
    """How far steps of these rates carry a weight whose gradient stays 1: the sum of rate times velocity."""
    velocity = path = 0.0
    for rate in rates:
        velocity = momentum * velocity + 1.0
        path += rate * velocity
    return path


@once
def quick_rates(context: Context) -> tuple[Finding, ...]:
    """What a short range test says of the highest rate and of all the run's steps together."""
    steps = steps_of(context.config)
    if steps < FEWEST_STEPS:
        return ()
    with alone():
        state = fresh(context, cpu_precision(context.config))
        reach = next(iter(autopsies(context).values())).total
        found = sweep(state, board_of(context, QUICK_PATCHES), reach, steps=QUICK_STEPS, seconds=QUICK_SECONDS)
    low, diverging = found.interval.lower, found.interval.diverging
    if diverging is not None and found.configured >= diverging:
        return (_finding(context, found, Severity.stop, "the learning rate lies where the loss diverges"),)
    if (
        low is None
        and found.complete
        and context.config.training.gradient_clip is not None
        and isinstance(context.config.optimiser, Sgd)
    ):
        return (
            replace(
                _finding(context, found, Severity.stop, "gradients are clipped to nothing"),
                causes=("a gradient_clip far below the gradients, which sets the size of every step",),
                remedies=("training.gradient_clip: 12.0",),
                where=context.where("training.gradient_clip"),
            ),
        )
    if low is None or context.initial is not None:
        return ()
    optimiser, rates = context.config.optimiser, rates_of(context.config)
    momentum = optimiser.momentum if isinstance(optimiser, Sgd) else 0.0
    whole = float(rates.sum()) * steps / len(rates) / (1 - momentum)
    ratio = whole / path_of([rate for rate in found.rates if rate <= low], momentum)
    if ratio >= SHORT_PATH:
        return ()
    return (
        Finding(
            code="P10",
            severity=Severity.stop if ratio < NO_PATH else Severity.warn,
            title="all steps of the run together hardly move the network",
            evidence=(
                f"{steps} steps at rates up to {found.configured:.3g} make a path {ratio:.2g} times as long as the one "
                f"after which r begins to fall, in a range test of {len(found.rates)} steps on {QUICK_PATCHES} patches"
            ),
            causes=("a rate taken from another optimiser", "gradients clipped to nothing", "a run of too few steps"),
            remedies=(f"optimiser.learning_rate: {max(low / 3, found.configured):.2g}", "more training.epochs")
            if low / 3 > found.configured
            else ("more training.epochs", "volumen audit rate"),
            where=context.where("optimiser.learning_rate"),
        ),
    )


def check_quickly(context: Context) -> Iterator[Finding]:
    """P10, what takes seconds."""
    yield from _decay(context)
    yield from quick_rates(context)


def _decay(context: Context) -> Iterator[Finding]:
    """Weight decay that holds the weights near 0."""
    optimiser, rates = context.config.optimiser, rates_of(context.config)
    shrunk = optimiser.weight_decay * float(rates.sum()) * steps_of(context.config) / len(rates)
    shrunk /= 1 - optimiser.momentum if isinstance(optimiser, Sgd) else 1
    if optimiser.weight_decay >= (strong := STRONG_DECAY[optimiser.kind]) and shrunk > MANY_FOLDS:
        yield Finding(
            code="P10",
            severity=Severity.stop if optimiser.weight_decay >= 3 * strong else Severity.warn,
            title="weight decay holds the weights near 0",
            evidence=(
                f"optimiser.weight_decay {optimiser.weight_decay:g} over the run's rates shrinks a weight without a "
                f"gradient by a factor of e^{shrunk:.0f}"
            ),
            causes=("a decay taken from another optimiser",),
            remedies=("optimiser.weight_decay: 0.01",),
            where=context.where("optimiser.weight_decay"),
        )


def check_learning_rate(context: Context) -> Iterator[Finding]:
    """Whether the run's highest rate lies where a range test found useful ones."""
    if quick_rates(context):  # it is said already
        return
    found = measure_rates(context)
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    if diverging is not None and found.configured >= diverging:
        yield _finding(context, found, Severity.stop, "the learning rate lies where the loss diverges")
    elif high is not None and found.configured > FAR_ABOVE * high:
        yield _finding(context, found, Severity.warn, "the learning rate lies far above the useful ones")
    elif low is not None and found.configured < low / FAR_BELOW:
        yield _finding(context, found, Severity.warn, "the learning rate lies far below the useful ones")
    elif low is None and found.complete:
        yield _finding(context, found, Severity.warn, "no learning rate makes the loss fall")
    elif low is None:
        yield _finding(context, found, Severity.note, "no time for the range of learning rates")


def _finding(context: Context, found: RateRange, severity: Severity, title: str) -> Finding:
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    least = min(found.progress, default=found.start)
    useful = f"useful are {low:.2g} to {high:.2g}" if low is not None and high is not None else "none was useful"
    ends = "" if diverging is None else f", from {diverging:.2g} on it diverges"
    remedy = (
        "volumen audit loss, then P8" if low is None else f"optimiser.learning_rate between {low:.2g} and {high:.2g}"
    )
    return Finding(
        code="P10",
        severity=severity,
        title=title,
        evidence=(
            f"highest rate of the run {found.configured:.3g}; in a range test of {len(found.rates)} steps from "
            f"{LOWEST:g} to {HIGHEST:g} on four patches {useful}{ends}: progress r "
            f"from {found.start:.2f} to {least:.2f}"
        ),
        causes=("a rate taken from another optimiser, batch or network",),
        remedies=(remedy, "volumen audit rate"),
        where=context.where("optimiser.learning_rate"),
    )


LEARNING_RATE = Check(code="P10", title="Learning rate", run=check_quickly, thorough=check_learning_rate)
