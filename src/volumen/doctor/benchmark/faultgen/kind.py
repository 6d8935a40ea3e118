"""What a kind of fault is, and the small tools of which kinds are made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from volumen.doctor.benchmark.faultgen.bundle import Act, Bundle, Scene
from volumen.doctor.benchmark.setups import Values
from volumen.doctor.benchmark.volumes import Volume

Part = Literal["data", "objective", "code", "schedule"]
Subset = Literal["one", "some", "all"]
Harm = Literal["training", "labels", "definition"]
"""How harm is shown: `training` by short trainings against the healthy twin; `labels` by what the post-processing
leaves of the true labels; `definition` where no score can show it: a criterion that cannot be met, a validation that is
never made or repeats what was learned from, a program that is wrong."""
ALL: tuple[Subset, ...] = ("all",)
ANY: tuple[Subset, ...] = ("one", "some", "all")
SOME: tuple[Subset, ...] = ("one", "some")


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    part: Part
    codes: tuple[str, ...]
    """Checks of which one is right as the first one; fixed before any audit saw a draw."""
    act: Act
    subsets: tuple[Subset, ...] = ALL
    harm: Harm = "training"
    fits: Callable[[Scene], bool] = lambda scene: True
    """Scenes on which it can be made."""


Change = Callable[[Volume, float, np.random.Generator], Volume]


def each(change: Change) -> Act:
    """Change every volume that is meant by itself."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
        return bundle.showing({place: change(bundle.volumes[place], u, random) for place in chosen})

    return act


def alike(make: Callable[[float, np.random.Generator], Callable[[Volume], Volume]]) -> Act:
    """Change every volume that is meant in the same way."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
        change = make(u, random)
        return bundle.showing({place: change(bundle.volumes[place]) for place in chosen})

    return act


def valued(make: Callable[[float, Bundle, np.random.Generator], Values]) -> Act:
    """Other values of the configuration."""
    return lambda bundle, u, chosen, random: bundle.having(make(u, bundle, random))


def optimised(make: Callable[[float, dict[str, Any]], dict[str, Any]]) -> Act:
    """The optimiser with some settings changed."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: np.random.Generator) -> Bundle:
        own = dict(bundle.values["optimiser"])
        return bundle.having({"optimiser": {**own, **make(u, own)}})

    return act


def between(low: float, high: float, u: float) -> float:
    """A value by severity, evenly."""
    return low + (high - low) * u


def rising(low: float, high: float, u: float) -> float:
    """A value by severity, evenly on a logarithmic scale, to three digits."""
    return float(f"{low * (high / low) ** u:.3g}")


def whole(low: int, high: int, u: float) -> int:
    """A whole number by severity, both ends included."""
    return min(high, low + int((high - low + 1) * u))


def relabelled(volume: Volume, label: Any) -> Volume:
    """A volume with another label."""
    return replace(volume, label=np.ascontiguousarray(label, dtype=np.uint8))


def pictured(volume: Volume, image: Any, least: float = 0, most: float = 255) -> Volume:
    """A volume with another image, in the range and type that it had."""
    return replace(volume, image=np.clip(np.rint(image), least, most).astype(volume.image.dtype))
