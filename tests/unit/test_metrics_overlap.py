"""Overlap counts by hand, their conventions for empty masks, and summaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.errors import UserError
from volumen.metrics import mean_of_known, overlap, ratio, summarise

NAN = float("nan")


def test_counts_and_ratios_by_hand() -> None:
    truth = np.array([[[1, 1, 1, 0, 0, 0, 0, 0, 2, 2]]], np.uint8)
    mask = np.array([[[1, 1, 0, 1, 1, 1, 0, 0, 1, 0]]], np.uint8)
    found = overlap(mask, truth)
    assert (found.tp, found.fp, found.fn, found.tn, found.valid_voxels) == (2, 3, 1, 2, 8)
    assert found.accuracy == 4 / 8
    assert found.precision == 2 / 5
    assert found.recall == pytest.approx(2 / 3)
    assert found.dice == pytest.approx(4 / 8)
    assert found.iou == pytest.approx(2 / 6)
    assert (found.predicted_share, found.true_share) == (5 / 8, 3 / 8)
    assert found.overestimation_points == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("mask", "truth", "precision", "recall", "dice"),
    [(0, 0, NAN, NAN, NAN), (0, 1, NAN, 0.0, 0.0), (1, 0, 0.0, NAN, 0.0), (1, 1, 1.0, 1.0, 1.0)],
)
def test_empty_masks(mask: int, truth: int, precision: float, recall: float, dice: float) -> None:
    found = overlap(np.full((2, 2, 2), mask, np.uint8), np.full((2, 2, 2), truth, np.uint8))
    assert (found.precision, found.recall, found.dice) == pytest.approx((precision, recall, dice), nan_ok=True)
    assert found.iou == pytest.approx(dice, nan_ok=True)


def test_no_valid_voxel() -> None:
    found = overlap(np.ones((2, 2, 2), np.uint8), np.full((2, 2, 2), 2, np.uint8))
    assert found.valid_voxels == 0
    assert np.isnan([found.accuracy, found.dice, found.predicted_share, found.overestimation_points]).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6))
def test_a_mean_is_that_of_the_cases_that_have_a_value(pairs: list[tuple[int, int]]) -> None:
    """Adding a case where a ratio is 0/0 moves no mean, whatever the others are."""
    values = [ratio(min(pair), max(pair)) for pair in pairs]
    known = [min(pair) / max(pair) for pair in pairs if max(pair)]
    assert mean_of_known(values) == pytest.approx(np.mean(known) if known else NAN, nan_ok=True)
    assert mean_of_known([*values, ratio(0, 0)]) == pytest.approx(mean_of_known(values), nan_ok=True)


def test_nan_is_background() -> None:
    assert overlap(np.full((1, 1, 2), np.nan), np.ones((1, 1, 2))).fn == 2


def test_summary_by_hand() -> None:
    found = summarise([0.0, 1.0, 1.0, 4.0], bins=4)
    assert (found.mean, found.median, found.minimum, found.maximum) == (1.5, 1.0, 0.0, 4.0)
    assert found.std == pytest.approx(1.5)
    assert found.counts == (1, 2, 0, 1)
    assert found.edges == (0.0, 1.0, 2.0, 3.0, 4.0)


def test_a_summary_leaves_out_what_has_no_value() -> None:
    assert summarise([NAN, 1.0, 3.0]) == summarise([1.0, 3.0])
    assert np.isnan(summarise([NAN]).mean)
    assert sum(summarise([NAN]).counts) == 0


def test_summary_of_equal_values_keeps_them_all() -> None:
    found = summarise(iter([0.25] * 5))
    assert (found.minimum, found.maximum, found.std, sum(found.counts)) == (0.25, 0.25, 0.0, 5)


@pytest.mark.parametrize(
    ("values", "bins", "message"),
    [([], 10, "no values"), ([1.0, float("inf")], 10, "inf at position 1"), ([1.0], 0, "bins must be 1 or more")],
)
def test_summaries_that_make_no_sense(values: list[float], bins: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        summarise(values, bins)


def test_values_that_differ_by_rounding_have_a_histogram() -> None:
    found = summarise([0.1 + 0.2, 0.3, 0.30000000000000004])
    assert sum(found.counts) == 3
    assert len(found.edges) == 11
