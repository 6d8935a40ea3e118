"""The annotation of a phantom scroll, as partial as an annotator's: some windings traced, the rest left unlabelled.

The competition's labels are 0 background, 1 surface, 2 unlabelled, with about half the volume unlabelled. A phantom in
which all is labelled would never show a mistake in the handling of label 2, so this one leaves out what annotators do.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.phantoms.geometry import RandomStream, Sheets, enlarge

SURFACE_DEPTH_VOXELS = 0.75  # the annotated mid-surface runs just inside the recto face, as an annotator traces it
SURFACE_HALF_THICKNESS_VOXELS = 1.5
MARGIN_VOXELS = (7.0, 12.0)  # background is labelled only this far from an annotated surface (it varies smoothly)
UNLABELLED_TARGET = (0.38, 0.58)  # share drawn per volume
SURFACE_SHARE = (0.055, 0.115)


@dataclass(frozen=True)
class _Neighbours:
    """For each voxel the recto surfaces on both sides of it: winding numbers from 0 and distances in voxels."""

    lower: npt.NDArray[np.int64]
    below: npt.NDArray[np.float32]
    above: npt.NDArray[np.float32]
    surface: npt.NDArray[np.bool_]
    surface_of: npt.NDArray[np.int64]


def _neighbours(sheets: Sheets) -> _Neighbours:
    own = sheets.above_recto - SURFACE_DEPTH_VOXELS
    following = sheets.below_next_recto + SURFACE_DEPTH_VOXELS
    winding = sheets.spiral.winding.astype(np.int64)
    winding -= winding.min() - 1  # room for the winding below the first
    in_gap = own < 0  # the voxel's nearest surfaces are then the own one and the one before
    before = own + sheets.spiral.local_pitch
    own_band = (np.abs(own) <= SURFACE_HALF_THICKNESS_VOXELS) & sheets.own_recto_present
    next_band = (np.abs(following) <= SURFACE_HALF_THICKNESS_VOXELS) & sheets.next_recto_present
    return _Neighbours(
        lower=winding - in_gap,
        below=np.abs(np.where(in_gap, before, own)),
        above=np.abs(np.where(in_gap, own, following)),
        surface=own_band | next_band,
        surface_of=np.where(next_band & ~own_band, winding + 1, winding),
    )


def _border_blobs(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """One to three lumps growing in from the volume's border, where annotators gave up."""
    blobs = np.zeros(shape, dtype=bool)
    grid = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for _ in range(random.integers(1, 4)):
        centre = random.uniform(0, 1, 3) * shape
        axis = random.integers(0, 3)
        centre[axis] = random.integers(0, 2) * shape[axis]
        radii = random.uniform(0.08, 0.18, 3) * min(shape)
        blobs |= sum(np.square((g - c) / r) for g, c, r in zip(grid, centre, radii, strict=True)) < 1
    return blobs


def _known(
    places: _Neighbours, annotated: npt.NDArray[np.bool_], margin: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Between two annotated windings, or within the margin of one."""
    lower, upper = annotated[places.lower], annotated[places.lower + 1]
    return np.asarray((lower & upper) | (lower & (places.below <= margin)) | (upper & (places.above <= margin)))


def _choose_windings(
    random: np.random.Generator, places: _Neighbours, hidden: npt.NDArray[np.bool_], margin: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Flags per winding: the run of windings, perhaps with one left out, nearest to the drawn unlabelled share."""
    count = int(places.lower.max()) + 2
    tally = {
        name: np.bincount(places.lower[chosen & ~hidden], minlength=count)
        for name, chosen in {
            "all": np.ones_like(hidden),
            "below": places.below <= margin,
            "above": places.above <= margin,
        }.items()
    }
    surface = np.bincount(places.surface_of[places.surface & ~hidden], minlength=count)
    target = random.uniform(*UNLABELLED_TARGET)
    best, best_cost = np.ones(count, dtype=bool), np.inf
    for first in range(count):
        for last in range(first, count):
            for skipped in (None, *range(first + 1, last)):
                flags = np.zeros(count, dtype=bool)
                flags[first : last + 1] = True
                if skipped is not None:
                    flags[skipped] = False
                upper = np.append(flags[1:], False)
                known = (
                    tally["all"][flags & upper].sum()
                    + tally["below"][flags & ~upper].sum()
                    + tally["above"][~flags & upper].sum()
                )
                share = surface[flags].sum() / hidden.size
                outside = max(SURFACE_SHARE[0] - share, share - SURFACE_SHARE[1], 0.0)
                cost = abs(1 - known / hidden.size - target) + 10 * outside + 0.05 * random.random()
                cost += 0.04 * (skipped is not None)
                if cost < best_cost:
                    best, best_cost = flags, cost
    return best


def annotate(random: RandomStream, sheets: Sheets) -> npt.NDArray[np.uint8]:
    """Labels [Z,Y,X] in the canonical codes: the annotated recto surfaces, the background near them, ignore elsewhere.

    The surface is a band of 3 voxels (within 1.5 of the mid-surface, to first order in the sheet's curvature). Where
    the sheet has a hole there is no surface. A third to two thirds of a volume of 64^3 or more is left unlabelled.
    """
    places = _neighbours(sheets)
    shape = sheets.occupancy.shape
    low, high = MARGIN_VOXELS
    nodes = random("margin").uniform(low, high, tuple(length // 16 + 2 for length in shape)).astype(np.float32)
    margin = enlarge(nodes, shape, 16)
    hidden = _border_blobs(random("blobs"), shape)
    annotated = _choose_windings(random("windings"), places, hidden, margin)

    label = np.where(_known(places, annotated, margin), BACKGROUND, IGNORE).astype(np.uint8)
    label[places.surface & annotated[places.surface_of]] = SURFACE
    # A surface that is there but not annotated is not background, whoever is near it.
    label[places.surface & ~annotated[places.surface_of]] = IGNORE
    label[hidden] = IGNORE
    return label
