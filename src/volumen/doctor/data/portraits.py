"""A volume in a few numbers beside the others': what the outliers of a data set are told by."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.data.local_shape import FEATURES, INVARIANTS, JET
from volumen.doctor.data.readings import Numbers
from volumen.doctor.data.volume_numbers import ALL, COLUMNS, GROUPS, covariance, fitted

Floats = NDArray[np.float64]
INVARIANT = np.arange(JET + 1, FEATURES + 1)
"""Features that no rotation changes: those that one volume's model may be asked about another one by."""
CONSTANT = 1e-6
"""Variance of a cell below which it holds one value, in the volume's own variance."""

UNRELATED_NEIGHBOURS = 0.12
"""Correlation along every axis below which a cell is noise: white noise has 0.06, as differences end with the cell."""


@dataclass(frozen=True)
class Portrait:
    """A volume's numbers; NaN where it has nothing to tell them by."""

    surface: int
    """Voxels."""
    share: float
    """Of the labelled voxels that are surface."""
    own: float
    """Correlation of label and what a linear model of the volume's other blocks says of it."""
    others: float
    """Correlation of label and what the other volumes' model says of it."""
    negative: float
    """The same for the negative of the image."""
    grey: float
    """Correlation of label and grey values, blurred by one voxel."""
    thickness: float
    """Of the surface, voxels."""
    lookalike: float
    """Background that looks like surface and is away from it, per voxel of surface."""
    far: float
    """Share of the background that is more than 4 voxels away from surface."""
    labelled: float
    """Share of the voxels."""
    constant: float
    """Share of the labelled voxels in cells of one value."""
    noise: float
    """Share of the cells whose neighbours know nothing of each other."""
    alive: float
    """Correlation of neighbours along the best axis, 90th percentile of the cells."""
    kinship: float
    """Correlation of neighbours, median over the cells."""
    fineness: tuple[float, float, float]
    """Logarithm of the second differences' variance over the image's, z y x: high where noisy, low where blurred."""


def portraits_of(numbers: Mapping[str, Numbers]) -> dict[str, Portrait]:
    """Portraits of volumes, each beside all others."""
    units = {case: unit_moments(one["moments"].sum(axis=0)) for case, one in numbers.items()}
    likeness = _likeness(units)
    return {case: _portrait(one, *likeness[case]) for case, one in numbers.items()}


def _portrait(numbers: Numbers, others: float, negative: float) -> Portrait:
    moments, cells = numbers["moments"], dict(zip(COLUMNS, numbers["cells"].T, strict=True))
    background, surface = (int(count) for count in numbers["counts"])
    variance, labelled = cells["variance"], cells["labelled"]
    known = max(float(labelled.sum()), 1e-9)
    constant = variance < CONSTANT
    alive = np.where(constant, 1.0, variance)
    kinship = np.min([1 - cells[f"{axis}1"] / (2 * alive) for axis in "zyx"], axis=0)
    all_kin = np.max([1 - cells[f"{axis}1"] / (2 * alive) for axis in "zyx"], axis=0)
    mean_variance = max(float(variance[~constant].mean()) if (~constant).any() else 0.0, 1e-12)
    held = max(int((~constant).sum()), 1)
    bent = [float((4 * cells[f"{axis}1"] - cells[f"{axis}2"])[~constant].sum()) / held for axis in "zyx"]
    fine = [float(np.log(max(one, 1e-9) / mean_variance)) for one in bent]
    return Portrait(
        surface=surface,
        share=surface / max(surface + background, 1),
        own=_own(np.asarray(moments, dtype=np.float64)),
        others=others,
        negative=negative,
        grey=_correlation(moments.sum(axis=0), np.ones(1), INVARIANT[:1]),
        thickness=float(numbers["thickness"]),
        lookalike=float(numbers["lookalike"]),
        far=float(numbers["far"]),
        labelled=float(labelled.mean()),
        constant=float(labelled[constant].sum() / known),
        noise=float((~constant & (all_kin < UNRELATED_NEIGHBOURS)).mean()),
        alive=float(np.percentile(all_kin[~constant], 90)) if (~constant).any() else float("nan"),
        kinship=float(np.median(kinship[~constant])) if (~constant).any() else float("nan"),
        fineness=(fine[0], fine[1], fine[2]),
    )


def _correlation(moments: Floats, weights: Floats, columns: NDArray[np.intp]) -> float:
    """Of the surface and a weighted sum of features."""
    found = covariance(moments)
    spread = float(weights @ found[np.ix_(columns, columns)] @ weights) * float(found[-1, -1])
    return float(weights @ found[columns, -1]) / spread**0.5 if spread > 1e-15 else float("nan")


def _own(moments: Floats) -> float:
    """Each group of blocks by the model of the other groups."""
    total = moments.sum(axis=0)
    counts = moments[:, 0, 0]
    if np.count_nonzero(counts) < 2:
        return float("nan")
    found = [
        (_correlation(moments[group], fitted(total - moments[group], ALL), ALL), counts[group])
        for group in range(GROUPS)
        if counts[group]
    ]
    known = [(value, weight) for value, weight in found if np.isfinite(value)]
    return float(np.average([one for one, _ in known], weights=[one for _, one in known])) if known else float("nan")


def unit_moments(moments: Floats) -> Floats:
    """Means of products of features of unit variance: volumes of any contrast compare."""
    if moments[0, 0] == 0:
        return moments
    spread = np.sqrt(np.maximum(np.diag(covariance(moments)), 1e-12))
    spread[[0, -1]] = 1.0
    unit: Floats = moments / np.outer(spread, spread) / moments[0, 0]
    return unit


def _likeness(units: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
    """Each volume, and its negative, by the model of the others.

    In a second round those take no part that were unlike the first.
    """
    told = [case for case, unit in units.items() if unit[0, 0]]
    found = dict.fromkeys(units, (float("nan"), float("nan")))
    fit = told
    for _ in range(2):
        for case in told:
            model = [units[other] for other in fit if other != case]
            if model:
                weights = fitted(np.sum(model, axis=0), INVARIANT)
                turned = NEGATIVE[:, None] * units[case][np.ix_(SWAPPED, SWAPPED)] * NEGATIVE
                found[case] = (_correlation(units[case], weights, INVARIANT), _correlation(turned, weights, INVARIANT))
        known = [found[case][0] for case in told if np.isfinite(found[case][0])]
        middle = float(np.median(known)) if known else 0.0
        fit = [case for case in told if found[case][0] > max(middle / 3, found[case][1])] or told
    return found


def _negative() -> tuple[NDArray[np.intp], Floats]:
    """What becomes of the features where black and white change places: other features, with these signs."""
    order, sign = np.arange(FEATURES + 2), np.ones(FEATURES + 2)
    sign[1 : JET + 1] = -1
    for number, name in enumerate(INVARIANTS, start=JET + 1):
        kind, _, scale = name.partition(" ")
        sign[number] = -1 if kind in ("grey", "bend") else 1
        other = {"ridge": "hollow", "hollow": "ridge"}.get(kind, kind)
        order[number] = JET + 1 + INVARIANTS.index(f"{other} {scale}")
    return order, sign


SWAPPED, NEGATIVE = _negative()
