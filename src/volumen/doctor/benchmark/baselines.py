"""Other people's rules, written from their published descriptions, on the records that our runs keep.

Each rule is given what the records have of what it asks for; one that asks for more (activations, gradients by layer)
is named in its examiner's text as left out. Thresholds are the published defaults.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from volumen.doctor.benchmark.examining import Alarm, Verdict, verdict_of
from volumen.doctor.benchmark.tracks import Track, read_track

Rules = Callable[[Track], Iterator[Alarm]]


@dataclass(frozen=True)
class Baseline:
    """Somebody's rules."""

    name: str
    source: str
    left_out: str
    rules: Rules

    def __call__(self, run: Path) -> Verdict:
        """What they say of the run in a folder."""
        return verdict_of(list(self.rules(read_track(run))))


def _broken(track: Track, name: str) -> Iterator[Alarm]:
    if track.broken is not None:
        yield Alarm(name, track.broken, "non_finite")


# AUTOTRAINER's published defaults.
_OSCILLATION, _OSCILLATING_SHARE, _SLOW, _GOOD_ACCURACY = 0.03, 0.2, 0.01, 0.6
_LEAST_EPOCHS = 4


def _autotrainer(track: Track) -> Iterator[Alarm]:
    """Explode: NaN. Unstable: accuracy turns by more than 0.03 in a fifth of the epochs. Slow: it gains under 0.01."""
    yield from _broken(track, "explode")
    turns = 0
    for number in range(2, len(track.accuracy)):
        before, middle, now = track.accuracy[number - 2 : number + 1]
        if (middle - before) * (now - middle) < 0 and min(abs(middle - before), abs(now - middle)) > _OSCILLATION:
            turns += 1
        if number + 1 >= _LEAST_EPOCHS and turns / (number + 1) >= _OSCILLATING_SHARE:
            yield Alarm("unstable", track.validated[number], "rate_too_high")
    if len(track.accuracy) >= _LEAST_EPOCHS:
        end = track.validated[_LEAST_EPOCHS - 1]
        gain = max(track.accuracy[:_LEAST_EPOCHS]) - track.accuracy[0]
        if gain < _SLOW:
            yield Alarm("slow_convergence", end, "rate_too_low")
        if gain < _SLOW and track.accuracy[_LEAST_EPOCHS - 1] < _GOOD_ACCURACY:
            yield Alarm("vanishing_or_dying", end, "dead_channels")


_HIGHEST_RATE, _LOWEST_RATE, _TOO_GOOD = 0.01, 1e-7, 0.95


def _umlaut(track: Track) -> Iterator[Alarm]:
    """NaN loss, a rate out of [1e-7, 0.01], validation accuracy above 95 % early, validation loss rising."""
    yield from _broken(track, "nan_in_loss")
    for step, rate in zip(track.steps, track.rate, strict=True):
        if rate > _HIGHEST_RATE:
            yield Alarm("learning_rate_high", step, "rate_too_high")
        if rate < _LOWEST_RATE:
            yield Alarm("learning_rate_low", step, "rate_too_low")
    for number, step in enumerate(track.validated):
        if number < 3 and track.accuracy[number] > _TOO_GOOD:
            yield Alarm("validation_accuracy_high", step, "leak")
        if number and _overfits(track, number):
            yield Alarm("overfitting", step, "overfitting")


def _overfits(track: Track, number: int) -> bool:
    """Validation loss up and training loss down from one validation to the next."""
    rises = track.validation_loss[number] > track.validation_loss[number - 1]
    return rises and track.training_at_validation[number] < track.training_at_validation[number - 1]


# SageMaker Debugger's documented defaults.
_DECREASE_PERCENT, _DECREASE_STEPS, _INCREASE_PERCENT = 0.1, 10, 5.0
_OVERFIT_RATIO, _PATIENCE_TRAIN, _PATIENCE_VALIDATION, _DELTA = 0.1, 5, 10, 0.01
_VANISHING, _IMBALANCE = 1e-7, 10.0


