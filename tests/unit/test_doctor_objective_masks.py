"""Post-processing run on the truth: what destroys it costs score, and the step is found."""

import numpy as np
import pytest

from volumen.config.postprocessing import Postprocessing
from volumen.doctor.benchmark.volumes import Look, draw_volume
from volumen.doctor.objective import masks
from volumen.doctor.objective.masks import DICE_LOST, HARMFUL, NEARLY, scaled, what_is_left

DECIDE = {"kind": "threshold", "level": 0.5}


def two_sheets() -> np.ndarray:
    label = np.zeros((32, 32, 32), np.uint8)
    label[8:11] = 1
    label[20:23] = 1
    label[:, :, 30:] = 2
    return label


def left(*steps: dict):
    label = two_sheets()
    given = np.where(label == 1, 1 - NEARLY, NEARLY).astype(np.float32)
    return what_is_left(given, label, Postprocessing(steps=steps), 1.0)


@pytest.mark.parametrize(
    "steps",
    [
        (DECIDE,),
        (DECIDE, {"kind": "remove_small_components"}),
        (DECIDE, {"kind": "close"}, {"kind": "fill_holes"}, {"kind": "remove_small_components", "minimum_voxels": 100}),
        ({"kind": "hysteresis"}, {"kind": "plug_pinholes"}, {"kind": "fill_cavities"}),
    ],
)
def test_sensible_steps_leave_the_truth(steps) -> None:
    assert left(*steps).lost < HARMFUL


@pytest.mark.parametrize(
    ("steps", "worst"),
    [
        ((DECIDE, {"kind": "close"}, {"kind": "remove_small_components", "minimum_voxels": 100_000}), 2),
        ((DECIDE, {"kind": "open", "radius_voxels": (2, 2, 2)}), 1),
        ((DECIDE, {"kind": "close", "radius_voxels": (10, 10, 10)}, {"kind": "fill_cavities"}), 1),
        (({"kind": "hysteresis", "low": 0.5, "high": 0.99999},), 0),
    ],
)
def test_the_step_that_destroys_it_is_found(steps, worst) -> None:
    found = left(*steps)
    assert found.lost > HARMFUL
    assert found.worst == worst


def test_what_a_closing_adds_counts_though_the_score_forgives_it() -> None:
    assert left(DECIDE, {"kind": "close"}).dice > 1 - DICE_LOST
    label = np.zeros((32, 32, 32), np.uint8)
    label[6:10], label[16:20], label[11:13, :12, :12] = 1, 1, 1
    given = np.where(label == 1, 1 - NEARLY, NEARLY).astype(np.float32)
    steps = (DECIDE, {"kind": "close", "radius_voxels": (2, 2, 2)})
    found = what_is_left(given, label, Postprocessing(steps=steps), 1.0)
    assert found.worst == 1
    assert found.dice < 1


@pytest.mark.parametrize("look", [Look("sheets"), Look("shells", thickness=2.6, side=40), Look("balls", thickness=4.0)])
@pytest.mark.parametrize(("low", "high", "harmful"), [(0.3, 0.7, False), (0.3, 0.85, False), (0.78, 0.988, True)])
def test_a_hysteresis_is_judged_by_what_a_good_network_answers(look, low, high, harmful) -> None:
    steps = Postprocessing(steps=({"kind": "hysteresis", "low": low, "high": high},))
    found = masks._of_blurred(draw_volume(look, 0, 1).label, steps, 1.0)
    assert masks._harms(steps.steps[0], found.lost, 1 - found.dice, 0.3, of_truth=False) == harmful


@pytest.mark.parametrize(("voxels", "harmful"), [(1, True), (3, False), (5, False)])
def test_a_median_is_harmful_where_sheets_are_thinner_than_its_window(voxels, harmful) -> None:
    label = np.zeros((32, 32, 32), np.uint8)
    for start in (6, 22):
        label[start : start + voxels] = 1
    label[11:13, ::5, ::5] = 1  # spikes, of which a median leaves nothing and which no prediction has
    steps = Postprocessing(steps=(DECIDE, {"kind": "median"}))
    found = masks._of_blurred(label, steps, 1.0)
    assert masks._harms(steps.steps[1], found.lost, 1 - found.dice, 0.3, of_truth=False) == harmful
    assert not masks._harms(steps.steps[1], 1.0, 1.0, 0.1, of_truth=True)


def test_the_least_size_follows_what_is_seen_of_a_volume() -> None:
    steps = (DECIDE, {"kind": "remove_small_components", "minimum_voxels": 1000}, {"kind": "remove_small_components"})
    found = scaled(Postprocessing(steps=steps), 0.25).steps
    assert [getattr(step, "minimum_voxels", 0) for step in found] == [0, 250, None]
