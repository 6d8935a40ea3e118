"""The records of a run as plain columns, one value an epoch, for rules that look at curves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volumen.runs.records import read_run_logs

Column = tuple[float, ...]
_BROKEN = ("non_finite", "failed")


@dataclass(frozen=True)
class Track:
    """What a run wrote down, as curves; NaN where an epoch lacks a value."""

    steps: tuple[int, ...]
    """Optimiser steps at the end of each epoch."""
    loss: Column
    gradient: Column
    """Mean norm."""
    steepest: Column
    """Largest norm."""
    rate: Column
    true_share: Column
    predicted_share: Column
    validated: tuple[int, ...]
    """Steps of the validations."""
    validation_loss: Column
    accuracy: Column
    """Of voxels, on held-out volumes."""
    dice: Column
    training_at_validation: Column
    """Training loss of the epochs that were validated."""
    broken: int | None
    """Step at which a loss or gradient was not finite."""


def read_track(run: Path) -> Track:
    """The curves of a run's folder.

    Raises:
        UserError: No run there.
    """
    logs = read_run_logs(run)
    train = [one for one in logs.metrics if one.get("kind") == "train"]
    seen = [one for one in logs.metrics if one.get("kind") == "validation"]
    loss_at = {int(one["step"]): _number(one, "total") for one in train}
    broken = [int(one["step"]) for one in logs.events if one.get("kind") in _BROKEN]
    columns = ("total", "gradient_norm", "gradient_norm_maximum", "learning_rate", "true_share", "predicted_share")
    loss, gradient, steepest, rate, true, predicted = (tuple(_number(one, key) for one in train) for key in columns)
    validated = tuple(int(one["step"]) for one in seen)
    metrics = [one.get("metrics", {}) for one in seen]
    return Track(
        steps=tuple(loss_at),
        loss=loss,
        gradient=gradient,
        steepest=steepest,
        rate=rate,
        true_share=true,
        predicted_share=predicted,
        validated=validated,
        validation_loss=tuple(_number(one, "total") for one in seen),
        accuracy=tuple(_number(one, "accuracy") for one in metrics),
        dice=tuple(_number(one, "dice") for one in metrics),
        training_at_validation=tuple(loss_at.get(step, math.nan) for step in validated),
        broken=min(broken, default=None),
    )


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else math.nan
