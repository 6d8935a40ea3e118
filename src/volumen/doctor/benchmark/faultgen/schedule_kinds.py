"""Faults of size and schedule: what is drawn, how it is varied, which network, how long, how fast."""

from typing import Any

import numpy as np

from volumen.doctor.benchmark.faultgen.bundle import Bundle
from volumen.doctor.benchmark.faultgen.kind import Kind, between, optimised, rising, valued, whole
from volumen.doctor.benchmark.setups import Values

Random = np.random.Generator
_LIFE, _RATE = ("P6",), ("P10", "P6", "P8")
_DRAWN, _NETWORK = ("P7", "P6", "P8"), ("P8", "P6", "P10")


def _epochs(bundle: Bundle) -> int:
    return int(bundle.values.get("training.epochs", bundle.values["training"]["epochs"]))


def _warm_up(u: float, bundle: Bundle, random: Random) -> Values:
    kind = str(random.choice(("polynomial", "constant")))
    return {"schedule": {"kind": kind, "warmup_epochs": max(1, round(between(0.5, 1.2, u) * _epochs(bundle)))}}


def _least_rate(u: float, bundle: Bundle, random: Random) -> Values:
    least = float(bundle.values["optimiser"]["learning_rate"]) * rising(1.5, 100, u)
    return {"schedule": {"kind": "cosine_warm_restarts", "period_epochs": 4, "minimum_rate": least}}


def _never(u: float, bundle: Bundle, random: Random) -> Values:
    return {"training.validate_every_epochs": _epochs(bundle) + whole(1, 200, u)}


def _averaged_late(u: float, bundle: Bundle, random: Random) -> Values:
    """Equal averages that begin in the last epoch or never."""
    return {"training.swa": {"start_epoch": _epochs(bundle) + whole(-1, 20, u)}}


def _patch(u: float, bundle: Bundle, random: Random) -> Values:
    side = 8
    return {"data.patch": (side, side, side), "data.sampling.jitter_voxels": whole(0, 8, u)}


def _large_patch(u: float, bundle: Bundle, random: Random) -> Values:
    side = 8 * -(-round(between(1.3, 3, u) * max(bundle.sides)) // 8)
    return {"data.patch": (side, side, side)}


def _tiles(u: float, bundle: Bundle, random: Random) -> Values:
    """Tiles of a few voxels, or of another shape than the patches."""
    return {"inference": {"tile": ((8, 8, 8), (16, 8, 8), (8, 16, 16))[int(random.integers(3))], "overlap": 0.0}}


_STILL: Values = {f"{kind}_probability": 0.0 for kind in ("affine", "intensity", "gamma", "noise", "blur")}


def _destroyed(u: float, bundle: Bundle, random: Random) -> Values:
    """An augmentation of which no image is left."""
    deviation, sigma, shrink = rising(2, 50, u), between(3, 14, u), rising(0.3, 0.02, u)
    ways: tuple[dict[str, Any], ...] = (
        {"noise_probability": 1.0, "noise_std": (deviation / 2, deviation)},
        {"blur_probability": 1.0, "blur_sigma_voxels": (sigma / 2, sigma)},
        {"intensity_probability": 1.0, "intensity_scale": (0.01, max(0.011, shrink)), "intensity_shift": 5 * u + 1},
        {"gamma_probability": 1.0, "gamma": (0.01, max(0.011, shrink / 4))},
    )
    return {"data.augmentation": {**_STILL, **ways[int(random.integers(len(ways)))]}}


def _noise(u: float, bundle: Bundle, random: Random) -> Values:
    return {"training.weight_noise": {"start_epoch": 1, "every_epochs": 1, "std": rising(0.1, 10, u), "decay": 1.0}}


def _impatient(u: float, bundle: Bundle, random: Random) -> Values:
    return {"training.early_stopping": {"patience": 1, "minimum_delta": rising(0.1, 3, u)}}


def _bottom(u: float, bundle: Bundle, random: Random) -> Values:
    """A network whose coarsest level is one voxel of the patch."""
    return {
        "model": {"kind": "unet", "filters": whole(1, 4, 1 - u), "depth": 4},
        "data.patch": (16, 16, 16), "inference": {"tile": (16, 16, 16), "overlap": 0.0},
    }  # fmt: skip


def _few(u: float, bundle: Bundle, random: Random) -> Values:
    return {"training.epochs": whole(1, 3, 1 - u), "data.sampling.patches_per_epoch": whole(2, 8, 1 - u)}


def _scaled(low: float, high: float) -> Any:
    return optimised(lambda u, own: {"learning_rate": min(1000.0, own["learning_rate"] * rising(low, high, u))})


def _damped(u: float, bundle: Bundle, random: Random) -> Values:
    """A denominator that outweighs the gradients."""
    return {"optimiser": {"kind": "adamw", "learning_rate": 1e-3, "eps": rising(0.01, 1, u)}}


SCHEDULE_KINDS = (
    Kind("warm_up_is_the_run", "schedule", _LIFE, valued(_warm_up)),
    Kind(
        "average_too_long", "schedule", ("P6", "P9"),
        valued(lambda u, bundle, random: {"training.average": {"decay": 1 - rising(1e-2, 1e-5, u)}}),
    ),
    Kind("average_too_late", "schedule", _LIFE, valued(_averaged_late), harm="definition"),
    Kind("least_rate_above", "schedule", ("P6", "P10"), valued(_least_rate)),
    Kind("validation_never", "schedule", ("P6", "P9"), valued(_never), harm="definition"),
    Kind("stops_at_once", "schedule", ("P9", "P6"), valued(_impatient)),
    Kind("patch_without_sheet", "schedule", _DRAWN, valued(_patch)),
    Kind("patch_above_volume", "schedule", _DRAWN, valued(_large_patch), harm="definition"),
    Kind(
        "jitter_above_patch", "schedule", _DRAWN,
        valued(lambda u, bundle, random: {"data.sampling.jitter_voxels": whole(32, 256, u)}),
    ),
    Kind(
        "no_background", "schedule", _DRAWN,
        valued(lambda u, bundle, random: {"data.sampling": {"surface_share": 1.0, "jitter_voxels": 0}}),
    ),
    Kind("tiles_tiny", "schedule", ("P6", "P8", "P9"), valued(_tiles)),
    Kind("augmented_to_nothing", "schedule", ("P7", "P6", "P8"), valued(_destroyed)),
    Kind("weights_noisy", "schedule", ("P6", "P8"), valued(_noise)),
    Kind(
        "one_filter", "schedule", _NETWORK,
        valued(lambda u, bundle, random: {"model": {"kind": "unet", "filters": 1, "depth": whole(1, 2, 1 - u)}}),
    ),
    Kind("bottom_of_one_voxel", "schedule", _NETWORK, valued(_bottom)),
    Kind("few_steps", "schedule", ("P6", "P9", "P10", "P8"), valued(_few)),
    Kind("rate_high", "schedule", _RATE, _scaled(10, 3000)),
    Kind("rate_low", "schedule", _RATE, _scaled(1 / 100, 1e-5)),
    Kind(
        "clip_tight", "schedule", _RATE,
        valued(lambda u, bundle, random: {
            "training.gradient_clip": rising(1e-2, 1e-6, u),
            "optimiser": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        }),
    ),
    Kind("decay_strong", "schedule", _RATE, optimised(lambda u, own: {"weight_decay": rising(1, 100, u)})),
    Kind(
        "steps_damped", "schedule", _RATE,
        valued(_damped),
    ),
)  # fmt: skip
