"""Grey values of a volume, for what a network sees of it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import value_counts
from volumen.doctor.data.readings import Measure, Numbers, Seen

QUANTILES = np.linspace(0, 1, 1001)
HOT = 3.0  # of the range from the 5th to the 95th percentile: by how much a hot voxel exceeds the 95th percentile
FEW = 1e-4  # share of the voxels below which a grey value does not count as used


def grey_of(seen: Seen) -> Numbers:
    """Where the scan holds something: quantiles, those without hot voxels, their share, and the ends of the range.

    `quantiles` and `cool` are 1001 grey values each, or none where the scan holds nothing; `least` and `most` are the
    shares of voxels at the extremes, `levels` the grey values in use, `noise` the standard deviation of what differs
    from one voxel to the next.
    """
    scan = None if seen.case.empty is None else ~np.isin(seen.image, seen.case.empty.values)
    values, counts = value_counts(seen.image, scan)
    if not counts.sum():
        return {"quantiles": np.empty(0), "cool": np.empty(0)}
    low, high = (float(_quantiles(values, counts)[at]) for at in (50, 950))
    hot = _hot(seen.image, HOT * max(high - low, 1.0), float(values[-1]), high)
    removed = dict(zip(*np.unique(seen.image[hot], return_counts=True), strict=True)) if hot is not None else {}
    left = counts - np.array([int(removed.get(value, 0)) for value in values]) if removed else counts
    total = counts.sum()
    return {
        "quantiles": _quantiles(values, counts),
        "cool": _quantiles(values, left),
        "hot": np.float64(1 - left.sum() / total),
        "least": np.float64(counts[0] / total),
        "most": np.float64(counts[-1] / total),
        "beside": np.array([counts[1] if len(counts) > 1 else 0, counts[-2] if len(counts) > 1 else 0]) / total,
        "levels": np.int64((counts > FEW * total).sum()),
        "noise": np.float64(_noise(seen.image)),
    }


GREY = Measure("grey", 1, grey_of)


def _quantiles(values: NDArray[np.generic], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Grey values that occur, at `QUANTILES`."""
    reached = np.cumsum(counts)
    places = np.searchsorted(reached, np.maximum(QUANTILES * reached[-1], 1))
    return np.asarray(values[np.minimum(places, len(values) - 1)], dtype=np.float64)


def _hot(image: NDArray[np.generic], excess: float, greatest: float, high: float) -> NDArray[np.bool_] | None:
    """Voxels far above the rest, at most four of which lie together; None without any."""
    if greatest <= high + excess:
        return None
    bright = np.greater(image, high + excess)
    crowd = ndimage.uniform_filter(bright.astype(np.float32), 3, mode="constant") * 27
    found: NDArray[np.bool_] = bright & (crowd < 4.5)
    return found if found.any() else None


def _noise(image: NDArray[np.generic]) -> float:
    """From second differences along the last axis, which leave next to nothing of smooth structure, by their median."""
    sample = image[:: max(1, len(image) // 16)].astype(np.float32)
    second = sample[..., :-2] - 2 * sample[..., 1:-1] + sample[..., 2:]
    return float(np.median(np.abs(second)) / 0.6745 / np.sqrt(6)) if second.size else 0.0
