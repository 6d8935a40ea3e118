"""Which branch of a tournament won: pure arithmetic on the metrics that the branches ended with.

The noise of a metric, from the run's own validations m_1 ... m_n, is

    sigma = 1.4826 * median |m_(i+1) - m_i| / sqrt(2)

which for independent normal noise is its standard deviation; a run that is learning only makes it larger, and one jump
does not move the median. A gain over the control is paired over the held-out volumes. It has to exceed twice the
largest of three: sigma, a configured floor, and (with three or more volumes) the standard error of the difference.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from volumen.metrics.comparison import FEWEST_VOLUMES, NOISE_ERRORS, mean_and_noise, standard_error
from volumen.training.repairs import Trial

CONTROL = 0
LATEST = 20
"""Validations that the noise is taken from."""


@dataclass(frozen=True)
class Judged:
    """The outcome of a tournament."""

    winner: int
    """Number of the branch; the control's is 0."""
    gain: float | None
    """Of the best remedy over the control; None where one of them failed."""
    sigma: float


def scatter(history: Sequence[float], floor: float) -> float:
    """The noise of a metric, from its values at a run's validations in their order, at least `floor`."""
    known = [value for value in history if math.isfinite(value)][-LATEST:]
    steps = [abs(later - earlier) for earlier, later in pairwise(known)]
    return max(floor, 1.4826 * median_low(steps) / math.sqrt(2.0)) if steps else floor


def judge(trials: Sequence[Trial], sigma: float, loss_sigma: float = math.inf) -> Judged:
    """The best remedy where it beats the control by more than twice the noise, else the control.

    Where every branch has the same metric, as all have 0 before anything is found, it cannot tell: then the validation
    loss decides in the same way, among remedies that leave the objective as it is.

    Args:
        trials: The control first.
        sigma: Noise of the metric, from `scatter`.
        loss_sigma: Noise of the validation loss, likewise.
    """
    control = trials[CONTROL]
    if len({trial.metric for trial in trials}) == 1 and control.metric is not None:
        return _by_loss(trials, loss_sigma)
    best = max(
        (number for number, one in enumerate(trials) if number != CONTROL and one.metric is not None),
        key=lambda number: trials[number].metric or 0.0,
        default=CONTROL,
    )
    if best == CONTROL:
        return Judged(CONTROL, None, sigma)
    if control.metric is None:  # it broke down, and the remedy did not
        return Judged(best if control.failed else CONTROL, None, sigma)
    gain, noise = _difference(trials[best], control)
    noise = max(sigma, noise)
    return Judged(best if gain > NOISE_ERRORS * noise else CONTROL, gain, noise)


def _by_loss(trials: Sequence[Trial], sigma: float) -> Judged:
    losses = [math.inf if one.loss is None or not math.isfinite(one.loss) else one.loss for one in trials]
    best = min(range(len(trials)), key=losses.__getitem__)
    is_better = math.isfinite(losses[CONTROL]) and losses[CONTROL] - losses[best] > NOISE_ERRORS * sigma
    return Judged(best if is_better else CONTROL, 0.0, sigma)


def _difference(one: Trial, control: Trial) -> tuple[float, float]:
    """Gain over the control, paired over the volumes where both have a value, and its standard error."""
    shared = [name for name in one.cases if name in control.cases]
    if not shared:
        return (one.metric or 0.0) - (control.metric or 0.0), 0.0
    differences = [one.cases[name] - control.cases[name] for name in shared]
    gain = mean_and_noise(differences)[0]
    return gain, standard_error(differences) if len(shared) >= FEWEST_VOLUMES else 0.0
