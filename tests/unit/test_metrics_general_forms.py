"""Thresholds, classes, spacings and tiles: the forms of the leaderboard score beside the competition's."""

import json

import numpy as np
import pytest

from volumen.errors import UserError
from volumen.metrics import (
    leaderboard,
    leaderboard_by_label,
    leaderboard_curve,
    leaderboard_without_matching_tunnels,
    surface_dice,
    topo_score,
)
from volumen.metrics.topology import tiles


@pytest.fixture(scope="module")
def noisy() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truth of three wavy sheets, partly unlabelled."""
    random = np.random.default_rng(7)
    z, y, x = np.mgrid[:24, :26, :30]
    sheets = (z + np.rint(2 * np.sin(y / 5) + np.sin(x / 4)).astype(int)) % 8 < 2
    probabilities = np.clip(0.25 + 0.5 * sheets + random.normal(0, 0.22, sheets.shape), 0, 1).astype(np.float32)
    truth = sheets.astype(np.uint8)
    truth[:, :4] = 2
    return probabilities, truth


@pytest.mark.parametrize("threads", [1, 3])
def test_every_point_of_a_curve_is_the_score_of_its_mask(noisy, threads: int) -> None:
    probabilities, truth = noisy
    curve = leaderboard_curve(probabilities, truth, [0.7, 0.3, 0.5, 0.5], threads=threads)
    assert [point.threshold for point in curve.points] == [0.3, 0.5, 0.7]
    for point in curve.points:
        assert point.score == leaderboard(probabilities > point.threshold, truth)
    assert curve.best.score.score == max(point.score.score for point in curve.points)
    assert len({point.score.score for point in curve.points}) == 3
    assert json.loads(json.dumps(curve.to_dict()))["best_threshold"] == curve.best.threshold


def test_a_curve_takes_stored_bytes_and_the_other_arguments(noisy) -> None:
    probabilities, truth = noisy
    stored = np.rint(255 * probabilities).astype(np.uint8)
    curve = leaderboard_curve(
        stored, truth, [100, 127.5, 127.6], match_tunnels=False, tolerance=1.0, splits=(1, 1, 1), ignore_label=9
    )
    for point in curve.points:
        expected = leaderboard_without_matching_tunnels(
            stored > point.threshold, truth, tolerance=1.0, splits=(1, 1, 1), ignore_label=9
        )
        assert point.score == expected
    assert curve.points[1].score is curve.points[2].score  # no byte lies between


def test_nan_is_background_at_every_threshold(noisy) -> None:
    probabilities, truth = noisy
    holed = probabilities.copy()
    holed[5:9] = np.nan
    (point,) = leaderboard_curve(holed, truth, [0.5]).points
    assert point.score == leaderboard(np.nan_to_num(holed) > 0.5, truth)


@pytest.mark.parametrize("thresholds", [[], [float("nan")], [0.1, float("inf")], list(range(300))])
def test_thresholds_that_make_no_curve_are_refused(noisy, thresholds: list[float]) -> None:
    with pytest.raises(UserError, match="thresholds must be"):
        leaderboard_curve(*noisy, thresholds)


def test_a_curve_needs_a_volume_of_the_shape_of_the_truth(noisy) -> None:
    probabilities, truth = noisy
    with pytest.raises(UserError, match="three axes"):
        leaderboard_curve(probabilities[None], truth, [0.5])
    with pytest.raises(UserError, match="must be equal"):
        leaderboard_curve(probabilities[1:], truth, [0.5])


def test_classes_are_scored_one_by_one(noisy) -> None:
    _, truth = noisy
    classes = np.where(truth == 2, 255, truth + (truth == 1) * (np.arange(30) > 14)).astype(np.uint8)
    prediction = np.roll(np.where(classes == 255, 1, classes), 1, axis=2)
    found = leaderboard_by_label(prediction, classes, ignore_label=255)
    assert list(found) == [1, 2]
    for label, score in found.items():
        expected = leaderboard(prediction == label, np.where(classes == 255, 255, classes == label), ignore_label=255)
        assert score == expected
    assert list(leaderboard_by_label(prediction, classes, (2,), ignore_label=255)) == [2]
    with pytest.raises(UserError, match="label 255 is the ignore label"):
        leaderboard_by_label(prediction, classes, (1, 255), ignore_label=255)
    with pytest.raises(UserError, match="label 0 is the background"):
        leaderboard_by_label(prediction, classes, (0,), ignore_label=255)


def test_other_splits_cover_the_volume_and_sum_up() -> None:
    boxes = tiles((7, 2, 5), (3, 4, 1))
    covered = np.zeros((7, 2, 5), int)
    for start, stop in boxes:
        covered[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] += 1
    assert (covered == 1).all()
    assert [box[1][0] - box[0][0] for box in boxes[::2]] == [3, 2, 2]
    plate = np.zeros((8, 8, 8), np.uint8)
    plate[3, 1:7, 1:7] = 1
    plate[3, 3:5, 3:5] = 0
    assert topo_score(plate, plate, splits=(1, 1, 1)).true == (0, 1, 0)
    assert topo_score(plate, plate).true == (0, 0, 0)  # the tiles cut the hole open


def test_spacing_and_tolerance_scale_together(noisy) -> None:
    probabilities, truth = noisy
    mask = np.roll(probabilities > 0.5, 1, axis=0)
    for spacing in ((1.0, 1.0, 1.0), (1.0, 2.0, 0.5)):
        for tolerance in (0.5, 1.0, 2.0):
            expected = surface_dice(mask, truth, tolerance=tolerance, spacing=spacing)
            scaled = tuple(0.0079 * step for step in spacing)
            found = surface_dice(mask, truth, tolerance=0.0079 * tolerance, spacing=scaled)
            assert found == pytest.approx(expected, abs=1e-9)


def test_a_large_tolerance_goes_through_the_distance_transform_to_the_same_number() -> None:
    truth, mask = np.zeros((30, 30, 70), np.uint8), np.zeros((30, 30, 70), np.uint8)
    truth[10:12], mask[14:16, 3:] = 1, 1
    truth[20, 20, ::9] = 1
    for tolerance in (16.0, 17.0, 18.0, 25.0):
        assert 0 < surface_dice(mask, truth, tolerance=tolerance) <= 1
    near, far = (surface_dice(mask, truth, tolerance=t, spacing=(1.0, 1.0, 1.0)) for t in (4.0, 40.0))
    assert near < far == 1.0
    # The same distances by the two ways: cubes are dilated, voxels that are cubes but for rounding are transformed.
    for tolerance in (1.0, 2.0, 3.0, 5.0):
        dilated = surface_dice(mask, truth, tolerance=tolerance)
        transformed = surface_dice(mask, truth, tolerance=tolerance, spacing=(1.0, 1.0, 1.0 + 1e-12))
        assert dilated == pytest.approx(transformed, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing must be three numbers above 0"),
        ({"spacing": (1.0, 1.0)}, "spacing must be three numbers"),
        ({"splits": (2, 2)}, "splits must be three whole numbers"),
        ({"splits": (2, 0, 2)}, "splits must be three whole numbers"),
    ],
)
def test_forms_that_make_no_sense_are_refused(noisy, arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        leaderboard(noisy[1], noisy[1], **arguments)
