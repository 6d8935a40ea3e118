"""runmedic (MIT licence) as an examiner, where it is installed: `pip install runmedic`, written against 0.1.1.

It reads the loss of every step, the validation loss, the learning rate and the gradient norm. What it calls critical or
a warning is an alarm.
"""

import importlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from volumen.doctor.benchmark.examining import Alarm, Verdict, verdict_of
from volumen.doctor.benchmark.tracks import read_track
from volumen.monitors.history import read_history
from volumen.monitors.seen import StepsSeen

SPOKEN = ("critical", "warning")
CAUSES = {
    "non_finite": "non_finite",
    "divergence": "rate_too_high",
    "loss_spikes": "rate_too_high",
    "grad_spikes": "rate_too_high",
    "no_learning": "constant_predictor",
    "overfitting": "overfitting",
    "val_below_train": "leak",
    "constant_lr_plateau": "schedule_exhausted",
}
"""What its checks name, in the words of the faults' table."""


def has_runmedic() -> bool:
    """Whether it is installed."""
    return importlib.util.find_spec("runmedic") is not None


def examine_with_runmedic(run: Path) -> Verdict:
    """What it says of a run's records."""
    model, roles, checks = (importlib.import_module(f"runmedic.{part}") for part in ("model", "roles", "checks"))
    seen = model.Run(name=run.name, source="volumen", path=str(run))
    for name, points in _series(run).items():
        for step, value in points:
            seen.get(name).add(step, value)
    seen.finalize()
    found = [one for one in checks.run_checks(seen, roles.detect(seen)) if one.severity in SPOKEN]
    last = max((step for points in _series(run).values() for step, _ in points), default=0)
    return verdict_of(
        [Alarm(one.check, int(last if one.step is None else one.step), _cause(one.check)) for one in found]
    )


def _cause(check: str) -> str:
    return CAUSES.get(check, "")


def _series(run: Path) -> dict[str, Sequence[tuple[int, float]]]:
    """Its inputs by the names that it knows."""
    track = read_track(run)
    steps = [one for one in read_history(run).records if isinstance(one, StepsSeen)]
    losses = [(one.step - len(one.totals) + n + 1, value) for one in steps for n, value in enumerate(one.totals)]
    norms = [
        (one.step - len(one.gradient_norms) + n + 1, value)
        for one in steps
        for n, value in enumerate(one.gradient_norms)
    ]
    if track.broken is not None:
        losses.append((track.broken, math.nan))
    return {
        "train_loss": losses,
        "grad_norm": norms,
        "val_loss": list(zip(track.validated, track.validation_loss, strict=True)),
        "learning_rate": list(zip(track.steps, track.rate, strict=True)),
    }
