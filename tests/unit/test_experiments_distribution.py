"""Counts by probability give the curves that a threshold alone hides; targets are held against what was reached."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.experiments.distribution import (
    ProbabilityCounts,
    judge,
    judge_share,
)
from volumen.metrics import overlap
from volumen.system.records import typed


def volume(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.random((12, 13, 14), dtype=np.float32)
    label = (random.random(probabilities.shape) < probabilities).astype(np.uint8)  # perfectly calibrated
    label[:3] = 2
    return probabilities, label


def test_the_curve_is_that_of_thresholding() -> None:
    probabilities, label = volume()
    curve = ProbabilityCounts.of(probabilities, label).curve
    for index in (0, 17, 50, 99):
        counts = overlap((probabilities >= np.float32(index / 100)).astype(np.uint8), label)
        point = curve[index]
        assert point.threshold == index / 100
        expected = (counts.precision, counts.recall, counts.dice, counts.predicted_share)
        assert (point.precision, point.recall, point.dice, point.predicted_share) == pytest.approx(expected, abs=2e-3)


def test_ignored_voxels_do_not_count_and_volumes_add_up() -> None:
    probabilities, label = volume()
    counts = ProbabilityCounts.of(probabilities, label)
    assert sum(counts.background) + sum(counts.surface) == int((label != 2).sum())
    changed = probabilities.copy()
    changed[:3] = 0.999
    assert ProbabilityCounts.of(changed, label) == counts
    both = ProbabilityCounts.total([counts, ProbabilityCounts.of(*volume(1))])
    assert sum(both.surface) == sum(counts.surface) + sum(ProbabilityCounts.of(*volume(1)).surface)
    assert typed(asdict(counts), ProbabilityCounts, "counts", "") == counts


def test_calibration_of_honest_and_of_overconfident_probabilities() -> None:
    probabilities, label = volume()
    honest = ProbabilityCounts.of(probabilities, label)
    assert honest.calibration_error < 0.05
    assert len(honest.calibration) == 10
    sure = ProbabilityCounts.of(np.where(probabilities > 0.5, np.float32(0.99), np.float32(0.01)), label)
    assert sure.calibration_error == pytest.approx(0.25, abs=0.04)
    low, high = sure.calibration
    assert (low.predicted, high.predicted) == pytest.approx((0.01, 0.99), abs=0.006)


def test_the_best_threshold_maximises_dice() -> None:
    probabilities, label = volume()
    counts = ProbabilityCounts.of(probabilities, label)
    assert counts.best_dice.dice == max(point.dice for point in counts.curve)


def test_extreme_probabilities_have_a_bin() -> None:
    counts = ProbabilityCounts.of(np.array([[[0.0, 1.0]]], np.float32), np.array([[[0, 1]]], np.uint8))
    assert (counts.background[0], counts.surface[99]) == (1, 1)
    nothing = ProbabilityCounts.of(np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 2, np.uint8))
    assert nothing.calibration == ()
    assert math.isnan(nothing.calibration_error)


def test_criteria_are_judged_and_unknown_ones_said() -> None:
    found = judge(
        {"dice": 0.7, "predicted_share": 0.95},
        [
            "dice >= 0.6",
            "surface_share within 30%..70%",
            "term.variance < 0.1",
            "val.dice > 0.8 by epoch 3",
            "val.dice > 0.8 or val.dice > 0.6",
            "no val.dice drop > 0.1",
        ],
    )
    assert [one.reached for one in found] == [True, False, None, None, True, None]
    assert found[1].sentence == "surface_share within 30%..70%: missed, 95.0 %"
    assert "not a number of an evaluation" in found[2].sentence


def test_the_share_is_held_against_the_labels_own_range() -> None:
    within = judge_share({"a": 0.10, "b": 0.12}, [0.08, 0.16])
    assert [one.reached for one in within] == [True]
    everywhere = judge_share({"a": 0.9988, "b": 0.12}, [0.08, 0.16])
    assert [one.reached for one in everywhere] == [False, False]
    assert everywhere[1].quantity == "predicted_share of a"


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.4, 0.9, 0.99]))
def test_a_mask_has_one_precision_in_every_table(seed: int, true: float, threshold: float) -> None:
    """The curve over thresholds and the overlap of a mask agree, where a ratio has no value too."""
    random = np.random.default_rng(seed)
    label = (random.random((3, 4, 5)) < true).astype(np.uint8)
    probabilities = (random.integers(0, 95, label.shape) / 100 + 0.005).astype(np.float32)
    point, counts = ProbabilityCounts.of(probabilities, label).at(threshold), overlap(probabilities > threshold, label)
    for name in ("precision", "recall", "dice", "predicted_share"):
        assert getattr(point, name) == pytest.approx(getattr(counts, name), nan_ok=True), name
