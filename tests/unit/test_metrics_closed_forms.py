"""Volumes whose score can be worked out by hand, and the errors for volumes that cannot be scored."""

import dataclasses
import json
import math

import numpy as np
import pytest

from volumen.errors import UserError
from volumen.metrics import leaderboard, overlap, surface_dice, topo_score, voi_score
from volumen.metrics.masks import Masks
from volumen.metrics.surface_elements import element_areas
from volumen.metrics.topology import score_of_counts, tile_counts, tiles


def plate(size: int = 12, thickness: int = 2) -> np.ndarray:
    volume = np.zeros((size, size, size), np.uint8)
    volume[4 : 4 + thickness, 1:-1, 1:-1] = 1
    return volume


def box_counts(prediction: np.ndarray, truth: np.ndarray) -> list[list[int]]:
    """Counts of the whole volume as one tile."""
    return tile_counts(Masks(prediction, truth), ((0, 0, 0), prediction.shape)).tolist()


def test_a_hole_in_a_plate_is_one_tunnel() -> None:
    whole, holed = plate(), plate()
    holed[:, 5:7, 5:7] = 0
    assert box_counts(holed, whole) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert box_counts(holed, holed) == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


def test_a_tunnel_that_moved_is_not_matched() -> None:
    one, two = plate(), plate()
    one[:, 2:4, 2:4] = 0
    two[:, 8:10, 8:10] = 0
    assert box_counts(one, two)[1] == [0, 1, 1]


def test_a_hollow_ball_is_one_cavity() -> None:
    shell = np.zeros((9, 9, 9), np.uint8)
    shell[2:7, 2:7, 2:7] = 1
    shell[4, 4, 4] = 0
    assert box_counts(shell, shell) == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    filled = shell.copy()
    filled[4, 4, 4] = 1
    assert box_counts(shell, filled)[2] == [0, 1, 0]


def test_a_frame_has_the_tunnels_of_its_graph() -> None:
    frame = np.zeros((5, 5, 5), np.uint8)
    edges = (np.indices(frame.shape) % 4 == 0).sum(axis=0) >= 2
    frame[edges] = 1
    assert box_counts(frame, frame) == [[0, 0, 0], [5, 5, 5], [0, 0, 0]]  # 12 edges - 8 corners + 1


def test_voxels_that_touch_by_a_corner_are_two_for_topology_and_one_for_voi() -> None:
    volume = np.zeros((4, 4, 4), np.uint8)
    volume[1, 1, 1] = volume[2, 2, 2] = 1
    assert box_counts(volume, volume)[0] == [1, 1, 1]
    joined = volume.copy()
    joined[1, 2, 2] = joined[1, 1, 2] = 1
    assert box_counts(joined, volume)[0] == [0, 0, 1]
    found = voi_score(joined, volume)  # two voxels of one object and two of background; were they two objects: 1.5 bits
    assert (found.split, found.merge) == (pytest.approx(0.0), pytest.approx(1.0))


def test_the_price_of_false_cavities() -> None:
    counts = np.array([[5, 5, 5], [5, 5, 5], [0, 1, 0]])
    assert score_of_counts(counts).f1 == (1.0, 1.0, pytest.approx(1 / 3))
    counts[2, 1] = 10
    assert score_of_counts(counts).f1[2] == pytest.approx(0.5 / 10.5)
    assert score_of_counts(counts).score == pytest.approx(0.67 + 0.33 * 0.5 / 10.5)


def test_inactive_dimensions_take_no_part() -> None:
    found = score_of_counts(np.array([[1, 2, 2], [0, 0, 0], [0, 0, 0]]))
    assert found.f1 == (0.5, None, None)
    assert found.score == 0.5
    assert score_of_counts(np.zeros((3, 3), int)).score == 1.0


def test_an_odd_axis_gives_the_first_half_the_extra_voxel() -> None:
    assert tiles((5, 2, 1)) == [
        ((0, 0, 0), (3, 1, 1)),
        ((0, 1, 0), (3, 2, 1)),
        ((3, 0, 0), (5, 1, 1)),
        ((3, 1, 0), (5, 2, 1)),
    ]


def test_counts_are_summed_over_the_tiles_before_the_ratio() -> None:
    truth = np.zeros((4, 4, 8), np.uint8)
    truth[0, 0, ::2] = 1  # two single voxels in each of two tiles
    prediction = truth.copy()
    prediction[0, 0, 2] = 0
    found = topo_score(prediction, truth)
    assert (found.matched[0], found.predicted[0], found.true[0]) == (1, 1, 2)
    assert found.f1[0] == pytest.approx(2 / 3)


def test_areas_of_plane_patterns() -> None:
    areas = element_areas()
    assert areas.shape == (256,)
    assert areas[0] == areas[255] == 0
    assert areas[0b11110000] == areas[0b11001100] == areas[0b10101010] == 1.0  # faces across z, y, x
    assert areas[0b10000000] == pytest.approx(math.sqrt(3) / 8)
    np.testing.assert_allclose(areas, areas[::-1])  # complement
    assert len(set(np.round(areas, 12))) == 13  # 14 classes, two of which have equal areas


