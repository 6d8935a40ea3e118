"""Healthy set-ups of many kinds, and changes that take nothing from one: a warning here is a false alarm."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.benchmark.faultgen.bundle import Act, Bundle, Scene, bundle_of
from volumen.doctor.benchmark.faultgen.data_kinds import zoomed
from volumen.doctor.benchmark.faultgen.kind import alike, pictured, relabelled, valued
from volumen.doctor.benchmark.setups import Half, Values
from volumen.doctor.benchmark.volumes import Look, Volume

Random = np.random.Generator
_LOOKS = ("scroll", "crop", "sheets", "shells", "balls")
_OBJECTIVES: tuple[dict[str, Any], ...] = (
    {"soft_dice": {}, "cross_entropy": {}},
    {"soft_dice": {}},
    {"soft_dice": {}, "focal": {"gamma": 2.0}},
    {"soft_dice": {}, "cross_entropy": {}, "cldice": {"weight": 0.3}},
    {"soft_dice": {}, "cross_entropy": {}, "medial_recall": {"weight": 0.3}},
    {"soft_dice": {}, "cross_entropy": {"weight": 0.5}, "connectivity": {"weight": 0.2}},
    {"cross_entropy": {}},
)
_SCHEDULES: tuple[dict[str, Any], ...] = (
    {"kind": "polynomial"},
    {"kind": "polynomial", "warmup_epochs": 2},
    {"kind": "one_cycle"},
    {"kind": "constant"},
    {"kind": "cosine_warm_restarts", "period_epochs": 4},
    {"kind": "plateau", "patience": 3},
)
_CRITERIA: tuple[tuple[str, ...], ...] = (
    (), ("val.dice > 0.5",), ("val.loss improves by 0.01 over 10 epochs",), ("surface_share within 1%..40%",),
)  # fmt: skip
_STEPS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"kind": "threshold", "level": 0.5},),
    ({"kind": "threshold", "level": 0.45}, {"kind": "remove_small_components", "minimum_voxels": 60}),
    ({"kind": "hysteresis", "low": 0.3, "high": 0.7},),
    ({"kind": "threshold"}, {"kind": "fill_holes", "maximum_voxels": 50}),
    ({"kind": "threshold", "level": 0.6}, {"kind": "median"}),
)


def healthy_bundle(half: Half, seed: int, source: Path | None, random: Random) -> Bundle:
    """A set-up that a sensible person could have."""
    shape = str(random.choice(_LOOKS))
    side = int(random.choice((32, 40, 48, 48, 64) if shape != "crop" else (48, 64, 80)))
    noise = float(random.uniform(0.1, 0.9 if shape != "scroll" else 0.8))
    look = Look(
        shape, side=side, noise=noise, unlabelled=float(random.choice((0.0, 0.3, 0.45, 0.6))),
        thickness=float(random.uniform(2.5, 5)), pitch=float(random.uniform(12, 18)), count=max(4, side**3 // 9000),
        scrolls=int(random.integers(1, 4)), plain=0.0,
    )  # fmt: skip
    training = int(random.choice((2, 3, 4, 6)))
    scene = Scene(f"healthy {shape}", half, look, look, training, 1 + training // 3)
    bundle = bundle_of(scene, seed, source, _values(random, side))
    for act in _CLOTHES:
        if random.random() < _OFTEN:
            bundle = act(bundle, 0.0, range(len(bundle.volumes)), random)
            if act is _all_flat:  # a median deletes sheets that are left 1.5 voxels thick
                bundle = bundle.having({"postprocessing": {"steps": _STEPS[0]}})
    held_out = np.concatenate([one.label.ravel() for one in bundle.volumes[bundle.training :]])
    if float((held_out == SURFACE).mean()) > _MUCH * float((held_out != IGNORE).mean()):
        bundle = bundle.having({"experiment.criteria": ()})  # surface everywhere meets one of Dice, and it is said
    return bundle


_OFTEN, _MUCH = 0.2, 0.28


def _values(random: Random, side: int) -> Values:
    def one_of(choices: Sequence[Any]) -> Any:
        return choices[int(random.integers(len(choices)))]

    adamw = bool(random.random() < 0.5)
    rate = float(f"{10 ** random.uniform(-3.2, -2.2) if adamw else 10 ** random.uniform(-2, -1.2):.2g}")
    optimiser = {"kind": "adamw", "learning_rate": rate} if adamw else {
        "kind": "sgd", "learning_rate": rate, "momentum": one_of((0.9, 0.95)),
    }  # fmt: skip
    patch = int(one_of([one for one in (16, 24, 32, 48) if one <= side]))
    values: dict[str, Any] = {
        "data.patch": (patch,) * 3,
        "data.batch": one_of((1, 2, 4)),
        "data.sampling": {"jitter_voxels": patch // 3, "surface_share": one_of((0.5, 0.67, 0.8)),
                          "patches_per_epoch": one_of((200, 400))},
        "model": {"kind": "unet", "filters": one_of((4, 8, 16)), "depth": one_of((2, 3) if patch > 16 else (2,))},
        "loss": {"terms": one_of(_OBJECTIVES)},
        "optimiser": optimiser,
        "schedule": one_of(_SCHEDULES),
        "training": {"epochs": one_of((12, 30, 80, 200)), "average": one_of((None, {"decay": 0.99}))},
        "postprocessing": {"steps": one_of(_STEPS)},
        "experiment.criteria": one_of(_CRITERIA),
        "inference": {"tile": (patch, patch, patch), "overlap": one_of((0.25, 0.5))},
    }  # fmt: skip
    if random.random() < 0.5:
        values["data.augmentation"] = {}
    return values


def _sixteen_bit(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """All grey values on the scale of 16 bits."""
    changed = {place: replace(one, image=one.image.astype(np.uint16) * 257) for place, one in enumerate(bundle.volumes)}
    return bundle.showing(changed)


def _masked(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Outside of a cylinder about z there is no scan."""
    radius = float(random.uniform(0.42, 0.5))

    def masked(volume: Volume) -> Volume:
        _, y, x = np.indices(volume.label.shape)
        _, height, width = volume.label.shape
        out = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5) > radius
        image: Any = np.where(out, 0, np.maximum(volume.image, 1)).astype(volume.image.dtype)
        return relabelled(replace(volume, image=image), np.where(out, IGNORE, volume.label))

    return bundle.showing({place: masked(one) for place, one in enumerate(bundle.volumes)})


