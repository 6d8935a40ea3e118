"""The leaderboard score against every number that the hosts' own code gives for the metric fixtures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels
from volumen.metrics.masks import binarise
from volumen.metrics.topology import tile_counts, tiles

NAMES = (
    "both_empty_32",
    "cavities_48",
    "empty_gt_64",
    "empty_pred_64",
    "odd_65x70x81_medium",
    "perfect_64",
    "s64_clean_0",
    "s64_medium_0",
    "s64_noisy_0",
    "s96_medium_0",
    "s96_noisy_0",
    "s128_clean_0",
    "s128_noisy_0",
    "s320_medium",
)


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    with np.load(folder / f"{name}.npz") as volumes:
        return volumes["pred"], volumes["gt"], json.loads((folder / f"{name}.json").read_text())


def test_no_fixture_is_forgotten(metric_fixtures: Path) -> None:
    assert sorted(path.stem for path in metric_fixtures.glob("*.npz")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_number_agrees(metric_fixtures: Path, name: str) -> None:
    prediction, truth, expected = load(metric_fixtures, name)
    found = leaderboard(prediction, truth, threads=1)
    assert found.score == pytest.approx(expected["total"], abs=1e-9)
    assert found.topo.score == pytest.approx(expected["toposcore"], abs=1e-9)
    for k in range(3):
        counts = [found.topo.matched[k], found.topo.predicted[k], found.topo.true[k]]
        assert counts == expected["counts_mpg"][str(k)]
        f1 = expected["topoF1"][str(k)]
        assert found.topo.f1[k] == (None if f1 is None else pytest.approx(f1, abs=1e-9))
    assert found.surface_dice == pytest.approx(expected["surface_dice"], abs=1e-9)
    assert found.voi.score == pytest.approx(expected["voi"]["score"], abs=1e-9)
    assert found.voi.split == pytest.approx(expected["voi"]["split"], abs=1e-9)
    assert found.voi.merge == pytest.approx(expected["voi"]["merge"], abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "s320_medium"])
def test_every_tile_agrees(metric_fixtures: Path, name: str) -> None:
    prediction, truth, expected = load(metric_fixtures, name)
    masks = binarise(prediction, truth, 2)
    found = [tile_counts(masks, box).tolist() for box in tiles(truth.shape)]
    assert found == expected["tile_counts_mpg_zyx_order"]


@pytest.mark.parametrize("name", ["cavities_48", "s64_medium_0", "odd_65x70x81_medium", "s128_noisy_0"])
def test_the_quick_score_is_an_upper_bound_that_differs_in_tunnels_only(metric_fixtures: Path, name: str) -> None:
    prediction, truth, _ = load(metric_fixtures, name)
    exact = leaderboard(prediction, truth, threads=1)
    quick = leaderboard_without_matching_tunnels(prediction, truth, threads=1)
    assert quick.score >= exact.score
    assert quick.topo.matched[1] >= exact.topo.matched[1]
    assert (quick.surface_dice, quick.voi) == (exact.surface_dice, exact.voi)
    assert (quick.topo.predicted, quick.topo.true) == (exact.topo.predicted, exact.topo.true)
    assert (quick.topo.matched[0], quick.topo.matched[2]) == (exact.topo.matched[0], exact.topo.matched[2])


def test_the_number_of_threads_changes_nothing(metric_fixtures: Path) -> None:
    prediction, truth, _ = load(metric_fixtures, "s64_noisy_0")
    assert leaderboard(prediction, truth, threads=1) == leaderboard(prediction, truth, threads=3)
