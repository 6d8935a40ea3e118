"""What two configurations differ in: a run's difference from its parent is the first thing to read about it.

Keys belong to factors, as an experiment has them: learning rate, objective, schedule. Where a run differs from its
parent in more than one, nobody knows afterwards which of them did it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from volumen.config.describe import value_text
from volumen.config.dump import canonical, flat_values
from volumen.config.load import LoadedConfig, parent_of
from volumen.config.schema import Config
from volumen.system.output import counted

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

    def in_words(self) -> str:
        """Such as `data.batch 2 -> 8`."""
        left, right = ("(absent)" if side is ABSENT else value_text(side) for side in (self.left, self.right))
        return f"{self.key} {left} -> {right}"

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


FACTORS: dict[str, str] = {
    "loss": "objective",
    "model": "network",
    "schedule": "schedule",
    "optimiser.learning_rate": "learning rate",
    "optimiser": "optimiser",
    "data.batch": "batch size",
    "data.patch": "patch",
    "data.normalisation": "normalisation",
    "data.sampling": "sampling",
    "data.augmentation": "augmentation",
}
"""Factors of an experiment by the keys or sections that they are; everything else is named by its first two words."""

NO_FACTORS = (
    "name", "experiment", "data.dataset", "data.folds", "data.workers", "data.on_device", "device",
    "training.compile", "training.cuda_graph", "training.keep_going", "training.monitoring",
)  # fmt: skip
"""Keys or sections by which no step of a run becomes another one: names, places, and who looks on."""


def factor_of(key: str) -> str:
    """The factor of an experiment that a dotted key belongs to."""
    known = next((factor for section, factor in FACTORS.items() if _within(key, section)), None)
    return known or ".".join(key.split(".")[:2])


def factors_of(differences: Iterable[Difference]) -> dict[str, list[Difference]]:
    """The factors that differ, each with its keys; names and places are none."""
    found: dict[str, list[Difference]] = {}
    for each in differences:
        if not any(_within(each.key, section) for section in NO_FACTORS):
            found.setdefault(factor_of(each.key), []).append(each)
    return found


def confounded(factors: Iterable[str]) -> str:
    """What is to be said of a difference in several factors; empty where there is one or none."""
    names = list(factors)
    if len(names) < 2:
        return ""
    differ = f"{counted(len(names), 'factor')} differ ({', '.join(names)})"
    return f"{differ}: what comes of it cannot be credited to one of them"


@dataclass(frozen=True)
class Descent:
    """What a run changes in the configuration that it comes from."""

    parent: str
    """File or preset."""
    factors: Mapping[str, tuple[str, ...]]
    """What differs, in words, by factor; never empty."""

    def lines(self) -> tuple[str, ...]:
        """The difference, and what is to be said of more than one factor."""
        said = "; ".join(f"{factor} ({_few(changes)})" for factor, changes in self.factors.items())
        return tuple(filter(None, (f"differs from {self.parent} in {said}", confounded(self.factors))))

    def event(self) -> dict[str, Any]:
        """As a run records it."""
        factors = {factor: list(changes) for factor, changes in self.factors.items()}
        return {"kind": PARENT, "parent": self.parent, "factors": factors}

    @staticmethod
    def of_event(event: Mapping[str, Any]) -> "Descent | None":
        """What a run has recorded; None where that is no descent."""
        parent, factors = event.get("parent"), event.get("factors")
        if not isinstance(parent, str) or not isinstance(factors, dict) or not factors:
            return None
        return Descent(parent, {name: tuple(map(str, changes)) for name, changes in factors.items()
                                if isinstance(changes, list)})  # fmt: skip


PARENT = "parent"
_MOST_CHANGES = 4


def _few(changes: tuple[str, ...]) -> str:
    more = len(changes) - _MOST_CHANGES
    return ", ".join((*changes[:_MOST_CHANGES], *([f"{more} more"] if more > 0 else [])))


def descent_of(loaded: LoadedConfig[Config]) -> Descent | None:
    """What a configuration changes in its parent: what its file is based on, or the file without overrides.

    None where nothing differs but names and places, or where the parent is no whole configuration by itself.
    """
    parent = parent_of(loaded)
    if parent is None:
        return None
    factors = factors_of(diff_configs(parent.config, loaded.config))
    named = {factor: tuple(each.in_words() for each in changes) for factor, changes in factors.items()}
    return Descent(" + ".join(parent.sources), named) if factors else None


MAY_CHANGE: dict[str, str] = {
    "name": "a name",
    "experiment": "what the run is for",
    "data.dataset": "a place: the data in it are the run's own, or it is refused",
    "data.folds": "a place: the cases are the run's own, or it is refused",
    "data.workers": "changes no sample",
    "data.on_device": "another machine: patches lie and turn alike, the noise on them has other numbers",
    "training.epochs": "a longer or a shorter run: the schedule is planned anew",
    "training.early_stopping": "how long to wait",
    "training.keep_going": "whether a fault that is seen ends the run",
    "training.compile": "how the same steps are computed",
    "training.cuda_graph": "how the same steps are computed",
    "training.monitoring": "looks, and changes nothing",
    "device": "another machine",
    "precision": "another machine",
    "inference.engine": "computes predictions, and no validation of a training",
    "inference.batch": "how many tiles at a time, by the memory of the machine",
}
"""What may change where a run is gone on with, keys or sections, and why; everything else makes another run of it."""

MAY_SHRINK = ("data.batch", "data.patch")
"""What besides may change where the run has run out of memory."""


def may_change(key: str, *, ran_out: bool = False) -> bool:
    """Whether a run may be gone on with under another value of this key; `ran_out`: its memory did."""
    return any(_within(key, allowed) for allowed in MAY_CHANGE) or (ran_out and key in MAY_SHRINK)


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _flat(config: LoadedConfig[Any] | BaseModel) -> tuple[dict[str, Any], dict[str, str]]:
    if isinstance(config, LoadedConfig):
        return flat_values(config.config), dict(config.origins)
    return flat_values(config), {}