def _imperfect(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Labels as people make them: a twentieth of the surface is missed, in spots."""

    def missed(volume: Volume) -> Volume:
        blocks = tuple(-(-side // 8) for side in volume.label.shape)
        z, y, x = volume.label.shape
        gone = np.kron(random.random(blocks) < 0.06, np.ones((8, 8, 8), dtype=bool))[:z, :y, :x]
        return relabelled(volume, np.where(gone & (volume.label == SURFACE), 0, volume.label))

    return bundle.showing({place: missed(one) for place, one in enumerate(bundle.volumes)})


def _all_flat(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """All volumes alike have slices further apart."""
    if min(bundle.sides) < 48:
        return bundle
    return bundle.showing({place: zoomed(one, (0.7, 1.0, 1.0)) for place, one in enumerate(bundle.volumes)})


def _other_exposures(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Each volume a little brighter or darker than the next."""
    changed = {
        place: pictured(one, one.image * random.uniform(0.85, 1.1) + random.uniform(-8, 8))
        for place, one in enumerate(bundle.volumes)
        if one.image.dtype == np.uint8
    }
    return bundle.showing(changed)


_CLOTHES: tuple[Act, ...] = (_imperfect, _all_flat, _other_exposures, _masked, _sixteen_bit)


def _whole(turn: Callable[[Any], Any]) -> Act:
    """Image and label together."""
    return alike(
        lambda u, random: (
            lambda one: relabelled(replace(one, image=np.ascontiguousarray(turn(one.image))), turn(one.label))
        )
    )


NEUTRAL: dict[str, Act] = {
    "mirrored_together": _whole(lambda array: np.flip(array, 2)),
    "turned_together": _whole(lambda array: np.rot90(array, 1, (1, 2))),
    "stretched_grey": alike(lambda u, random: lambda one: pictured(one, 0.8 * one.image + 20)),
    "other_exposures": _other_exposures,
    "labels_of_people": _imperfect,
    "sixteen_bit": _sixteen_bit,
    "masked": _masked,
    "other_schedule": valued(lambda u, bundle, random: {"schedule": _SCHEDULES[int(random.integers(len(_SCHEDULES)))]}),
    "sensible_criterion": valued(lambda u, bundle, random: {"experiment.criteria": ("val.dice > 0.45",)}),
    "sensible_steps": valued(
        lambda u, bundle, random: {"postprocessing": {"steps": _STEPS[int(random.integers(len(_STEPS)))]}}
    ),
}
"""Changes of a healthy scene that leave it healthy."""
