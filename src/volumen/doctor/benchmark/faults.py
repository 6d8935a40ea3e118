"""The faults: what each does, in which strengths, from when on, and which causes name it rightly.

The table of causes was fixed before any examiner saw a run. A kind that has a sibling belongs to one half with all it
has, its sibling to the other. A kind without one is in both, with the odd strengths in the tuning half and the even
ones in the reporting half, on set-ups that are that half's alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from volumen.doctor.benchmark import acts
from volumen.doctor.benchmark.corruptions import CORRUPTIONS
from volumen.doctor.benchmark.injections import Injection
from volumen.doctor.benchmark.setups import EPOCHS, HALVES, Half, Values

START, THIRD, LATE = 0.0, 1 / 3, 2 / 3
ALWAYS, ANY_TIME, MIDWAY = (START,), (START, THIRD, LATE), (THIRD, LATE)
SGD: Values = {"optimiser": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9}}
Make = Callable[[float, bool], Injection]
"""From a strength, and whether it comes in later than the start, to the injection."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    kind: str
    family: Literal["data", "loss", "optimisation", "protocol"]
    causes: tuple[str, ...]
    """Names of causes, each of which is right."""
    strengths: tuple[float, ...]
    onsets: tuple[float, ...]
    half: Half | Literal["both"]
    make: Make
    deceives: bool = False
    """Whether it spoils the numbers that one trusts and not the true score, so that neither test of harm tells it."""

    def half_of(self, strength: float) -> Half:
        """The half that a strength belongs to."""
        return self.half if self.half != "both" else HALVES[self.strengths.index(strength) % 2]


def _values(make: Callable[[float], Values]) -> Make:
    return lambda strength, late: Injection(make(strength))


def _once(make: Callable[[float], Any], **values: Any) -> Make:
    return lambda strength, late: Injection(values.get("values", {}), once=make(strength))


def _every(make: Callable[[float], Any]) -> Make:
    return lambda strength, late: Injection(every=make(strength))


def _alter(make: Callable[[float], Any]) -> Make:
    return lambda strength, late: Injection(alter=make(strength))


def _corrupt(kind: str, values: Values | None = None) -> Make:
    return lambda strength, late: Injection(values or {}, (CORRUPTIONS[kind], strength))


def _data(kind: str, causes: tuple[str, ...], strengths: tuple[float, ...], half: Half | Literal["both"]) -> Fault:
    return Fault(kind, "data", causes, strengths, ALWAYS, half, _corrupt(kind))


_PLAIN: Values = {"data.normalisation": "none"}
_BARE: Values = {
    "data.augmentation": {
        "flips": False, "rotations": "none", "affine_probability": 0.0, "intensity_probability": 0.0,
        "gamma_probability": 0.0, "noise_probability": 0.0, "blur_probability": 0.0,
    }
}  # fmt: skip

_DATA = (
    _data("ignore_as_surface", ("ignore_learned", "labels_wrong"), (1.0, 0.5), "report"),
    _data("ignore_as_background", ("ignore_learned", "labels_wrong"), (1.0, 0.5), "tune"),
    _data("off_by_one_up", ("labels_wrong", "ignore_learned"), (1.0, 0.5), "tune"),
    _data("off_by_one_down", ("labels_wrong", "ignore_learned"), (1.0, 0.5), "report"),
    _data("swapped_classes", ("labels_wrong",), (1.0, 0.5), "both"),
    _data("image_shift", ("pairs_wrong", "labels_wrong"), (10.0, 4.0), "tune"),
    _data("label_flip", ("pairs_wrong", "labels_wrong"), (1.0, 0.5), "report"),
    _data("shuffled_pairs", ("pairs_wrong", "labels_wrong"), (1.0, 0.5), "both"),
    _data("missing_components", ("labels_wrong",), (0.8, 0.5), "tune"),
    _data("thick_labels", ("labels_wrong",), (3.0, 1.0), "report"),
    _data("shuffled_labels", ("labels_wrong",), (1.0, 0.5), "both"),
    Fault(
        "odd_scales", "data", ("normalisation_wrong", "input_lost"), (0.97, 0.9), ALWAYS, "tune",
        _corrupt("odd_scales", _PLAIN),
    ),
    _data("normalised_twice", ("normalisation_wrong", "input_lost"), (0.3, 1.0), "report"),
    Fault(
        "leak", "data", ("leak", "overfitting"), (1.0, 2.0), ALWAYS, "both",
        lambda strength, late: Injection(_BARE, training_volumes=int(strength), leaks=True),
        deceives=True,
    ),
    Fault(
        "one_volume", "data", ("overfitting",), (1.0, 0.5), ALWAYS, "both",
        lambda strength, late: Injection({**_BARE, "data.sampling.surface_share": strength}, training_volumes=1),
    ),
)  # fmt: skip


