"""Laws of the phantom that hold whatever the seed: ranges, interpolation, continuity of the unrolled papyrus."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.data.randomness import generator
from volumen.phantoms.geometry import SheetSettings, enlarge, make_sheets, smooth_noise, unroll, wind
from volumen.phantoms.scrolls import phantom

SEEDS = st.integers(0, 2**40)
SIZES = st.tuples(*[st.integers(32, 44)] * 3)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, shape=SIZES, scroll=st.integers(0, 50), difficulty=st.floats(0, 1))
def test_any_phantom_is_well_formed(seed: int, shape: tuple, scroll: int, difficulty: float) -> None:
    made = phantom(seed, shape, scroll=scroll, difficulty=difficulty)
    assert made.image.shape == made.label.shape == made.sheet_ids.shape == shape
    assert set(np.unique(made.label)) <= {BACKGROUND, SURFACE, IGNORE}
    assert made.sheet_ids.min() >= 0
    assert made.image.std() > 5
    # The papyrus is brighter than the air, in every scroll and at every difficulty.
    if 0.02 < (made.sheet_ids > 0).mean() < 0.98:
        assert made.image[made.sheet_ids > 0].mean() > made.image[made.sheet_ids == 0].mean()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, shape=SIZES)
def test_sheets_stay_within_their_windings(seed: int, shape: tuple) -> None:
    sheets = make_sheets(lambda name: generator(seed, 0, 0, name), shape, SheetSettings())
    spiral = sheets.spiral
    assert spiral.fraction.min() >= 0
    assert spiral.fraction.max() <= 1
    assert spiral.local_pitch.min() > 0
    assert sheets.occupancy.min() >= 0
    assert sheets.occupancy.max() <= 1
    assert np.isfinite(sheets.above_recto).all()
    # The next recto face always lies beyond the own winding's end: faces cannot cross.
    assert np.all(sheets.below_next_recto >= 0)
    assert np.all(sheets.above_recto + sheets.below_next_recto > 0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_the_unrolled_papyrus_has_no_seam(seed: int) -> None:
    """Where the angle wraps round, the winding number jumps by one and the arc length runs on."""
    shape = (32, 48, 48)
    spiral = wind(lambda name: generator(seed, 0, 0, name), shape, SheetSettings(fold_strength=0.0))
    turns, winding = spiral.turns, spiral.winding.astype(int)
    for axis in (1, 2):
        step = np.diff(turns, axis=axis)
        crossing = np.diff(spiral.fraction, axis=axis)
        same_sheet = (np.abs(crossing) < 0.5) & (np.take(turns, range(turns.shape[axis] - 1), axis) > 1.5)
        assert np.abs(step[same_sheet]).max(initial=0) < 0.6
    arc = unroll(spiral).arc
    assert np.all(np.sign(arc) == np.sign(turns))
    assert winding.max() > winding.min()


@given(seed=SEEDS, spacing=st.integers(2, 9), shape=st.tuples(*[st.integers(1, 30)] * 3))
def test_enlarging_keeps_the_nodes_and_the_range(seed: int, spacing: int, shape: tuple) -> None:
    nodes = generator(seed, 0, 0, "nodes").standard_normal(tuple(n // spacing + 2 for n in shape), dtype=np.float32)
    large = enlarge(nodes, shape, spacing)
    assert large.shape == shape
    kept = large[::spacing, ::spacing, ::spacing]
    np.testing.assert_array_equal(kept, nodes[: kept.shape[0], : kept.shape[1], : kept.shape[2]])
    assert nodes.min() - 1e-5 <= large.min()
    assert large.max() <= nodes.max() + 1e-5


@given(seed=SEEDS, sigma=st.floats(0.3, 4))
def test_smooth_noise_is_standardised(seed: int, sigma: float) -> None:
    noise = smooth_noise(generator(seed, 0, 0, "noise"), (24, 31), sigma)
    assert abs(float(noise.mean())) < 1e-4
    assert abs(float(noise.std()) - 1) < 1e-3
