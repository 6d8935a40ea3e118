"""How far one gets without learning: a constant, an intensity threshold and an edge filter, each tuned on the truth.

A model's score means little by itself. These are the best that trivial methods can do, and they are flattered on
purpose: one setting for all volumes, but chosen **on the truth they are scored on**, which a model never sees. A model
that does not clearly beat them has not learnt to read surfaces.

The search is exhaustive where it is cheap and short where it is not: cumulative histograms give the Dice of every band
of a filter's values in one pass over the volume; the leaderboard score is tried on a short list around the best Dice.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.sheetness import by_slabs, derivative, hessian_sheetness
from volumen.errors import UserError
from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels, mean_of_known, overlap

Image = npt.NDArray[np.generic]
Mask = npt.NDArray[np.uint8]
FloatVolume = npt.NDArray[np.float32]
Objective = Literal["dice", "leaderboard"]
Case = tuple[str, Image, npt.NDArray[np.uint8]]  # id, image [Z,Y,X], label [Z,Y,X] in canonical codes


def gaussian_smoothing(image: Image, sigma_voxels: float) -> FloatVolume:
    """The image [Z,Y,X] as float32, Gaussian-smoothed; sigma 0 leaves it as it is."""
    if sigma_voxels == 0:
        return image.astype(np.float32)
    return by_slabs(lambda slab: derivative(slab, sigma_voxels, (0, 0, 0)), image, sigma_voxels)


def gradient_magnitude(image: Image, sigma_voxels: float) -> FloatVolume:
    """Length of the Gaussian gradient [Z,Y,X], in grey levels per voxel."""

    def magnitude(slab: FloatVolume) -> FloatVolume:
        total = np.zeros_like(slab)
        for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            total += np.square(derivative(slab, sigma_voxels, order))
        return np.asarray(np.sqrt(total), dtype=np.float32)

    return by_slabs(magnitude, image, sigma_voxels)


FILTERS: Mapping[str, Callable[[Image, float], FloatVolume]] = {
    "intensity": gaussian_smoothing,
    "gradient_magnitude": gradient_magnitude,
    "hessian_sheetness": hessian_sheetness,
}
INTENSITY_SIGMAS = (0.0, 0.7, 1.0, 1.5, 2.0)
EDGE_SIGMAS = (1.0, 1.5, 2.0, 3.0)
LEVELS = 255  # thresholds tried per filter: quantiles of its values
QUANTILE_SAMPLE = 200_000  # voxels per case that the quantiles are taken from
SHARES_TRIED = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)  # of the short list, relative to the best Dice's
EXACT_CANDIDATES = 2


@dataclass(frozen=True)
class Baseline:
    """A tuned trivial method and what it scores, on the very truth it was tuned on.

    `mask_of(image[Z,Y,X])` gives its uint8 mask of 0 and 1; `per_case` its score by case id, `mean` their mean, both in
    the unit of `objective`. `parameters` are plain numbers and words; an open end of a band is None.
    """

    name: str
    objective: Objective
    parameters: dict[str, float | str | None]
    mask_of: Callable[[Image], Mask]
    per_case: dict[str, float]
    mean: float


@dataclass(frozen=True)
class Rule:
    """Surface is where `low <= filter(image) < high`."""

    filter_name: str
    sigma_voxels: float
    low: float
    high: float

    def mask(self, image: Image) -> Mask:
        """The mask [Z,Y,X] of an image [Z,Y,X]."""
        return self.cut(FILTERS[self.filter_name](image, self.sigma_voxels))

    def cut(self, values: FloatVolume) -> Mask:
        """The mask, given the filter's values."""
        return ((values >= np.float32(self.low)) & (values < np.float32(self.high))).astype(np.uint8)

    def parameters(self) -> dict[str, float | str | None]:
        return {
            "filter": self.filter_name,
            "sigma_voxels": self.sigma_voxels,
            "low": self.low if np.isfinite(self.low) else None,
            "high": self.high if np.isfinite(self.high) else None,
        }


