"""What two configurations differ in: a run's difference from its parent is the first thing to read about it."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from volumen.config.dump import canonical, flat_values
from volumen.config.load import LoadedConfig

ABSENT: Final = object()
"""Stands for the value of a key that one of the two configurations does not have."""


@dataclass(frozen=True)
class Difference:
    """One dotted key on which two configurations differ."""

    key: str
    left: Any
    """The value, or `ABSENT`."""
    right: Any
    left_origin: str | None
    """Where the value came from; None where it is absent or the configuration was not loaded from a file."""
    right_origin: str | None

    def as_dictionary(self) -> dict[str, Any]:
        """For JSON: a side that lacks the key is left out."""
        return {name: value for name, value in vars(self).items() if value is not ABSENT}


def diff_configs(left: LoadedConfig[Any] | BaseModel, right: LoadedConfig[Any] | BaseModel) -> list[Difference]:
    """Every key whose value differs, in the schema's order; empty exactly when the values are the same."""
    (left_values, left_origins), (right_values, right_origins) = _flat(left), _flat(right)
    differences = []
    for key in dict.fromkeys((*left_values, *right_values)):
        one, other = left_values.get(key, ABSENT), right_values.get(key, ABSENT)
        if one is ABSENT or other is ABSENT or canonical(one) != canonical(other):
            differences.append(Difference(key, one, other, left_origins.get(key), right_origins.get(key)))
    return differences


MAY_CHANGE: dict[str, str] = {
    "name": "a name",
    "experiment": "what the run is for",
    "data.dataset": "a place: the data in it are the run's own, or it is refused",
    "data.folds": "a place: the cases are the run's own, or it is refused",
    "data.workers": "changes no sample",
    "training.epochs": "a longer or a shorter run: the schedule is planned anew",
    "training.early_stopping": "how long to wait",
    "training.keep_going": "whether a fault that is seen ends the run",
    "training.monitoring": "looks, and changes nothing",
    "device": "another machine",
    "precision": "another machine",
    "inference.engine": "computes predictions, and no validation of a training",
}
"""What may change where a run is gone on with, keys or sections, and why; everything else makes another run of it."""


def may_change(key: str) -> bool:
    """Whether a run may be gone on with under another value of this key."""
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_CHANGE)


def _flat(config: LoadedConfig[Any] | BaseModel) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(config, LoadedConfig):
        return flat_values(config.config), dict(config.origins)
    return flat_values(config), {}
