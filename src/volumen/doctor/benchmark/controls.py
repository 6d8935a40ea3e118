"""Healthy runs of many kinds, on which an alarm is a false one."""

from dataclasses import dataclass, field
from typing import Any

from volumen.doctor.benchmark import acts
from volumen.doctor.benchmark.injections import Injection
from volumen.doctor.benchmark.setups import EPOCHS, SETUPS, STEPS_KEY, Half, Setup, Values
from volumen.doctor.benchmark.volumes import Look


@dataclass(frozen=True)
class Control:
    """A kind of healthy run."""

    kind: str
    injection: Injection = field(default_factory=Injection)
    look: Look | None = None
    """Data of its own; None takes the set-up's."""


def _sgd(rate: float, **more: Any) -> dict[str, Any]:
    return {"kind": "sgd", "learning_rate": rate, "momentum": 0.9, **more}


def _adamw(rate: float, **more: Any) -> dict[str, Any]:
    return {"kind": "adamw", "learning_rate": rate, **more}


def _terms(**terms: Any) -> Values:
    return {"loss.terms": terms}


_DICE: dict[str, Any] = {"soft_dice": {}, "cross_entropy": {}}
_CONFIGURED: dict[str, Values] = {
    "warm_restarts": {"schedule": {"kind": "cosine_warm_restarts", "period_epochs": 3, "period_factor": 1}},
    "warm_restarts_longer": {"schedule": {"kind": "cosine_warm_restarts", "period_epochs": 4, "period_factor": 2}},
    "one_cycle": {"schedule": {"kind": "one_cycle"}},
    "constant_rate": {"schedule": {"kind": "constant"}},
    "plateau_schedule": {"schedule": {"kind": "plateau", "patience": 2}},
    "warm_up": {"schedule": {"kind": "polynomial", "warmup_epochs": 3}},
    "batch_of_one": {"data.batch": 1},
    "batch_of_four": {"data.batch": 4},
    "rate_third": {"optimiser": _adamw(0.01 / 3)},
    "rate_triple": {"optimiser": _adamw(0.03)},
    "sgd": {"optimiser": _sgd(0.05)},
    "sgd_plain": {"optimiser": _sgd(0.1, momentum=0.0, nesterov=False)},
    "adamw": {"optimiser": _adamw(0.01)},
    "strong_decay": {"optimiser": _adamw(0.01, weight_decay=0.1)},
    "dice_only": _terms(soft_dice={}),
    "cross_entropy_only": _terms(cross_entropy={}),
    "focal_and_dice": _terms(soft_dice={}, focal={"gamma": 2.0}),
    "boundary": _terms(**_DICE, boundary={"weight": 0.5}),
    "medial_recall": _terms(**_DICE, medial_recall={"weight": 0.3}),
    "connectivity": _terms(**_DICE, connectivity={"weight": 0.3}),
    "curriculum": {
        "loss": {
            "terms": _DICE,
            "curriculum": ({"name": "dice", "start_epoch": EPOCHS // 2, "weights": {"soft_dice": 5.0}},),
        }
    },
    "curriculum_to_smaller": {
        "loss": {
            "terms": {"soft_dice": {"weight": 3.0}, "cross_entropy": {"weight": 3.0}},
            "curriculum": (
                {"name": "half", "start_epoch": EPOCHS // 2, "weights": {"soft_dice": 0.5, "cross_entropy": 0.5}},
            ),
        }
    },
    "fewer_filters": {"model": {"kind": "unet", "filters": 3, "depth": 2}},
    "more_filters": {"model": {"kind": "unet", "filters": 8, "depth": 2}},
    "shallow": {"model": {"kind": "unet", "filters": 4, "depth": 1}},
    "validated_rarely": {"training.validate_every_epochs": 3},
    "many_short_epochs": {"training.epochs": 2 * EPOCHS, STEPS_KEY: 9},
    "moving_average": {"training.average": {"decay": 0.95}},
    "stochastic_average": {"training.swa": {"start_epoch": EPOCHS // 2}},
    "long_training": {"training.epochs": EPOCHS * 3 // 2},
    "no_clipping": {"training.gradient_clip": None},
    "crops_validated": {"training.validation": {"kind": "crops", "per_volume": 4, "crop": (32, 32, 32)}},
    "augmented": {"data.augmentation": {}},
    "percentile_normalisation": {"data.normalisation": "percentile"},
    "planned_noise": {"training.weight_noise": {"start_epoch": 2, "every_epochs": 3, "std": 0.02}},
}
_LOOKS: dict[str, dict[Half, Look]] = {
    "much_surface": {"tune": Look("sheets", thickness=7, pitch=14), "report": Look("sheets", thickness=8, pitch=15)},
    "little_surface": {"tune": Look("shells", count=2), "report": Look("shells", count=3, thickness=2)},
    "hard": {"tune": Look("sheets", noise=1.6), "report": Look("balls", count=14, noise=1.2)},
    "empty_cases": {"tune": Look("balls", count=14, empty_cases=2), "report": Look("sheets", empty_cases=1)},
    "mostly_unlabelled": {"tune": Look("sheets", unlabelled=0.8), "report": Look("shells", unlabelled=0.7)},
    "all_labelled": {"tune": Look("balls", count=14, unlabelled=0.0), "report": Look("sheets", unlabelled=0.0)},
    "easy": {"tune": Look("sheets", noise=0.05), "report": Look("sheets", noise=0.05, thickness=5)},
}


def _of(half: Half) -> tuple[Control, ...]:
    return (
        *(Control(kind, Injection(values)) for kind, values in _CONFIGURED.items()),
        *(Control(kind, look=looks[half]) for kind, looks in _LOOKS.items()),
        Control("negative_loss", Injection(_terms(soft_dice={}), alter=acts.shifted(1.0))),
    )


CONTROLS: dict[Half, tuple[Control, ...]] = {"tune": _of("tune"), "report": _of("report")}


def setup_of(half: Half, number: int) -> Setup:
    """The set-up of a half's `number`-th control: they take turns, so that no kind sees the same one in both halves."""
    mine = [one for one in SETUPS.values() if one.half == half]
    return mine[number % len(mine)]