@dataclass(frozen=True)
class _Bands:
    """Mean Dice and predicted share of a filter's every band: [first bin, bin after the last], -1 where forbidden."""

    filter_name: str
    sigma_voxels: float
    edges: FloatVolume
    dice: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]

    def rule(self, option: tuple[int, int]) -> Rule:
        first, end = option
        low = float(self.edges[first - 1]) if first > 0 else -np.inf
        high = float(self.edges[end - 1]) if end <= len(self.edges) else np.inf
        return Rule(self.filter_name, self.sigma_voxels, low, high)

    def best(self) -> tuple[int, int]:
        first, end = np.unravel_index(int(self.dice.argmax()), self.dice.shape)
        return int(first), int(end)

    def around_best(self) -> list[Rule]:
        """The best band for each of a few predicted shares, from half to three times that of the best Dice."""
        aim = self.share[self.best()]
        options = [self.best()]
        for factor in SHARES_TRIED:
            near = np.abs(np.log(np.maximum(self.share, 1e-12) / max(factor * aim, 1e-12))) < 0.08
            dice = np.where(near, self.dice, -1)
            first, end = np.unravel_index(int(dice.argmax()), dice.shape)
            if dice[first, end] >= 0:
                options.append((int(first), int(end)))
        return [self.rule(option) for option in dict.fromkeys(options)]


def best_constant(cases: Sequence[Case], objective: Objective) -> Baseline:
    """The better of predicting background everywhere and surface everywhere, chosen on the truth."""
    _check(cases, objective)
    tried = [
        _scored(
            "constant",
            objective,
            {"value": value},
            partial(_constant_mask, value=code),
            [_score(np.full(label.shape, code, np.uint8), label, objective) for _, _, label in cases],
            cases,
        )
        for value, code in (("background", 0), ("surface", 1))
    ]
    return max(tried, key=_rank)


def tuned_intensity_threshold(cases: Sequence[Case], objective: Objective) -> Baseline:
    """The best band of grey levels, bounded on one side or both, after light smoothing; **tuned on the truth**.

    Every pair of 255 quantiles is tried as a band for Dice; for the leaderboard, a short list around the best.

    Arguments: `cases` as (id, image [Z,Y,X], label [Z,Y,X] in canonical codes), one setting for all; `objective` is the
    mean per-case score to maximise, "dice" or "leaderboard". Raises: UserError for cases that do not fit together.
    """
    _check(cases, objective)
    tables = [_bands(cases, "intensity", sigma, two_sided=True) for sigma in INTENSITY_SIGMAS]
    shortlisted = sorted(tables, key=lambda table: -table.dice.max())[:2]
    return _tuned("intensity threshold", cases, objective, shortlisted)


def tuned_edge_filter(cases: Sequence[Case], objective: Objective) -> Baseline:
    """The best edge filter, scale, sign and threshold; **tuned on the truth**.

    Tried are the Gaussian gradient's magnitude (both faces of a sheet against air) and the Hessian's eigenvalue of
    largest magnitude (a bright sheet is negative, a dark gap positive; after Frangi et al. 1998), above or below each
    of 255 quantiles, at scales of 1 to 3 voxels. Arguments and errors as for `tuned_intensity_threshold`.
    """
    _check(cases, objective)
    best_of_each = []
    for name in ("gradient_magnitude", "hessian_sheetness"):
        tables = [_bands(cases, name, sigma, two_sided=False) for sigma in EDGE_SIGMAS]
        best_of_each.append(max(tables, key=lambda table: table.dice.max()))
    return _tuned("edge filter", cases, objective, best_of_each)


def _check(cases: Sequence[Case], objective: str) -> None:
    if objective not in ("dice", "leaderboard"):
        raise UserError(f"baseline objective {objective!r} is unknown: use 'dice' or 'leaderboard'")
    if not cases:
        raise UserError("baselines need at least one labelled case, got none")
    for identity, image, label in cases:
        if image.shape != label.shape or label.ndim != 3:
            raise UserError(
                f"baseline case {identity}: expected image and label of one shape [Z,Y,X], "
                f"got {image.shape} and {label.shape}"
            )
        strange = set(np.unique(label).tolist()) - {BACKGROUND, SURFACE, IGNORE}
        if strange:
            raise UserError(
                f"baseline case {identity}: label values {sorted(strange)} are not canonical codes "
                f"({BACKGROUND}, {SURFACE}, {IGNORE}): map them first, as `volumen prepare` does"
            )
    if len({identity for identity, _, _ in cases}) < len(cases):
        raise UserError("baseline cases: expected distinct ids, got one twice")


def _constant_mask(image: Image, value: int) -> Mask:
    return np.full(image.shape, value, dtype=np.uint8)


