"""Scores, means and warnings of an evaluation, on masks whose numbers are known."""

import json

import numpy as np
import pytest

from volumen.errors import UserError
from volumen.experiments.scoring import Evaluation, LabelledCase, evaluate_masks, score_case
from volumen.metrics.table import METRICS
from volumen.system.records import typed


def plate(z: int, thickness: int = 2, side: int = 16) -> np.ndarray:
    volume = np.zeros((side, side, side), dtype=np.uint8)
    volume[z : z + thickness] = 1
    return volume


def case(name: str, scroll: str, label: np.ndarray) -> LabelledCase:
    return LabelledCase(name, scroll, label)


def test_a_perfect_mask_scores_one_everywhere():
    result = score_case(case("a", "s", plate(6)), plate(6))
    assert {name: result.values[name] for name in ("leaderboard", "topo", "surface_dice", "voi", "dice", "iou")} == {
        name: pytest.approx(1.0) for name in ("leaderboard", "topo", "surface_dice", "voi", "dice", "iou")
    }
    assert result.values["overestimation_points"] == 0
    assert set(result.values) == set(METRICS)


def test_numbers_are_those_of_the_labelled_voxels():
    label, mask = plate(6), plate(6, 4)
    label[:, :, 8:] = 2
    mask[:, :, 8:] = 1  # counts for nothing
    values = score_case(case("a", "s", label), mask).values
    assert values["precision"] == pytest.approx(0.5)
    assert values["recall"] == 1
    assert values["dice"] == pytest.approx(2 / 3)
    assert values["predicted_share"] == pytest.approx(4 / 16)
    assert values["true_share"] == pytest.approx(2 / 16)
    assert values["overestimation_points"] == pytest.approx(12.5)
    assert values["all_surface_dice"] == pytest.approx(2 * 0.125 / 1.125)


def test_means_are_per_case_and_per_scroll():
    cases = [case("a", "s1", plate(2)), case("b", "s1", plate(6)), case("c", "s2", plate(9))]
    masks = {"a": plate(2), "b": plate(6, 6), "c": plate(9)}
    evaluation = evaluate_masks(cases, masks)
    b = evaluation.cases[1].values["dice"]
    assert evaluation.by_scroll["s1"]["dice"] == pytest.approx((1 + b) / 2)
    assert evaluation.by_scroll["s1"]["cases"] == 2
    assert evaluation.by_scroll["s2"]["dice"] == 1
    assert evaluation.mean["dice"] == pytest.approx((2 + b) / 3)
    summary = evaluation.summary["dice"]
    assert (summary.median, summary.minimum, summary.maximum) == (1, b, 1)
    assert sum(summary.counts) == 3


def test_the_record_is_strict_json_and_reads_back():
    evaluation = evaluate_masks([case("a", "s", plate(2)), case("b", "s", plate(5))], {"a": plate(2), "b": plate(7)})
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    again = typed(json.loads(text), Evaluation, "a record", "")
    assert again.to_dict() == evaluation.to_dict()
    assert again.mean == evaluation.mean


def test_predictions_that_say_nothing_are_named_and_good_ones_are_not():
    labels = {"a": plate(2), "b": plate(5), "c": plate(9)}
    cases = [case(name, "s", label) for name, label in labels.items()]
    assert evaluate_masks(cases, {name: plate(z, 3) for name, z in (("a", 2), ("b", 4), ("c", 9))}).warnings != ()
    near = {name: label.copy() for name, label in labels.items()}
    for number, mask in enumerate(near.values()):
        mask[0, 0, : number + 1] = 1
    assert evaluate_masks(cases, near).warnings == ()
    everything = np.ones((16, 16, 16), dtype=np.uint8)
    bad = evaluate_masks(cases, {"a": everything, "b": np.zeros_like(everything), "c": plate(0)}).warnings
    assert any(w.startswith("a: every voxel") for w in bad)
    assert any(w.startswith("a: Dice 0.222 is no better than predicting surface everywhere (0.222)") for w in bad)
    assert any(w.startswith("b: no surface at all") for w in bad)
    assert any(w.startswith("c: Dice 0.000 is no better") for w in bad)


def test_identical_shares_are_named():
    cases = [case("a", "s", plate(2)), case("b", "s", plate(5))]
    assert any(
        "a, b: identical surface share" in w for w in evaluate_masks(cases, {"a": plate(2), "b": plate(5)}).warnings
    )


def test_missing_and_misshapen_masks_are_refused():
    with pytest.raises(UserError, match=r"no mask for the cases \['a'\]"):
        evaluate_masks([case("a", "s", plate(2))], {})
    with pytest.raises(UserError, match="no case"):
        evaluate_masks([], {})
    with pytest.raises(UserError, match="predict the image that belongs to this label"):
        score_case(case("a", "s", plate(2)), plate(2)[:8])
