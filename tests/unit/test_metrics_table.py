"""The table of metrics: what is chosen by gets better upwards, and each value has a place and a text."""

import math
from typing import get_args

import numpy as np
import pytest

from volumen.config.schema import Config
from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels, overlap
from volumen.metrics.table import (
    LEADERBOARD_METRICS,
    METRICS,
    OVERLAP_METRICS,
    evaluated_values,
    validated_values,
)


@pytest.fixture(scope="module")
def volumes() -> tuple[np.ndarray, np.ndarray]:
    mask, label = np.zeros((2, 12, 12, 12), np.uint8)
    label[:, 4:6] = 1
    mask[:, 5:8] = 1
    label[0, 0, 0] = 2
    return mask, label


def test_no_training_selects_by_what_gets_worse_upwards() -> None:
    selectable = get_args(type(Config.model_fields["training"].default).model_fields["selection_metric"].annotation)
    assert selectable
    for name in selectable:
        one = {**LEADERBOARD_METRICS, **OVERLAP_METRICS}[name.removesuffix("_quick")]
        assert one.higher_is_better
        assert one.validated


def test_an_evaluation_has_every_metric_within_its_span(volumes) -> None:
    mask, label = volumes
    found = evaluated_values(leaderboard(mask, label), overlap(mask, label))
    assert list(found) == list(METRICS)
    for name, value in found.items():
        least, most = METRICS[name].span
        assert least <= value <= most


def test_a_validation_calls_an_upper_bound_by_its_name(volumes) -> None:
    mask, label = volumes
    counts, score = overlap(mask, label), leaderboard(mask, label)
    exact = validated_values(score, counts, exact=True)
    bound = leaderboard_without_matching_tunnels(mask, label)
    quick = validated_values(bound, counts, exact=False)
    assert exact["leaderboard"] == score.score
    assert quick["leaderboard_quick"] == bound.score
    assert exact.keys() - quick.keys() == {"leaderboard", "topo"}
    assert exact["dice"] == quick["dice"] == counts.dice


def test_texts_say_share_sign_and_absence() -> None:
    assert METRICS["dice"].text(0.5) == "0.500"
    assert METRICS["predicted_share"].text(0.125) == "12.50"
    assert METRICS["overestimation_points"].text(1.0) == "+1.00"
    assert METRICS["dice"].text(math.nan) == "-"