def _bands(cases: Sequence[Case], filter_name: str, sigma: float, *, two_sided: bool) -> _Bands:
    """Dice of every band of a filter's values, from one cumulative histogram per case and class."""
    volumes = [FILTERS[filter_name](image, sigma) for _, image, _ in cases]
    samples = []
    for values, (_, _, label) in zip(volumes, cases, strict=True):
        known = values[label != IGNORE]
        samples.append(known[:: max(1, known.size // QUANTILE_SAMPLE)])
    pooled = np.concatenate(samples)
    # A case without one labelled voxel has nothing to take quantiles of; then every band is as good as another.
    edges = (
        np.unique(np.quantile(pooled, np.linspace(0, 1, LEVELS + 2)[1:-1]).astype(np.float32))
        if pooled.size
        else (np.zeros(1, np.float32))
    )
    count = len(edges) + 1
    dice = np.zeros((count + 1, count + 1))
    predicted_total, scored = np.zeros_like(dice), np.zeros_like(dice)
    for values, (_, _, label) in zip(volumes, cases, strict=True):
        bins = np.searchsorted(edges, values.ravel(), side="right").reshape(values.shape)
        hits, known = (
            np.concatenate([[0], np.cumsum(np.bincount(bins[chosen], minlength=count))])
            for chosen in (label == SURFACE, label != IGNORE)
        )
        true_positive, predicted = hits[None, :] - hits[:, None], known[None, :] - known[:, None]
        total = predicted + hits[-1]
        dice += np.where(total > 0, 2 * true_positive / np.maximum(total, 1), 0.0)
        scored += total > 0  # 0/0 has no value
        predicted_total += predicted
    first, end = np.indices(dice.shape)
    allowed = (first < end) if two_sided else (first < end) & ((first == 0) | (end == count))
    valid_voxels = sum(int((label != IGNORE).sum()) for _, _, label in cases)
    return _Bands(
        filter_name=filter_name,
        sigma_voxels=sigma,
        edges=edges,
        dice=np.where(allowed & (scored > 0), dice / np.maximum(scored, 1), -1.0),
        share=np.where(allowed, predicted_total / max(valid_voxels, 1), 0.0),
    )


def _tuned(name: str, cases: Sequence[Case], objective: Objective, tables: Sequence[_Bands]) -> Baseline:
    if objective == "dice":
        best = max(tables, key=lambda table: table.dice.max())
        finalists = [best.rule(best.best())]
    else:
        quick = [
            (float(np.mean(scores)), rule)
            for table in tables
            for rule, scores in _quick_scores(cases, table.around_best())
        ]
        finalists = [rule for _, rule in sorted(quick, key=lambda pair: -pair[0])[:EXACT_CANDIDATES]]
    scored = [
        _scored(
            name,
            objective,
            rule.parameters(),
            rule.mask,
            [_score(rule.mask(image), label, objective) for _, image, label in cases],
            cases,
        )
        for rule in finalists
    ]
    return max(scored, key=_rank)


def _quick_scores(cases: Sequence[Case], rules: Sequence[Rule]) -> Iterator[tuple[Rule, list[float]]]:
    """Leaderboard scores without matching tunnels, of rules that share one filter; the filter runs once per case."""
    scores: list[list[float]] = [[] for _ in rules]
    for _, image, label in cases:
        values = FILTERS[rules[0].filter_name](image, rules[0].sigma_voxels)
        for rule, found in zip(rules, scores, strict=True):
            found.append(leaderboard_without_matching_tunnels(rule.cut(values), label, ignore_label=IGNORE).score)
    return zip(rules, scores, strict=True)


def _rank(baseline: Baseline) -> float:
    """By the mean; without a value there was nothing to find, and nothing was found."""
    return math.inf if math.isnan(baseline.mean) else baseline.mean


def _score(mask: Mask, label: npt.NDArray[np.uint8], objective: Objective) -> float:
    if objective == "dice":
        return float(overlap(mask, label, ignore_label=IGNORE).dice)
    return float(leaderboard(mask, label, ignore_label=IGNORE).score)


def _scored(
    name: str,
    objective: Objective,
    parameters: Mapping[str, float | str | None],
    mask_of: Callable[[Image], Mask],
    scores: Sequence[float],
    cases: Sequence[Case],
) -> Baseline:
    per_case = {identity: score for (identity, _, _), score in zip(cases, scores, strict=True)}
    return Baseline(name, objective, dict(parameters), mask_of, per_case, mean_of_known(scores))
