"""What two configurations differ in: a run's difference from its parent is the first thing to read about it."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from volumen.config.dump import canonical, flat_values
from volumen.config.load import LoadedConfig


class _Absent:
    """Stands for a key that one of the two configurations does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT: Final = _Absent()


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
        sides = {"left": self.left, "right": self.right}
        present = {side: value for side, value in sides.items() if value is not ABSENT}
        return {"key": self.key, **present, "left_origin": self.left_origin, "right_origin": self.right_origin}


def diff_configs(left: LoadedConfig[Any] | BaseModel, right: LoadedConfig[Any] | BaseModel) -> list[Difference]:
    """Every key whose value differs, in the schema's order; empty exactly when the values are the same."""
    left_values, right_values = _values(left), _values(right)
    keys = list(dict.fromkeys((*left_values, *right_values)))
    return [
        Difference(
            key,
            left_values.get(key, ABSENT),
            right_values.get(key, ABSENT),
            _origin(left, key),
            _origin(right, key),
        )
        for key in keys
        if key not in left_values
        or key not in right_values
        or canonical(left_values[key]) != canonical(right_values[key])
    ]


MAY_CHANGE: dict[str, str] = {
    "name": "a name",
    "experiment": "what the run is for",
    "data.dataset": "a place: the data in it are the run's own, or it is refused",
    "data.folds": "a place: the cases are the run's own, or it is refused",
    "data.workers": "changes no sample",
    "training.epochs": "a longer or a shorter run: the schedule is planned anew",
    "training.early_stopping": "how long to wait",
    "device": "another machine",
    "precision": "another machine",
    "inference.engine": "computes predictions, and no validation of a training",
}
"""What may change where a run is gone on with, keys or sections, and why; everything else makes another run of it."""


def may_change(key: str) -> bool:
    """Whether a run may be gone on with under another value of this key."""
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_CHANGE)


def _values(config: LoadedConfig[Any] | BaseModel) -> dict[str, Any]:
    model = config.config if isinstance(config, LoadedConfig) else config
    return flat_values(model)


def _origin(config: LoadedConfig[Any] | BaseModel, key: str) -> str | None:
    return config.origins.get(key) if isinstance(config, LoadedConfig) else None