def test_surface_dice_of_shifted_plates_falls_beyond_the_tolerance() -> None:
    truth = np.zeros((16, 8, 8), np.uint8)
    truth[4:6] = 1
    scores = [surface_dice(np.roll(truth, shift, axis=0), truth, tolerance=2.0) for shift in range(6)]
    assert scores[:3] == [1.0, 1.0, 1.0]
    # At a shift of 3 the near sides are 1 apart and the far sides 3 from the other plate; at 5 nothing is near.
    assert 0.4 < scores[3] < 0.7
    assert scores[5] == 0.0


def test_surface_dice_conventions() -> None:
    empty = np.zeros((4, 4, 4), np.uint8)
    assert surface_dice(empty, empty) == 1.0
    assert surface_dice(plate(4, 0) | 1, empty) == 0.0
    assert surface_dice(empty, plate(4, 0) | 1) == 0.0


def test_split_and_merge_are_named_for_what_happened_to_the_true_objects() -> None:
    """Split is H(prediction | truth). The hosts' numbers bear the same names; only their documentation swaps them."""
    bar = np.zeros((3, 3, 9), np.uint8)
    bar[1, 1] = 1
    broken = bar.copy()
    broken[1, 1, 4] = 0
    entropy = -(2 * 4 / 9 * math.log2(4 / 9) + 1 / 9 * math.log2(1 / 9))
    found = voi_score(broken, bar)
    assert found.split == pytest.approx(entropy)
    assert found.merge == pytest.approx(0.0)
    assert found.score == pytest.approx(1 / (1 + 0.3 * entropy))
    found = voi_score(bar, broken)
    assert found.split == pytest.approx(0.0)
    assert found.merge == pytest.approx(entropy)


def test_voi_of_empty_masks() -> None:
    empty = np.zeros((2, 2, 2), np.uint8)
    assert voi_score(empty, empty) == type(voi_score(empty, empty))(1.0, 0.0, 0.0)


def test_the_score_is_the_weighted_sum_of_its_parts_and_writes_itself() -> None:
    truth = plate()
    truth[8:] = 2
    prediction = np.roll(plate(), 3, axis=1)
    found = leaderboard(prediction, truth, weights=(0.5, 0.3, 0.2), threads=2)
    parts = (found.topo.score, found.surface_dice, found.voi.score)
    assert found.score == pytest.approx(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
    assert found.topo == topo_score(prediction, truth, threads=1)
    assert found.surface_dice == surface_dice(prediction, truth)
    assert found.voi == voi_score(prediction, truth)
    written = json.loads(json.dumps(found.to_dict()))
    assert set(written) == {"score", "topo", "surface_dice", "voi"}
    assert set(written["topo"]) == {"score", "f1", "matched", "predicted", "true"}
    assert set(written["voi"]) == {"score", "split", "merge"}
    assert written["topo"]["true"] == {"0": found.topo.true[0], "1": found.topo.true[1], "2": found.topo.true[2]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.score = 1.0  # type: ignore[misc]


def test_another_ignore_label() -> None:
    truth, prediction = plate(), plate()
    truth[6:] = 7
    prediction[8] = 1
    assert leaderboard(prediction, truth, ignore_label=7).score == pytest.approx(1.0)
    assert leaderboard(prediction, truth).score < 0.9


GOOD = np.zeros((3, 3, 3), np.uint8)


@pytest.mark.parametrize("metric", [leaderboard, topo_score, surface_dice, voi_score, overlap])
@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (GOOD[0], GOOD[0], r"three axes \(z, y, x\), got shape \(3, 3\)"),
        (GOOD[None], GOOD, r"index away batch"),
        (GOOD, np.zeros((3, 3, 4), np.uint8), r"shape \(3, 3, 3\), truth \(3, 3, 4\)"),
        (GOOD.astype(int) - 1, GOOD, r"prediction holds negative values \(least -1\)"),
        (GOOD, GOOD.astype(np.int8) - 1, r"truth holds negative"),
        (np.full((3, 3, 3), 0.3), GOOD, r"threshold it first"),
        (np.full((3, 3, 3), np.inf), GOOD, r"infinities"),
        (GOOD.astype(complex), GOOD, r"dtype complex128"),
        (np.zeros((0, 3, 3)), np.zeros((0, 3, 3)), r"no voxels"),
    ],
)
def test_what_cannot_be_scored_is_refused(metric, prediction, truth, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        metric(prediction, truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"voi_alpha": -0.3}, "voi_alpha"),
        ({"weights": (0.5, 0.5)}, "three numbers"),
        ({"weights": (0.5, 0.5, -0.1)}, "three numbers"),
        ({"threads": 0}, "threads must be 1 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        leaderboard(GOOD, GOOD, **arguments)
