"""Checkpoints are chosen by distribution and score, and what noise cannot tell apart is said."""

import numpy as np
import pytest

from volumen.errors import UserError
from volumen.experiments.scoring import Evaluation, LabelledCase, evaluate_masks
from volumen.experiments.selection import select


def cases(count: int = 3) -> list[LabelledCase]:
    found = []
    for number in range(count):
        label = np.zeros((24, 24, 24), np.uint8)
        label[:, 3 : 6 + number] = 1
        label[:, 15:18] = 1
        found.append(LabelledCase(f"case{number}", "scroll", label))
    return found


def evaluation(change, count: int = 3) -> Evaluation:
    truth = cases(count)
    return evaluate_masks(truth, {one.id: change(number, one.label.copy()) for number, one in enumerate(truth)})


def perfect(number, mask):
    return mask


def bridged(number, mask):
    mask[10:12, 4:18, 10:12] = 1
    return mask


def everywhere(number, mask):
    return np.ones_like(mask)


SHARES = (0.2, 0.3)


def test_the_best_score_is_chosen_and_differences_have_their_noise() -> None:
    found = select({"last": evaluation(bridged), "best": evaluation(perfect)}, SHARES)
    assert [one.name for one in found.candidates] == ["best", "last"]
    assert found.chosen.difference == 0.0
    last = found.candidates[1]
    assert last.difference < -0.05
    assert last.noise > 0
    assert not last.within_noise


def test_a_sound_distribution_goes_before_a_score() -> None:
    wide = evaluation(lambda number, mask: np.maximum(mask, np.roll(mask, 3, axis=1) | np.roll(mask, -3, axis=1)))
    found = select({"wide": wide, "bridged": evaluation(bridged)}, (0.2, 0.26))
    assert found.chosen.name == "bridged"
    assert any("labels' own range" in reason for reason in found.candidates[1].reasons)


def test_nothing_sound_is_said() -> None:
    found = select({"all": evaluation(everywhere)}, SHARES)
    assert "none of them is sound" in found.note
    assert any("every voxel" in reason for reason in found.chosen.reasons)


def test_twins_are_not_told_apart_and_one_volume_tells_nothing() -> None:
    found = select({"a": evaluation(bridged), "b": evaluation(bridged)}, SHARES)
    assert found.note == "not told apart from it on 3 volumes: b"
    single = select({"a": evaluation(perfect, 1), "b": evaluation(bridged, 1)}, SHARES)
    assert single.candidates[1].within_noise
    assert np.isnan(single.candidates[1].noise)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="different volumes"):
        select({"a": evaluation(perfect, 2), "b": evaluation(perfect, 3)}, SHARES)
    with pytest.raises(UserError, match="no checkpoint"):
        select({}, SHARES)


def test_what_would_be_taken_anyhow_stays_where_nothing_beats_it_beyond_the_noise() -> None:
    """A higher mean that one volume made is no reason to change."""
    lucky = evaluation(lambda number, mask: mask if number == 0 else bridged(number, mask))
    found = select({"usual": evaluation(bridged), "lucky": lucky}, SHARES)
    assert found.chosen.name == "usual"
    assert found.candidates[1].difference > 0
    assert found.note == "not told apart from it on 3 volumes: lucky"
    turned = select({"usual": lucky, "other": evaluation(bridged)}, SHARES)
    assert turned.chosen.name == "usual"
    assert select({"usual": evaluation(bridged), "better": evaluation(perfect)}, SHARES).chosen.name == "better"


def test_two_volumes_choose_nothing_but_what_is_sound() -> None:
    assert select({"usual": evaluation(bridged, 2), "better": evaluation(perfect, 2)}, SHARES).chosen.name == "usual"
    assert select({"usual": evaluation(everywhere, 2), "sound": evaluation(bridged, 2)}, SHARES).chosen.name == "sound"
