"""Laws of the leaderboard metric that hold for every pair of volumes, and a record of symmetries that do not."""

import itertools

import cc3d
import metrics_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels, overlap
from volumen.metrics.cavities import dual_forest
from volumen.metrics.cells import UNION, euler_characteristics, tile_flags
from volumen.metrics.components import components
from volumen.metrics.masks import Masks
from volumen.metrics.runs import labelled_runs
from volumen.metrics.topology import tile_counts
from volumen.metrics.tunnels import matched_tunnels

Volume = NDArray[np.uint8]


@st.composite
def volumes(draw: st.DrawFn, smallest: int = 1, largest: int = 12, even: bool = False) -> tuple[Volume, Volume]:
    """A prediction of 0 and 1 and a truth of 0, 1 and 2 that resembles it."""
    sizes = st.integers(smallest, largest)
    shape = tuple(2 * ((n + 1) // 2) if even else n for n in (draw(sizes), draw(sizes), draw(sizes)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    prediction = random.random(shape) < draw(st.sampled_from((0.0, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0)))
    truth = (prediction ^ (random.random(shape) < draw(st.sampled_from((0.0, 0.05, 0.3))))).astype(np.uint8)
    truth[random.random(shape) < draw(st.sampled_from((0.0, 0.2, 1.0)))] = 2
    return prediction.astype(np.uint8), truth


@settings(max_examples=80, deadline=None)
@given(volumes(largest=16))
def test_betti_numbers_obey_euler_and_the_reduction_finds_every_tunnel(pair: tuple[Volume, Volume]) -> None:
    masks = Masks(pair[0], (pair[1] == 1).astype(np.uint8))
    shape = pair[0].shape
    flags = tile_flags(*masks, (0, 0, 0), shape)
    union = masks.prediction | masks.truth
    pieces = components(flags, shape, UNION)[0]
    assert pieces == cc3d.connected_components(union, connectivity=6).max()
    outside = cc3d.connected_components(np.pad(1 - union, 1, constant_values=1), connectivity=26)
    cavities, cycles = dual_forest(flags, shape, UNION, True)
    assert cavities == outside.max() - 1
    # The third Betti number is counted by the reduction, without any Euler characteristic.
    tunnels = matched_tunnels(flags, shape, cycles)[1]
    assert pieces - tunnels + cavities == euler_characteristics(flags, shape)[2]


@settings(max_examples=50, deadline=None)
@given(volumes())
def test_runs_find_the_components_that_cc3d_finds(pair: tuple[Volume, Volume]) -> None:
    assert labelled_runs(pair[0]).components == cc3d.connected_components(pair[0], connectivity=26).max()


@settings(max_examples=50, deadline=None)
@given(volumes())
def test_a_perfect_prediction_scores_one(pair: tuple[Volume, Volume]) -> None:
    truth = pair[1]
    found = leaderboard(truth == 1, truth, threads=1)
    assert found.score == pytest.approx(1.0, abs=1e-12)
    assert found.topo.matched == found.topo.predicted == found.topo.true


@settings(max_examples=50, deadline=None)
@given(volumes())
def test_exchanging_prediction_and_truth_exchanges_their_numbers(pair: tuple[Volume, Volume]) -> None:
    prediction, truth = pair[0], (pair[1] == 1).astype(np.uint8)
    one, two = leaderboard(prediction, truth, threads=1), leaderboard(truth, prediction, threads=1)
    assert one.surface_dice == pytest.approx(two.surface_dice, abs=1e-12)
    assert (one.voi.split, one.voi.merge) == (pytest.approx(two.voi.merge), pytest.approx(two.voi.split))
    assert (one.topo.matched, one.topo.predicted, one.topo.true) == (
        two.topo.matched,
        two.topo.true,
        two.topo.predicted,
    )


@settings(max_examples=50, deadline=None)
@given(volumes(), st.integers(0, 2**32 - 1))
def test_what_is_predicted_in_ignored_voxels_changes_nothing(pair: tuple[Volume, Volume], seed: int) -> None:
    prediction, truth = pair
    scrambled = prediction.copy()
    ignored = truth == 2
    scrambled[ignored] = np.random.default_rng(seed).integers(0, 2, int(ignored.sum()))
    assert leaderboard(prediction, truth, threads=1) == leaderboard(scrambled, truth, threads=1)
    assert repr(overlap(prediction, truth)) == repr(overlap(scrambled, truth))  # no value equals itself as text


@settings(max_examples=30, deadline=None)
@given(volumes())
def test_the_way_a_mask_is_stored_changes_nothing(pair: tuple[Volume, Volume]) -> None:
    prediction, truth = pair
    expected = leaderboard(prediction, truth, threads=1)
    with_nan = np.where(prediction > 0, 1.0, np.nan).astype(np.float32)
    wide, turned = prediction.astype(np.int64), np.asfortranarray(prediction)
    for stored in (prediction * 255, prediction > 0, wide, turned, with_nan):
        assert leaderboard(stored, truth.astype(np.float32), threads=1) == expected
        assert repr(overlap(stored, truth)) == repr(overlap(prediction, truth))


@settings(max_examples=40, deadline=None)
@given(volumes())
def test_matches_are_bounded_and_the_quick_score_is_an_upper_bound(pair: tuple[Volume, Volume]) -> None:
    exact = leaderboard(*pair, threads=1)
    quick = leaderboard_without_matching_tunnels(*pair, threads=1)
    for k in range(3):
        assert 0 <= exact.topo.matched[k] <= quick.topo.matched[k]
        assert quick.topo.matched[k] <= min(exact.topo.predicted[k], exact.topo.true[k])
    assert 0 <= exact.score <= quick.score <= 1 + 1e-12


@settings(max_examples=15, deadline=None)
@given(volumes(smallest=2, largest=8, even=True))
def test_turning_and_mirroring_keep_all_but_the_matching(pair: tuple[Volume, Volume]) -> None:
    """With even axes the tiles turn into each other; matching breaks ties by position, see below."""
    expected = leaderboard(*pair, threads=1)
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned = [volume.transpose(axes)[:: flips[0], :: flips[1], :: flips[2]] for volume in pair]
            found = leaderboard(*turned, threads=1)
            assert found.surface_dice == pytest.approx(expected.surface_dice, abs=1e-12)
            assert found.voi.split == pytest.approx(expected.voi.split, abs=1e-12)
            assert found.voi.merge == pytest.approx(expected.voi.merge, abs=1e-12)
            assert (found.topo.predicted, found.topo.true) == (expected.topo.predicted, expected.topo.true)


# Smallest pairs found whose matching changes when both volumes are turned the same way: (dimension, turn, matches as
# given, matches turned, prediction, truth). The metric is not isotropic, and neither is the hosts'.
BROKEN_SYMMETRIES = {
    "components, mirrored": (0, np.s_[:, :, ::-1], (1, 0), [[[0, 1, 0], [0, 0, 1]]], [[[0, 0, 0], [1, 0, 1]]]),
    "components, first axis mirrored": (
        0,
        np.s_[::-1],
        (1, 0),
        [[[0], [1]], [[0], [0]], [[0], [1]]],
        [[[0], [0]], [[1], [0]], [[0], [1]]],
    ),
    "tunnels, first axis mirrored": (
        1,
        np.s_[::-1],
        (1, 0),
        [[[0, 1, 1, 1], [0, 1, 1, 0]], [[1, 1, 1, 0], [1, 0, 1, 0]], [[0, 1, 1, 1], [1, 1, 1, 0]]],
        [[[0, 0, 1, 0], [1, 1, 1, 1]], [[0, 1, 1, 1], [1, 0, 1, 1]], [[0, 0, 0, 0], [1, 1, 1, 1]]],
    ),
    "tunnels, axes exchanged": (
        1,
        None,
        (1, 0),
        [[[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], [[1, 0, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1]]],
        [[[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]], [[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 0, 0]]],
    ),
}


@pytest.mark.parametrize("name", BROKEN_SYMMETRIES)
def test_the_matching_depends_on_the_order_of_the_axes(name: str) -> None:
    dimension, turn, expected, prediction, truth = BROKEN_SYMMETRIES[name]
    given_pair = [np.array(prediction, np.uint8), np.array(truth, np.uint8)]
    turned_pair = [volume.T if turn is None else volume[turn] for volume in given_pair]
    for pair, matches in zip((given_pair, turned_pair), expected, strict=True):
        masks = Masks(*map(np.ascontiguousarray, pair))
        assert tile_counts(masks, ((0, 0, 0), masks.truth.shape))[dimension, 0] == matches
        assert reference.counts(masks.prediction > 0, masks.truth > 0)[dimension][0] == matches
