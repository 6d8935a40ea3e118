"""TopoScore: do prediction and truth have the same components, tunnels and cavities, in the same places?

The volume is cut into 2 x 2 x 2 tiles; in each, the features of both masks are counted and matched (Betti matching);
the counts are summed over the tiles before any ratio is taken. For binary masks every count has an exact form, so no
general persistent homology is computed; only matched tunnels need a reduction (`tunnels`).

Sources: Stucki, Paetzold, Shit, Menze, Bauer, "Topologically faithful image segmentation via induced matching of
persistence barcodes" (2023); Stucki, Bürgin, Paetzold, Bauer, "Efficient Betti matching enables topology-aware 3D
segmentation via persistent homology" (2024).
"""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volumen.errors import UserError
from volumen.metrics.cavities import dual_forest, matched_cavities
from volumen.metrics.cells import PREDICTED, TRUE, UNION, Shape, euler_characteristics, tile_flags
from volumen.metrics.components import components, matched_components
from volumen.metrics.masks import Masks, binarise
from volumen.metrics.parallel import run_all
from volumen.metrics.tunnels import matched_tunnels

DIMENSION_WEIGHTS = (0.34, 0.33, 0.33)
"""Weights of components, tunnels and cavities; renormalised over the active dimensions."""

SPLITS = (2, 2, 2)
"""Tiles along z, y and x."""

Splits = tuple[int, int, int]
Box = tuple[tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True)
class TopoScore:
    """The score, and per dimension (0 components, 1 tunnels, 2 cavities) its F1 and the counts summed over the tiles.

    `f1[k]` is None where neither mask has a feature of dimension k: the dimension is inactive.
    """

    score: float
    f1: tuple[float | None, float | None, float | None]
    matched: tuple[int, int, int]
    predicted: tuple[int, int, int]
    true: tuple[int, int, int]

    def to_dict(self) -> dict[str, Any]:
        """The fields under their names, dimensions as keys "0", "1", "2"."""
        named: dict[str, Any] = {"score": self.score}
        for name in ("f1", "matched", "predicted", "true"):
            named[name] = {str(k): value for k, value in enumerate(getattr(self, name))}
        return named


def check_splits(splits: Splits) -> None:
    """Raise a `UserError` for what is not three whole numbers of 1 or more."""
    if len(splits) != 3 or not all(isinstance(parts, int) and parts >= 1 for parts in splits):
        raise UserError(
            f"splits must be three whole numbers of 1 or more (z, y, x), got {splits}: the leaderboard uses {SPLITS}"
        )


def tiles(shape: tuple[int, ...], splits: Splits = SPLITS) -> list[Box]:
    """The tiles of a volume as (start, stop), z slowest; the first tiles of an axis get the voxels left over.

    An axis shorter than its number of tiles has one tile a voxel.
    """
    cuts = []
    for length, wanted in zip(shape, splits, strict=True):
        parts = min(wanted, length)
        ends = [length // parts * k + min(k, length % parts) for k in range(parts + 1)]
        cuts.append(list(itertools.pairwise(ends)))
    return [((z[0], y[0], x[0]), (z[1], y[1], x[1])) for z, y, x in itertools.product(*cuts)]


def features_of(flags: NDArray[np.uint8], shape: Shape, bit: int) -> tuple[int, int]:
    """Components and cavities of one mask of a tile."""
    return components(flags, shape, bit)[0], dual_forest(flags, shape, bit, False)[0]


def truth_features(truth: NDArray[np.uint8], box: Box) -> tuple[int, int]:
    """Components and cavities of the truth in a tile, which `tile_counts` needs not count for every prediction."""
    start, stop = box
    return features_of(tile_flags(truth, truth, start, stop), _extent(box), TRUE)


def _extent(box: Box) -> Shape:
    start, stop = box
    return stop[0] - start[0], stop[1] - start[1], stop[2] - start[2]


def tile_counts(
    masks: Masks, box: Box, *, match_tunnels: bool = True, truth: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """The counts of one tile: [3 dimensions, (matched, predicted, true)].

    Without `match_tunnels`, the matched tunnels are replaced by their upper bound: the least of the numbers of tunnels
    of prediction, truth and union. `truth` is what `truth_features` found in this tile, if that is known.
    """
    start, stop = box
    shape = _extent(box)
    flags = tile_flags(masks.prediction, masks.truth, start, stop)
    union_pieces, *runs = components(flags, shape, UNION)
    union_cavities, cycles = dual_forest(flags, shape, UNION, True)
    found = (features_of(flags, shape, PREDICTED), truth or features_of(flags, shape, TRUE))
    pieces, cavities = np.array([*found, (union_pieces, union_cavities)]).T
    tunnels = pieces + cavities - euler_characteristics(flags, shape)
    matched = [matched_components(*runs), int(tunnels.min()), 0]
    if match_tunnels and matched[1] > 0:
        matched[1] = matched_tunnels(flags, shape, cycles)[0]
    if cavities.min() > 0:
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        matched[2] = matched_cavities(masks.prediction[window] != 0, masks.truth[window] != 0)
    counts = np.array([np.maximum(0, pieces - 1), tunnels, cavities], np.int64)
    counts[:, 1:] = counts[:, :2].copy()
    counts[:, 0] = matched
    return counts


def score_of_counts(counts: NDArray[np.int64]) -> TopoScore:
    """TopoScore from the summed counts [3 dimensions, (matched, predicted, true)]."""
    f1: list[float | None] = []
    for matched, predicted, true in counts.tolist():
        if true > 0:
            f1.append(2 * matched / (predicted + true))
        elif predicted > 0:
            f1.append(0.5 / (predicted + 0.5))
        else:
            f1.append(None)
    active = [(weight, value) for weight, value in zip(DIMENSION_WEIGHTS, f1, strict=True) if value is not None]
    score = 1.0
    if active:
        score = sum(weight * value for weight, value in active) / sum(weight for weight, _ in active)
    by_dimension = [(int(a), int(b), int(c)) for a, b, c in counts.T]
    return TopoScore(score, (f1[0], f1[1], f1[2]), by_dimension[0], by_dimension[1], by_dimension[2])


def topo_score(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    ignore_label: int = 2,
    splits: Splits = SPLITS,
    threads: int | None = None,
) -> TopoScore:
    """Compare the topology of a prediction with the truth, tile by tile.

    Args:
        prediction: [Z,Y,X] mask, foreground where not 0; NaN is background.
        truth: [Z,Y,X] labels; voxels of `ignore_label` are background in both.
        ignore_label: the label of unlabelled voxels.
        splits: how many tiles there are along z, y and x; the leaderboard uses 2, 2, 2.
        threads: how many tiles to work on at a time; None takes the processors this process may use.

    Returns:
        score and F1 from 0 to 1, 1 where neither mask has any feature; counts summed over the tiles.

    Raises:
        UserError: volumes that cannot be compared, splits that are not whole numbers of 1 or more, or fewer than one
            thread.
    """
    check_splits(splits)
    masks = binarise(prediction, truth, ignore_label)
    tasks = [partial(tile_counts, masks, box) for box in tiles(masks.truth.shape, splits)]
    return score_of_counts(np.sum(run_all(tasks, threads), axis=0))
