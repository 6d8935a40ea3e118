"""Places where a label is suspect: a sheet that looks like the labelled ones and is background, a label on nothing.

A volume's score is the sum of two linear models of local shape: its own, which knows which face of its sheets is drawn,
and the other volumes', which its own mistakes had no part in. Both come from sums that are kept of each volume.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.dataset import PreparedDataset
from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.data.local_shape import FEATURES, block_starts, local_shape, padded
from volumen.doctor.data.portraits import INVARIANT, unit_moments
from volumen.doctor.data.readings import Numbers, numbers_of
from volumen.doctor.data.volume_numbers import ALL, VOLUME, covariance, fitted, moments_of, standardised
from volumen.system.output import Progress, unheard

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
AWAY_VOXELS = 3.0
"""Background nearer to labelled surface is the sheet's own other face."""
RIM_VOXELS = 2.0
"""Background nearer to what nobody labelled may be the next sheet's face, at which the labelling ended."""
FEWEST_VOXELS = 40
LIMIT = 3.0
"""Evidence of one voxel is within plus and minus this."""
OTHERS = 0.5
"""Weight of the other volumes' model beside the volume's own."""
OFFSET = 0.45
"""What a voxel's evidence is counted from: cut-out pieces of sheets have 0.55 to 0.75, other faces 0.25 to 0.45."""
LEAST = 1.0
"""Evidence of a voxel that belongs to a piece."""
NOTHING = 0.5
"""Evidence against surface, averaged along a label, from which on it lies on nothing."""
ALONG_VOXELS = 2.0
"""Labels are judged by the evidence of their neighbourhood."""


class Suspicion(StrEnum):
    """What is suspected of a place."""

    unlabelled = "looks like surface, labelled background"
    empty = "labelled surface, looks like background"


@dataclass(frozen=True)
class Place:
    """A connected piece of a volume."""

    case: str
    suspicion: Suspicion
    centre: tuple[int, int, int]
    """The piece's voxel nearest to its mean, z y x."""
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    """First voxel and the one after the last, z y x."""
    voxels: int
    mask: NDArray[np.bool_]
    """The piece within its box."""
    score: float
    """Sum of the voxels' evidence (logarithm of likelihood ratios, each limited), in units of a labelled voxel's."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the form of `volumen audit places --json`."""
        return {
            "case": self.case,
            "suspicion": str(self.suspicion),
            "centre_zyx": list(self.centre),
            "box_zyx": [list(side) for side in self.box],
            "voxels": self.voxels,
            "score": round(self.score, 1),
        }


def suspect_places(
    dataset: PreparedDataset, ids: Sequence[str], *, most: int = 50, progress: Progress = unheard
) -> list[Place]:
    """Places of labelled volumes where label and image disagree, the most suspect first.

    Args:
        dataset: Prepared.
        ids: Volumes to look at; each is judged by all the others among them, and by itself.
        most: Places at most.
        progress: Told each volume.
    """
    numbers = {case: numbers_of(dataset, case, (VOLUME,))[VOLUME.name] for case in ids}
    models = models_of(numbers)
    found: list[Place] = []
    for number, case in enumerate(ids):
        progress(case, number, len(ids))
        if case in models:
            image, label = np.asarray(dataset.image(case)), np.asarray(dataset.lesson(case))
            found += places_of(case, standardised(image, dataset.case(case)), label, models[case])
            found = sorted(found, key=lambda place: -place.score)[:most]
    return found


def models_of(numbers: Mapping[str, Numbers]) -> dict[str, Floats]:
    """Weights of every feature, by volume; volumes without surface or background have none."""
    totals = {case: one["moments"].sum(axis=0) for case, one in numbers.items()}
    told = {case: total for case, total in totals.items() if total[0, 0] and 0 < total[-1, -1] < total[0, 0]}
    units = {case: unit_moments(total) for case, total in told.items()}
    return {
        case: _weights(total, [unit for other, unit in units.items() if other != case]) for case, total in told.items()
    }


