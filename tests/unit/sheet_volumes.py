"""Sheets with known topology, random masks, and the laws of every step, for the tests of post-processing."""

import cc3d
import numpy as np
from hypothesis import strategies as st

FLIPS = [(0,), (1,), (2,), (0, 1), (0, 1, 2)]


@st.composite
def masks(draw, longest: int = 9):
    """A random mask uint8 [Z, Y, X] of any density."""
    shape = draw(st.tuples(*[st.integers(1, longest)] * 3))
    share = draw(st.floats(0, 1))
    seed = draw(st.integers(0, 2**20))
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


@st.composite
def probability_volumes(draw, longest: int = 9):
    """Random probabilities float32 [Z, Y, X], smooth enough to have components."""
    shape = draw(st.tuples(*[st.integers(1, longest)] * 3))
    seed = draw(st.integers(0, 2**20))
    return (np.random.default_rng(seed).random(shape) ** draw(st.floats(0.3, 3))).astype(np.float32)


def sheet(height: np.ndarray, depth: int, thickness: int = 3) -> np.ndarray:
    """The sheet [depth, Y, X] around a height map [Y, X]."""
    z = np.arange(depth)[:, None, None]
    start = np.floor(height - thickness / 2 + 0.5)[None]
    return ((z >= start) & (z < start + thickness)).astype(np.uint8)


def heights(kind: str, side: int, middle: float) -> np.ndarray:
    """The height map [side, side] of a flat, tilted or curved sheet."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return middle + {"flat": 0 * y, "tilted": 0.5 * y - 0.3 * x, "curved": (x**2 + y**2) / (3 * side) - side / 12}[kind]


def pieces(mask: np.ndarray) -> int:
    """The number of 26-connected components."""
    return int(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26, return_N=True)[1])


def joins_nothing(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether voxels of different components of `before` are still in different components of `after`."""
    old = cc3d.connected_components(before, connectivity=26)
    new = cc3d.connected_components(after, connectivity=26)
    pairs = np.unique(np.stack([new[before > 0], old[before > 0]]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1]


def assert_pure(step, volume: np.ndarray) -> np.ndarray:
    """Run a step; its argument must not change, and its result must be C-contiguous and of the same shape."""
    before = volume.copy()
    result = step(volume)
    assert np.array_equal(volume, before, equal_nan=volume.dtype.kind == "f")
    assert result.flags.c_contiguous
    assert result.shape == volume.shape
    assert result.dtype == np.uint8
    return result


def assert_commutes_with_flips(step, volume: np.ndarray) -> None:
    """The step on a flipped volume is the flipped result of the step."""
    result = step(volume)
    for axes in FLIPS:
        assert np.array_equal(step(np.flip(volume, axes)), np.flip(result, axes))
