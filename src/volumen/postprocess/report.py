"""What a step did to a mask: voxels added and removed, and the topology before and after."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.errors import UserError
from volumen.metrics.cells import PREDICTED, euler_characteristics, tile_flags
from volumen.metrics.topology import features_of
from volumen.system.records import Count, Word


@dataclass(frozen=True)
class Counts:
    """Voxels and Betti numbers of a whole mask.

    As in the leaderboard's TopoScore, surface is connected through faces and background through corners as well. The
    counts are those of the volume as one piece, where the TopoScore sums over tiles.
    """

    voxels: Count
    components: Count
    tunnels: Count
    cavities: Count


@dataclass(frozen=True)
class StepReport:
    """What one step did: its name, the voxels it turned, and the counts around it."""

    name: Word
    voxels_added: Count
    voxels_removed: Count
    before: Counts
    after: Counts


def count(mask: NDArray[np.uint8]) -> Counts:
    """Voxels, components, tunnels and cavities of a mask, uint8 [Z, Y, X] of 0 and 1.

    Tunnels follow from the Euler characteristic: components - tunnels + cavities.
    """
    depth, height, width = mask.shape
    flags = tile_flags(mask, mask, (0, 0, 0), (depth, height, width))
    components, cavities = features_of(flags, (depth, height, width), PREDICTED)
    euler = int(euler_characteristics(flags, (depth, height, width))[0])
    return Counts(int(np.count_nonzero(mask)), int(components), int(components + cavities - euler), int(cavities))


def report_step(
    name: str, before: NDArray[np.uint8], after: NDArray[np.uint8], counts_before: Counts | None = None
) -> StepReport:
    """Compare the masks before and after a step, uint8 [Z, Y, X]; `counts_before` spares counting where it is known.

    Raises:
        UserError: Masks of different shapes.
    """
    if before.shape != after.shape:
        raise UserError(f"{name}: the mask before has shape {before.shape}, after {after.shape}: they must be equal")
    added, removed = int(np.count_nonzero(after > before)), int(np.count_nonzero(before > after))
    known = counts_before or count(before)
    return StepReport(name, added, removed, known, count(after) if added or removed else known)
