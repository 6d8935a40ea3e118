"""What a search over post-processing may choose: every step is optional, each number has a range.

The ranges hold what the best solutions of the surface challenge report (hysteresis 0.25-0.35 / 0.80-0.90, components
below 5k to 20k voxels, closing z 2-3 and xy 1-2) and go beyond it on both sides.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from volumen.config.postprocessing import Postprocessing

Values = dict[str, Any]


class Trial(Protocol):
    """What Optuna's trial has; anything that chooses will do."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """A number from a range."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number from a range."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


def suggest(trial: Trial) -> Postprocessing:
    """One pipeline of the space."""
    steps: list[Values] = []
    weight = trial.suggest_categorical("ridges", (0.0, 0.3, 0.6))
    if weight:
        steps.append({"kind": "sharpen_ridges", "weight": weight})
    steps.append(_decision(trial))
    if trial.suggest_categorical("split", (False, True)):
        steps.append({"kind": "split_fused"})
    least = trial.suggest_int("component", 50, 20000, log=True)
    steps.append({"kind": "remove_small_components", "minimum_voxels": least})
    along, across = trial.suggest_int("close_z", 0, 3), trial.suggest_int("close_xy", 0, 2)
    if along or across:
        steps.append({"kind": "close", "radius_voxels": (along, across, across)})
    if trial.suggest_categorical("median", (False, True)):
        steps.append({"kind": "median"})
    if trial.suggest_categorical("pinholes", (False, True)):
        steps.append({"kind": "plug_pinholes"})
    hole = trial.suggest_categorical("patch", (0, 50, 200))
    if hole:
        steps.append({"kind": "patch_sheets", "maximum_hole_voxels": hole})
    if trial.suggest_categorical("cavities", (False, True)):
        steps.append({"kind": "fill_cavities"})
    return Postprocessing.model_validate({"steps": tuple(steps)})


def _decision(trial: Trial) -> Values:
    if trial.suggest_categorical("decision", ("threshold", "hysteresis")) == "threshold":
        return {"kind": "threshold", "level": round(trial.suggest_float("level", 0.2, 0.8, step=0.02), 2)}
    low = trial.suggest_float("low", 0.15, 0.6, step=0.05)
    above = trial.suggest_float("above", 0.1, 0.35, step=0.05)
    return {"kind": "hysteresis", "low": round(low, 2), "high": round(low + above, 2)}


START: tuple[Mapping[str, Any], ...] = (
    {"decision": "threshold", "level": 0.5, "component": 50},
    {"decision": "threshold", "level": 0.5, "component": 2000},
    {"decision": "threshold", "level": 0.4, "component": 2000, "cavities": True, "pinholes": True},
    {
        "decision": "hysteresis",
        "low": 0.35,
        "above": 0.35,
        "component": 5000,
        "close_z": 2,
        "close_xy": 1,
        "pinholes": True,
        "cavities": True,
    },
)
"""Points at which a search begins: near the raw threshold, and near what is known to work."""
NEUTRAL: Mapping[str, Any] = {
    "ridges": 0.0,
    "split": False,
    "close_z": 0,
    "close_xy": 0,
    "median": False,
    "pinholes": False,
    "patch": 0,
    "cavities": False,
}


def starting_points() -> tuple[Values, ...]:
    """The points of `START`, whole."""
    return tuple({**NEUTRAL, **point} for point in START)
