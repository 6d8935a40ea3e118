"""Faults of what is asked for: criteria, terms, class weights, post-processing, thresholds."""

from typing import Any

import numpy as np

from volumen.doctor.benchmark.faultgen.bundle import Bundle
from volumen.doctor.benchmark.faultgen.kind import Kind, between, rising, valued, whole
from volumen.doctor.benchmark.setups import Values

Random = np.random.Generator
_CONSTANT, _FLOOR, _POINT = ("P4", "P5"), ("P5", "P3", "P4"), ("P3", "P5", "P4")
_DEAD = ("P6",)
_AFTER = ("P3", "P5", "P6")


def _criterion(text: str) -> Values:
    return {"experiment.criteria": (text,)}


def _impossible(u: float, bundle: Bundle, random: Random) -> Values:
    metric = str(random.choice(("val.dice", "val.surface_dice", "score", "val.precision")))
    at_most = float(f"{between(1.0, 1.5, u) + 0.005:.3g}")
    texts = (f"{metric} > {at_most}", f"val.loss < {-at_most:g}", f"{metric} >= {at_most} by epoch 8")
    return _criterion(str(random.choice(texts)))


def _met_by_a_constant(u: float, bundle: Bundle, random: Random) -> Values:
    texts = (f"val.recall > {between(0.9, 0.2, u):.2f}", f"val.dice > {between(0.05, 0.01, u):.3f}",
             "surface_share within 0%..100%", f"val.loss < {between(3, 10, u):.2f}")  # fmt: skip
    return _criterion(str(random.choice(texts)))


def _misspelt(u: float, bundle: Bundle, random: Random) -> Values:
    epochs = int(bundle.values["training"]["epochs"])
    late = epochs + whole(1, 500, u)
    texts = ("val.dise > 0.5", "term.soft_dyce < 0.4", "val.surfacedice > 0.3", "term.cldice < 0.4",
             f"val.dice > 0.5 by epoch {late}", f"no val.dice drop > 0.01 in epochs {late}..{late + 5}")  # fmt: skip
    return _criterion(str(random.choice(texts)))


def _beside(term: str, low: float, high: float, **more: Any) -> Any:
    """A further term in the sum, by weight."""

    def make(u: float, bundle: Bundle, random: Random) -> Values:
        terms = dict(bundle.values["loss"]["terms"]) if "loss" in bundle.values else {}
        return {"loss": {"terms": {**terms, term: {"weight": rising(low, high, u), **more}}}}

    return valued(make)


def _alone(term: str, **more: Any) -> Any:
    return valued(lambda u, bundle, random: {"loss": {"terms": {term: {**more}}}})


def _smoothed(u: float, bundle: Bundle, random: Random) -> Values:
    return {"loss": {"terms": {"soft_dice": {"smooth": rising(1e4, 1e6, u)}}}}


def _weighted(surface: bool) -> Any:
    def make(u: float, bundle: Bundle, random: Random) -> Values:
        key = "surface" if surface else "background"
        return {"loss": {"terms": {"cross_entropy": {}}, "class_weights": {"enabled": True, key: rising(5, 100, u)}}}

    return valued(make)


def _dropped(u: float, bundle: Bundle, random: Random) -> Values:
    """A later phase in which nothing counts that knows the labels."""
    epochs = int(bundle.values["training"]["epochs"])
    start = max(1, round(between(0.8, 0.3, u) * epochs))
    other = str(random.choice(("variance", "entropy")))
    phase = {"name": "later", "start_epoch": start, "weights": {other: 1.0}}
    terms = {"soft_dice": {}, "cross_entropy": {}, other: {"weight": 0.01}}
    return {"loss": {"terms": terms, "curriculum": (phase,)}}


def _after(make: Any) -> Any:
    """Steps on the mask after the threshold."""
    return valued(lambda u, bundle, random: {"postprocessing": {"steps": ({"kind": "threshold"}, make(u, random))}})


def _deciding(make: Any) -> Any:
    return valued(lambda u, bundle, random: {"postprocessing": {"steps": (make(u),)}})


def _box(radius: int, random: Random) -> tuple[int, int, int]:
    return (radius, radius, radius)


OBJECTIVE_KINDS = (
    Kind("criterion_impossible", "objective", ("P5", "P4", "P6"), valued(_impossible), harm="definition"),
    Kind("criterion_of_a_constant", "objective", _CONSTANT, valued(_met_by_a_constant), harm="definition"),
    Kind("criterion_misspelt", "objective", _DEAD, valued(_misspelt), harm="definition"),
    Kind("variance_term", "objective", _FLOOR, _beside("variance", 0.01, 10)),
    Kind("entropy_term", "objective", _FLOOR, _beside("entropy", 0.01, 10)),
    Kind("boundary_heavy", "objective", _FLOOR, _beside("boundary", 3, 300)),
    Kind("cldice_heavy", "objective", _FLOOR, _beside("cldice", 3, 300)),
    Kind("connectivity_heavy", "objective", _FLOOR, _beside("connectivity", 3, 300)),
    Kind("signed_distance_heavy", "objective", _FLOOR, _beside("signed_distance", 3, 300)),
    Kind("merge_penalty_heavy", "objective", _FLOOR, _beside("merge_penalty", 3, 300)),
    Kind("boundary_alone", "objective", _FLOOR, _alone("boundary")),
    Kind("cldice_alone", "objective", _FLOOR, _alone("cldice")),
    Kind("medial_recall_alone", "objective", _FLOOR, _alone("medial_recall")),
    Kind("merge_penalty_alone", "objective", _FLOOR, _alone("merge_penalty")),
    Kind("dice_smoothed", "objective", _FLOOR, valued(_smoothed)),
    Kind("surface_weighted", "objective", _POINT, _weighted(surface=True)),
    Kind("background_weighted", "objective", _POINT, _weighted(surface=False)),
    Kind(
        "focal_alpha", "objective", _POINT,
        valued(lambda u, bundle, random: {"loss": {"terms": {"focal": {"alpha": between(0.1, 0.005, u)}}}}),
    ),
    Kind("labels_dropped", "objective", _FLOOR, valued(_dropped)),
    Kind(
        "components_removed", "objective", _AFTER,
        _after(lambda u, random: {"kind": "remove_small_components", "minimum_voxels": int(rising(1e3, 1e6, u))}),
        harm="labels",
    ),
    Kind(
        "opened", "objective", _AFTER,
        _after(lambda u, random: {"kind": "open", "radius_voxels": _box(whole(1, 4, u), random)}), harm="labels",
    ),
    Kind(
        "closed", "objective", _AFTER,
        _after(lambda u, random: {"kind": "close", "radius_voxels": _box(whole(2, 10, u), random)}), harm="labels",
    ),
    Kind(
        "hysteresis_of_nothing", "objective", _AFTER,
        _deciding(lambda u: {"kind": "hysteresis", "low": between(0.5, 0.97, u), "high": between(0.97, 0.9999, u)}),
    ),
    Kind(
        "threshold_high", "objective", _POINT,
        _deciding(lambda u: {"kind": "threshold", "level": between(0.75, 0.995, u)}),
    ),
    Kind(
        "threshold_low", "objective", _POINT,
        _deciding(lambda u: {"kind": "threshold", "level": between(0.2, 0.005, u)}),
    ),
)  # fmt: skip
