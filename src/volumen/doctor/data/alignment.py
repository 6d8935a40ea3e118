"""Do labels lie where their images say, or are they shifted, or another volume's?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

ALIGNED_CASES, ALIGNED_VOXELS = 6, 64
SHIFTED, SMALL_GAIN = 1.2, 0.005
"""Factor and sum by which another place must explain more; measured: healthy 0.98, shifted by 6 voxels 1.4 and more."""
KNOWS = 0.25
"""What the model must explain somewhere to speak of a shift: where it explains less, as in solid bodies whose inside
looks like their outside, another place explains up to 1.8 times as much by chance."""
UNRELATED = 0.05
"""Measured: exchanged labels at most 0.03 in place and 0.055 at any shift, healthy ones 0.22 to 0.47."""
SCALES_VOXELS = (1.0, 2.0)
ORDERS = tuple(order for order in product(range(3), repeat=3) if sum(order) <= 2)
DISTANCES = (4, 8, 12)
"""Of the shifts that are tried along each axis, in voxels; the model sees about 4."""
MOST_VOXELS = 8_000
FEWEST_VOXELS = 200

Shift = tuple[int, int, int]
MOVES: tuple[Shift, ...] = tuple(
    (z, y, x)
    for distance in DISTANCES
    for sign in (1, -1)
    for z, y, x in ((sign * distance, 0, 0), (0, sign * distance, 0), (0, 0, sign * distance))
)
SHIFTS: tuple[Shift, ...] = ((0, 0, 0), *MOVES)


def check_alignment(context: Context) -> Iterator[Finding]:
    """Labels that fit their images better elsewhere, or not at all."""
    ids = [case_id for case_id in context.training if context.dataset.case(case_id).scanned_surface]
    chosen = ids[:: max(1, len(ids) // ALIGNED_CASES)][:ALIGNED_CASES]
    found = measure_alignment([context.middle(case_id, ALIGNED_VOXELS) for case_id in chosen]) if chosen else None
    if found is None:
        return
    best, here = found.best, found.here
    measured = (
        f"over {counted(found.volumes, 'volume')} the image's local shape explains {here:.3f} of the labels' variance"
    )
    if found.explained[best] > max(SHIFTED * here + SMALL_GAIN, KNOWS):
        yield Finding(
            code="P7",
            severity=Severity.stop,
            title="labels are shifted against their images",
            evidence=f"{measured}; with the labels moved by {list(best)} voxels (z y x) {found.explained[best]:.3f}",
            causes=("another origin, padding or orientation of the label files", "an off-by-one crop"),
            remedies=("look at a slice of image and label, mend the files and prepare again",),
            where="train_labels",
        )
    elif here < UNRELATED:
        twin = f"; with another volume's labels {found.exchanged:.3f}" if found.exchanged > here else ""
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="labels have next to nothing to do with their images",
            evidence=f"{measured}{twin}; measured on healthy data sets: 0.2 to 0.5",
            causes=("labels of other volumes: names that were mixed up", "a scan in which surfaces do not show"),
            remedies=("look at a slice of image and label",),
            where="train_labels",
        )


@dataclass(frozen=True)
class Alignment:
    """Share of the labels' variance that images explain, by shift, as means over the volumes."""

    explained: dict[Shift, float]
    exchanged: float
    """With the labels of another volume."""
    volumes: int

    @property
    def here(self) -> float:
        """As the data set has it."""
        return self.explained[0, 0, 0]

    @property
    def best(self) -> Shift:
        """The shift of the labels, z y x, at which they fit best."""
        return max(self.explained, key=lambda shift: self.explained[shift])


def measure_alignment(pairs: Sequence[tuple[NDArray[np.generic], NDArray[np.uint8]]]) -> Alignment | None:
    """Do labels lie where their images say, or are they shifted, or another volume's?

    A linear model predicts a voxel's label from the image's derivatives up to the second order at two scales
    (Koenderink's local jet). It sees a few voxels, so a shift of the labels by more costs it what it knows: the share
    of variance that it explains, by shift, has its peak at 0 where image and label belong together.

    Args:
        pairs: Image and canonical label codes of blocks of different volumes, all [Z, Y, X] of one shape.

    Returns:
        None where no block holds enough of surface and background.
    """
    jets = [_jet(image) for image, _ in pairs]
    rows, exchanged = [], []
    for number, (jet, (_, label)) in enumerate(zip(jets, pairs, strict=True)):
        found = [_explained(jet, label, shift) for shift in SHIFTS]
        if found[0] is None:
            continue
        rows.append([np.nan if one is None else one for one in found])
        other = _explained(jets[(number + 1) % len(jets)], label, (0, 0, 0)) if len(jets) > 1 else None
        exchanged.append(np.nan if other is None else other)
    if not rows:
        return None
    table = np.asarray(rows)
    counts = np.isfinite(table).sum(axis=0)  # a shift may leave too little of every volume: it explains nothing then
    means = np.nansum(table, axis=0) / np.maximum(counts, 1)
    return Alignment(dict(zip(SHIFTS, means.tolist(), strict=True)), float(np.mean(exchanged)), len(rows))


def _jet(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """Derivatives up to the second order at both scales, each of unit variance, [features, Z, Y, X]."""
    grey = np.asarray(image, dtype=np.float32)
    found = [ndimage.gaussian_filter(grey, scale, order=order) for scale in SCALES_VOXELS for order in ORDERS]
    jet: NDArray[np.float32] = np.stack([(one - one.mean()) / max(float(one.std()), 1e-9) for one in found])
    return jet


def _explained(jet: NDArray[np.float32], label: NDArray[np.uint8], shift: Shift) -> float | None:
    """R squared of the linear model for labels moved by a shift; None where too few voxels of a class are left."""
    at, here = [], []
    for distance, side in zip(shift, label.shape, strict=True):
        at.append(slice(max(0, distance), side + min(0, distance)))
        here.append(slice(max(0, -distance), side + min(0, -distance)))
    codes = label[tuple(here)]
    places = np.flatnonzero(codes != IGNORE)
    places = places[:: max(1, len(places) // MOST_VOXELS)]
    truth = (codes.ravel()[places] == SURFACE).astype(np.float64)
    if min(truth.sum(), len(truth) - truth.sum()) < FEWEST_VOXELS:
        return None
    features = jet[(slice(None), *at)].reshape(len(jet), -1)[:, places].T.astype(np.float64)
    features -= features.mean(axis=0)
    scatter = features.T @ features
    scatter[np.diag_indices_from(scatter)] += 1e-6 * len(features)  # a constant feature has no variance to divide by
    solution = np.linalg.solve(scatter, features.T @ (truth - truth.mean()))
    residual = truth - features @ solution
    return 1.0 - float(residual.var() / truth.var())