def _sagemaker(track: Track) -> Iterator[Alarm]:
    """LossNotDecreasing, Overfit, Overtraining, VanishingGradient, ExplodingTensor, ClassImbalance."""
    yield from _broken(track, "ExplodingTensor")
    for number, step in enumerate(track.steps):
        loss = track.loss[number]
        if number and step - track.steps[number - 1] >= _DECREASE_STEPS:
            change = 100 * (loss - track.loss[number - 1]) / max(abs(track.loss[number - 1]), 1e-12)
            if change > -_DECREASE_PERCENT or change > _INCREASE_PERCENT:
                yield Alarm("LossNotDecreasing", step, "rate_too_high")
        if track.gradient[number] < _VANISHING:
            yield Alarm("VanishingGradient", step, "frozen_layers")
        share = min(track.true_share[number], 1 - track.true_share[number])
        if share > 0 and (1 - share) / share > _IMBALANCE:
            yield Alarm("ClassImbalance", step, "class_bias")
    for number, step in enumerate(track.validated):
        train, validation = track.training_at_validation[number], track.validation_loss[number]
        if (validation - train) / max(abs(train), 1e-12) > _OVERFIT_RATIO:
            yield Alarm("Overfit", step, "overfitting")
    yield from _stalled(track.steps, track.loss, _PATIENCE_TRAIN, "Overtraining")
    yield from _stalled(track.validated, track.validation_loss, _PATIENCE_VALIDATION, "Overtraining")


def _stalled(steps: tuple[int, ...], losses: tuple[float, ...], patience: int, name: str) -> Iterator[Alarm]:
    best, bad = math.inf, 0
    for step, loss in zip(steps, losses, strict=True):
        best, bad = (loss, 0) if loss < best - _DELTA else (best, bad + 1)
        if bad > patience:
            yield Alarm(name, step, "converged")


_WATCHED = 3


def _deeplocalize(track: Track) -> Iterator[Alarm]:
    """NaN or infinity; the loss not lower, or the accuracy not higher, in three iterations (here: epochs)."""
    yield from _broken(track, "numerical_error")
    yield from _never_better(track.steps, [-loss for loss in track.loss], "loss_not_decreasing")
    yield from _never_better(track.validated, list(track.accuracy), "accuracy_not_increasing")


def _never_better(steps: tuple[int, ...], values: list[float], name: str) -> Iterator[Alarm]:
    better = [now > before for before, now in pairwise(values)]
    for number in range(_WATCHED, len(values)):
        if not any(better[number - _WATCHED : number]):
            yield Alarm(name, steps[number], "rate_too_high")


_RELATIVE, _PATIENCE_SHARE = 1e-4, 0.2


def _early_stopping(track: Track) -> Iterator[Alarm]:
    """The loss without a gain of 1e-4 for a fifth of the run (10 of about 50 epochs): reduce; for twice that: stop."""
    patience = max(2, round(_PATIENCE_SHARE * len(track.validation_loss)))
    best, bad = math.inf, 0
    for number, (step, loss) in enumerate(zip(track.validated, track.validation_loss, strict=True)):
        best, bad = (loss, 0) if loss < best - _RELATIVE * abs(loss) else (best, bad + 1)
        if bad == 2 * patience or (loss != loss and bad > 0):
            if any(later > max(track.dice[: number + 1]) for later in track.dice[number + 1 :]):
                yield Alarm("stopped_before_best", step, "")
            yield Alarm("stopped", step, "")
            return


BASELINES: dict[str, Baseline] = {
    one.name: one
    for one in (
        Baseline(
            "autotrainer", "Zhang et al., AUTOTRAINER, ICSE 2021",
            "gradients of the first against the last layer, zero gradients of ReLUs", _autotrainer,
        ),
        Baseline(
            "umlaut", "Schoop, Huang and Hartmann, UMLAUT, CHI 2021",
            "range and shape of the input, missing activations, dropout", _umlaut,
        ),
        Baseline(
            "sagemaker", "Amazon SageMaker Debugger, list of built-in rules, defaults",
            "activations (DeadRelu, SaturatedActivation, PoorWeightInitialization), updates by layer", _sagemaker,
        ),
        Baseline(
            "deeplocalize", "Wardat, Le and Rajan, DeepLocalize, ICSE 2021",
            "values inside of layers", _deeplocalize,
        ),
        Baseline(
            "early_stopping", "ReduceLROnPlateau (PyTorch defaults) with early stopping",
            "nothing; any stop is an alarm", _early_stopping,
        ),
    )
}  # fmt: skip