def _class_weights(surface: float) -> Values:
    return {
        "loss.terms": {"cross_entropy": {}},
        "loss.class_weights": {"enabled": True, "surface": surface, "background": 5.0},
    }


def _terms(name: str, **options: Any) -> Callable[[float], Values]:
    return lambda weight: {"loss.terms": {"soft_dice": {}, "cross_entropy": {}, name: {"weight": weight, **options}}}


def _activations(count: float, late: bool) -> Injection:
    def squash(logits: torch.Tensor) -> torch.Tensor:
        for _ in range(int(count)):
            logits = torch.sigmoid(logits)
        return logits

    return Injection(attach=acts.finish_with(squash))


_LOSS = (
    Fault(
        "inverted_class_weights", "loss", ("class_bias", "constant_predictor"), (0.05, 0.3), ALWAYS, "both",
        _values(_class_weights),
    ),
    Fault(
        "dice_sign", "loss", ("inverted_objective", "conflicting_terms"), (-3.0, -1.0), (START, THIRD), "tune",
        _alter(lambda weight: acts.weigh({"soft_dice": weight})),
    ),
    Fault(
        "loss_sign", "loss", ("inverted_objective",), (-1.0, -0.1), (START, THIRD), "report",
        _alter(lambda weight: acts.weigh({"soft_dice": weight, "cross_entropy": weight})),
    ),
    Fault("double_activation", "loss", ("double_activation",), (1.0, 2.0), (START, THIRD), "both", _activations),
    Fault(
        "unreachable_variance", "loss", ("unreachable_term", "dominating_term", "conflicting_terms"), (30.0, 5.0),
        ALWAYS, "tune", _values(_terms("variance")),
    ),
    Fault(
        "unreachable_entropy", "loss", ("unreachable_term", "dominating_term", "conflicting_terms"), (30.0, 5.0),
        ALWAYS, "report", _values(_terms("entropy", minimum=0.69)),
    ),
    Fault(
        "topology_heavy", "loss", ("dominating_term", "conflicting_terms", "unreachable_term"), (100.0, 1000.0),
        ALWAYS, "both", _values(_terms("connectivity")),
    ),
    Fault(
        "conflicting_terms", "loss", ("conflicting_terms", "dominating_term", "unreachable_term"), (20.0, 5.0),
        (START, THIRD), "both", _alter(acts.prefer_empty),
    ),
    Fault(
        "unmasked_ignore", "loss", ("ignore_learned", "labels_wrong"), (1.0, 0.5), (START, THIRD), "both",
        _alter(acts.unmask),
    ),
    Fault(
        "detached_term", "loss", ("detached_term", "rate_too_low"), (0.0, 1e-4), (START, THIRD), "both",
        _alter(lambda rest: acts.weigh({"cross_entropy": rest}, detached=("soft_dice",))),
    ),
)  # fmt: skip

_ENCODER = ("encoders.*", "bottom.*")
_BUT_HEAD = (*_ENCODER, "upsamplers.*", "decoders.*")

