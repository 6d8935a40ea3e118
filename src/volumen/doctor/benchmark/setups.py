"""The set-ups that runs are made in: data, network, optimiser, rate and length, each of one half.

The tuning half and the reporting half share no set-up, so no data, and no fault in the same strength.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from volumen.config.schema import Config
from volumen.doctor.benchmark.volumes import Look

Half = Literal["tune", "report"]
HALVES: tuple[Half, Half] = ("tune", "report")
EPOCHS, STEPS = 12, 18
STEPS_KEY = "steps_per_epoch"
Values = Mapping[str, Any]
"""Values of a configuration by dotted key; a mapping replaces what stood there."""


@dataclass(frozen=True)
class Setup:
    """What a healthy run is."""

    name: str
    half: Half
    look: Look
    values: Values = field(default_factory=dict)
    """What differs from `HEALTHY`."""


_ADAMW: Values = {"kind": "adamw", "learning_rate": 0.01}
_SGD: Values = {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9}
_DEEP: Values = {"model": {"kind": "unet", "filters": 4, "depth": 3}}
_DEEP_AND_WIDE: Values = {**_DEEP, "data.patch": (32, 32, 32)}

HEALTHY: Values = {
    "precision": "fp32",
    "device": "cpu",
    "data.patch": (24, 24, 24),
    "data.batch": 2,
    "data.workers": 0,
    "data.sampling": {"jitter_voxels": 8},
    "data.augmentation": {
        "affine_probability": 0.0, "rotations": "none", "blur_probability": 0.0, "noise_probability": 0.0,
    },
    "model": {"kind": "unet", "filters": 4, "depth": 2},
    "loss": {"terms": {"soft_dice": {}, "cross_entropy": {}}},
    "optimiser": _ADAMW,
    "training": {"epochs": EPOCHS, "average": None, "monitoring": {"probe_every_steps": STEPS}},
    "inference": {"overlap": 0.0},
    STEPS_KEY: STEPS,
}  # fmt: skip
"""`steps_per_epoch` stands for `data.sampling.patches_per_epoch` over the batch."""

SETUPS: dict[str, Setup] = {
    one.name: one
    for one in (
        Setup("sheets", "tune", Look("sheets")),
        Setup("balls", "tune", Look("balls", count=14), {"optimiser": _SGD}),
        Setup("scroll", "tune", Look("scroll", noise=0.2), _DEEP),
        Setup("shells", "report", Look("shells", count=12), {"model": {"kind": "unet", "filters": 6, "depth": 2}}),
        Setup("noisy", "report", Look("sheets", noise=0.8, pitch=16, thickness=4), {"optimiser": _SGD}),
        Setup("crops", "report", Look("crop", noise=0.1), _DEEP_AND_WIDE),
    )
}
"""`crops` are of a data set at hand; where there is none, they are an easier phantom scroll."""


def values_of(*layers: Values) -> dict[str, Any]:
    """Layers of dotted keys over the healthy ones; a later key replaces what it names and all below it."""
    found: dict[str, Any] = {}
    for key, value in ((key, value) for layer in (HEALTHY, *layers) for key, value in layer.items()):
        for known in [one for one in found if one.startswith(f"{key}.")]:
            del found[known]
        found[key] = value
    return found


def config_of(name: str, dataset: Path, seed: int, side: int, *layers: Values) -> Config:
    """A run's configuration.

    Args:
        name: Of the run.
        dataset: Prepared.
        seed: Of weights and patches.
        side: Of its volumes in voxels, which one tile predicts.
        layers: What differs from `HEALTHY`, later ones over earlier ones.
    """
    tree = tree_of(side, *layers)
    return Config.model_validate(
        {**tree, "name": name, "seed": seed, "data": {**tree["data"], "dataset": str(dataset)}}
    )


def tree_of(side: int, *layers: Values) -> dict[str, Any]:
    """What a configuration's file says, but for name, seed and data set; the arguments are those of `config_of`."""
    values = values_of(*layers)
    steps = values.pop(STEPS_KEY)
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = _plain(value)
    tree["data"].setdefault("sampling", {}).setdefault("patches_per_epoch", steps * tree["data"]["batch"])
    tree["inference"].setdefault("tile", (side, side, side))
    return tree


def _plain(value: Any) -> Any:
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, Mapping) else value
