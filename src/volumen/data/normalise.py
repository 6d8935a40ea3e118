"""From stored grey values to what a network sees; one function for training and for inference.

The statistics are those of all that the scan holds (`data.emptiness`), recorded once by `prepare` (or computed the same
way for a volume that was never prepared), so that a patch is normalised exactly as the volume it was cut from.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import value_counts
from volumen.errors import UserError

Method = Literal["zscore", "percentile", "none"]


@dataclass(frozen=True)
class IntensityStatistics:
    """Grey values of a volume where the scan holds something; percentiles are values that occur in it."""

    mean: float
    std: float
    p00_5: float
    p50: float
    p99_5: float
    minimum: float
    maximum: float


NOTHING = IntensityStatistics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Of a volume in which the scan holds nothing: all of it becomes 0."""


def statistics_of(image: NDArray[Any], scan: NDArray[np.bool_] | None = None) -> IntensityStatistics:
    """Exact statistics of an integer volume [Z, Y, X] where the scan holds something, from its histogram in float64.

    A percentile is the least value that at least that share of the voxels does not exceed (numpy's `inverted_cdf`).
    """
    values, weights = (part.astype(np.float64) for part in value_counts(image, scan))
    if not values.size:
        return NOTHING
    total = weights.sum()
    mean = float((values * weights).sum() / total)
    std = float(np.sqrt((np.square(values - mean) * weights).sum() / total))
    reached = np.cumsum(weights)
    p00_5, p50, p99_5 = (float(values[np.searchsorted(reached, share * total)]) for share in (0.005, 0.5, 0.995))
    return IntensityStatistics(mean, std, p00_5, p50, p99_5, float(values[0]), float(values[-1]))


def normalise(image: NDArray[Any], statistics: IntensityStatistics, method: Method) -> NDArray[np.float32]:
    """Normalise grey values of a volume, or of any part of one, to float32; a constant volume becomes 0.

    Args:
        image: integer grey values, any shape.
        statistics: those of the whole volume.
        method: `zscore` clips to the 0.5 and 99.5 percentiles, subtracts the mean and divides by the standard
            deviation; `percentile` maps those percentiles to 0 and 1, clipped; `none` divides by the largest value of
            the stored type.

    Raises:
        UserError: the image does not hold integers, or the method is unknown.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "ui":
        raise UserError(f"normalisation expects integer grey values, got {image.dtype}: convert to uint8 or uint16")
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2 and image.size > np.iinfo(image.dtype).max:
        table = _transform(np.arange(np.iinfo(image.dtype).max + 1, dtype=image.dtype), statistics, method)
        return np.take(table, image)  # a table of all values is several times faster than arithmetic on each voxel
    return _transform(image, statistics, method)


class Normalised:
    """A volume [Z, Y, X] whose parts are normalised when they are looked at, so that no second volume need exist."""

    def __init__(self, image: NDArray[Any], statistics: IntensityStatistics, method: Method) -> None:
        self.image, self.statistics, self.method = image, statistics, method
        self.shape: tuple[int, ...] = image.shape

    def __getitem__(self, window: tuple[slice, ...]) -> NDArray[np.float32]:
        return normalise(np.asarray(self.image[window]), self.statistics, self.method)


def _transform(image: NDArray[Any], statistics: IntensityStatistics, method: Method) -> NDArray[np.float32]:
    low, high = statistics.p00_5, statistics.p99_5
    if method == "none":
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    clipped = np.clip(image.astype(np.float32), np.float32(low), np.float32(high))
    if method == "zscore":
        return (clipped - np.float32(statistics.mean)) / np.float32(statistics.std if statistics.std > 0 else 1.0)
    if method == "percentile":
        return (clipped - np.float32(low)) / np.float32(high - low if high > low else 1.0)
    raise UserError(f"unknown normalisation {method!r}: use zscore, percentile or none")