def _weights(total: Floats, others: Sequence[Floats]) -> Floats:
    """The volume's own model plus the others', both of unit variance, as weights of its features."""
    scatter = covariance(total)[1:-1, 1:-1]
    own = fitted(total, ALL)
    own /= max(float(own @ scatter @ own) ** 0.5, 1e-9)
    if not others:
        return own
    foreign = np.zeros(FEATURES)
    foreign[INVARIANT - 1] = (
        fitted(np.sum(others, axis=0), INVARIANT) / np.sqrt(np.maximum(np.diag(scatter), 1e-12))[INVARIANT - 1]
    )
    foreign /= max(float(foreign @ scatter @ foreign) ** 0.5, 1e-9)
    weights: Floats = own + OTHERS * foreign
    return weights


def places_of(case: str, grey: Scores, label: NDArray[np.uint8], weights: Floats) -> list[Place]:
    """Suspect places of one volume.

    Args:
        case: Its id.
        grey: Image of unit variance, [Z, Y, X].
        label: Canonical codes, [Z, Y, X].
        weights: Of the features.
    """
    first = _scores(grey, weights)
    first /= max(float(first.std()), 1e-6)
    evidence = _evidence(_scores(first, fitted(moments_of(first, label), ALL)), label)
    far = edt.edt(np.ascontiguousarray(label != SURFACE), parallel=1) > AWAY_VOXELS
    far &= edt.edt(np.ascontiguousarray(label != IGNORE), parallel=1) > RIM_VOXELS
    missed = (label == BACKGROUND) & far & (evidence > LEAST)
    surface = label == SURFACE
    blurred = ndimage.gaussian_filter(np.where(surface, evidence, 0), ALONG_VOXELS, truncate=2)
    blurred /= np.maximum(ndimage.gaussian_filter(surface.astype(np.float32), ALONG_VOXELS, truncate=2), 1e-3)
    wrong = surface & (blurred < -NOTHING)
    return [
        *_pieces(case, Suspicion.unlabelled, missed, evidence),
        *_pieces(case, Suspicion.empty, wrong, -blurred),
    ]


def _scores(grey: Scores, weights: Floats) -> Scores:
    scores = np.empty(grey.shape, dtype=np.float32)
    single = weights.astype(np.float32)
    for start in block_starts(grey.shape):
        features = local_shape(padded(grey, start).astype(np.float32))
        found = np.tensordot(single, features, axes=1)
        scores[tuple(slice(first, first + length) for first, length in zip(start, found.shape, strict=True))] = found
    return scores


def _evidence(scores: Scores, label: NDArray[np.uint8]) -> Scores:
    """Logarithm of how much likelier a score is on labelled surface than on background, limited.

    By histograms of both over the volume's labels, which a few mistakes hardly change.
    """
    edges = np.quantile(scores[label != IGNORE], np.linspace(0, 1, 65)[1:-1])
    bins = np.searchsorted(edges, scores.ravel())
    counts = [np.bincount(bins[label.ravel() == code], minlength=64) + 1.0 for code in (BACKGROUND, SURFACE)]
    ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    rising = np.maximum.accumulate(ratio)
    return np.clip(rising, -LIMIT, LIMIT).astype(np.float32)[bins].reshape(scores.shape)


def _pieces(case: str, suspicion: Suspicion, mask: NDArray[np.bool_], evidence: Scores) -> Iterator[Place]:
    """Connected pieces of a mask, each with the sum of its evidence."""
    pieces = cc3d.connected_components(mask, connectivity=18)
    sums = np.bincount(pieces.ravel(), weights=evidence.ravel())
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        inside = pieces[box] == number if box is not None else np.zeros((0,), bool)
        voxels = int(inside.sum())
        if voxels < FEWEST_VOXELS:
            continue
        places = np.argwhere(inside)
        nearest = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
        corner = [side.start for side in box]
        yield Place(
            case,
            suspicion,
            tuple(int(a + b) for a, b in zip(corner, nearest, strict=True)),  # type: ignore[arg-type]
            tuple((int(side.start), int(side.stop)) for side in box),  # type: ignore[arg-type]
            voxels,
            inside,
            float(sums[number]) / LIMIT - OFFSET * voxels,
        )