_OPTIMISATION = (
    Fault(
        "rate_too_high", "optimisation", ("rate_too_high",), (1000.0, 100.0, 30.0), ANY_TIME, "both",
        _once(acts.scale_rate),
    ),
    Fault(
        "rate_too_low", "optimisation", ("rate_too_low",), (1e-3, 1e-2), (START, THIRD), "both",
        _once(acts.scale_rate),
    ),
    Fault(
        "gradients_kept", "optimisation", ("gradients_accumulate",), (0.0, 50.0), ANY_TIME, "both",
        _once(lambda every: acts.keep_gradients(int(every)), values=SGD),
    ),
    Fault(
        "frozen_encoder", "optimisation", ("frozen_layers",), (1.0, 2.0), ALWAYS, "tune",
        _once(lambda number: acts.freeze(*(_ENCODER if number == 1 else (*_ENCODER, "upsamplers.*")))),
    ),
    Fault(
        "frozen_but_head", "optimisation", ("frozen_layers",), (1.0, 2.0), (START, THIRD), "report",
        _once(lambda number: acts.freeze(*(_BUT_HEAD if number == 1 else ("*.weight",)))),
    ),
    Fault(
        "schedule_per_batch", "optimisation", ("schedule_exhausted",), (18.0, 6.0), ALWAYS, "both",
        _once(acts.hurry_schedule),
    ),
    Fault(
        "nan_weight", "optimisation", ("non_finite",), (float("nan"), float("inf")), ANY_TIME, "tune",
        _once(acts.break_weight),
    ),
    Fault(
        "half_overflow", "optimisation", ("non_finite",), (30000.0, 8000.0), ANY_TIME, "report",
        lambda scale, late: Injection(attach=acts.in_half_precision(scale)),
    ),
    Fault(
        "weight_spike", "optimisation", ("weight_shock",), (5.0, 1.5), MIDWAY, "tune", _once(acts.disturb),
    ),
    Fault(
        "weight_noise", "optimisation", ("weight_shock",), (0.5, 0.1), (START, THIRD), "report", _every(acts.disturb),
    ),
    Fault(
        "dead_channels", "optimisation", ("dead_channels",), (0.9, 0.6), (START, THIRD), "both",
        _every(acts.kill_channels),
    ),
    Fault(
        "clip_too_tight", "optimisation", ("clip_too_tight", "rate_too_low"), (1e-4, 1e-3), ALWAYS, "both",
        _values(lambda limit: {**SGD, "training.gradient_clip": limit}),
    ),
)  # fmt: skip


def _never(weight: float) -> Values:
    """The phase in which the Dice counts begins after the end; what counts before hardly says anything."""
    return {
        "loss": {
            "terms": {"soft_dice": {"weight": 0.0}, "variance": {"weight": weight}, "entropy": {"weight": weight}},
            "curriculum": ({"name": "learn", "start_epoch": 10 * EPOCHS, "weights": {"soft_dice": 1.0}},),
        }
    }


def _starved(seconds: float, late: bool) -> Injection:
    """A loader so slow that a quarter of the epochs fits into the time of a healthy run."""
    return Injection({"training.epochs": EPOCHS // 4}, sample_seconds=seconds)


_PROTOCOL = (
    Fault(
        "dead_key", "protocol", ("dead_setting", "unreachable_term", "constant_predictor"), (1.0, 0.1), ALWAYS, "both",
        _values(_never),
    ),
    Fault(
        "metric_of_background", "protocol", ("wrong_metric",), (1.0, 2.0), ALWAYS, "tune",
        lambda number, late: Injection(
            {"training.validate_every_epochs": int(number)}, measure=acts.measure_inverted
        ),
    ),
    Fault(
        "metric_of_elsewhere", "protocol", ("wrong_metric",), (1.0, 2.0), ALWAYS, "report",
        lambda number, late: Injection(
            {"training.validate_every_epochs": int(number)}, measure=acts.measure_mirrored
        ),
    ),
    Fault(
        "best_by_noise", "protocol", ("threshold_in_noise",), (1.0, 2.0), ALWAYS, "both",
        _values(
            lambda patience: {
                "training.early_stopping": {"patience": int(patience), "minimum_delta": 0.01},
                "training.validation": {"kind": "crops", "per_volume": 1, "crop": (8, 8, 8), "fresh": True},
            }
        ),
    ),
    Fault(
        "input_lost", "protocol", ("input_lost",), (1.0, 0.7), (START, THIRD), "tune",
        lambda share, late: Injection(feed=acts.lose_input(share)),
    ),
    Fault(
        "input_shuffled", "protocol", ("input_lost", "pairs_wrong"), (1.0, 8.0), (START, THIRD), "report",
        lambda block, late: Injection(feed=acts.shuffle_input(int(block))),
    ),
    Fault("starved_loader", "protocol", ("starved_loader",), (0.06, 0.03), ALWAYS, "both", _starved),
)  # fmt: skip

FAULTS: dict[str, Fault] = {one.kind: one for one in (*_DATA, *_LOSS, *_OPTIMISATION, *_PROTOCOL)}
