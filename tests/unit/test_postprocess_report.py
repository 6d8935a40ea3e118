"""Counts of whole masks and reports of steps: Betti numbers that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import ndimage
from sheet_volumes import masks

from volumen.errors import UserError
from volumen.postprocess import Counts, count, fill_cavities, report_step


def plate() -> np.ndarray:
    volume = np.zeros((9, 12, 12), np.uint8)
    volume[4:6, 1:-1, 1:-1] = 1
    return volume


def shell() -> np.ndarray:
    volume = np.zeros((9, 9, 9), np.uint8)
    volume[2:7, 2:7, 2:7] = 1
    volume[3:6, 3:6, 3:6] = 0
    return volume


def test_plate_plate_with_a_hole_and_shell():
    holed = plate()
    holed[:, 5:7, 5:7] = 0
    assert count(plate()) == Counts(200, 1, 0, 0)
    assert count(holed) == Counts(192, 1, 1, 0)
    assert count(shell()) == Counts(98, 1, 0, 1)
    assert count(np.zeros((3, 4, 5), np.uint8)) == Counts(0, 0, 0, 0)


def test_the_volume_is_one_piece_and_corners_do_not_connect_surface():
    two = np.zeros((4, 4, 4), np.uint8)
    two[1, 1, 1] = two[2, 2, 2] = 1
    assert count(two) == Counts(2, 2, 0, 0)
    assert count(np.ones((6, 6, 6), np.uint8)) == Counts(216, 1, 0, 0)


@settings(max_examples=40)
@given(masks())
def test_components_and_cavities_agree_with_scipy(mask):
    counts = count(mask)
    background = ndimage.label(np.pad(mask == 0, 1, constant_values=True), structure=np.ones((3, 3, 3)))[1]
    assert counts.voxels == mask.sum()
    assert counts.components == ndimage.label(mask)[1]
    assert counts.cavities == background - 1
    assert counts.tunnels >= 0
    assert count(np.flip(mask, 2)) == counts


def test_a_report_says_what_a_step_did():
    filled = fill_cavities(shell())
    report = report_step("fill_cavities", shell(), filled)
    assert (report.name, report.voxels_added, report.voxels_removed) == ("fill_cavities", 27, 0)
    assert (report.before, report.after) == (Counts(98, 1, 0, 1), Counts(125, 1, 0, 0))
    assert report_step("fill_cavities", shell(), filled, count(shell())) == report
    back = report_step("undo", filled, shell(), report.after)
    assert (back.voxels_added, back.voxels_removed) == (0, 27)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(UserError, match="must be equal"):
        report_step("close", shell(), plate())
