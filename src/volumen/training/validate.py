"""Validation: every labelled voxel of the held-out volumes, the same way each time.

The whole volume is predicted once; the loss terms are taken on large fixed blocks of the stitched logits and the
metrics on the whole mask. Nothing is drawn at random, so two validations differ only by their weights. Crops in place
of whole volumes are a function of the seed, and of the epoch only where the configuration asks for fresh ones.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.labels import IGNORE, SURFACE
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import Recipe
from volumen.losses import CompositeLoss
from volumen.metrics import leaderboard, leaderboard_without_matching_tunnels, mean_of_known, overlap, ratio
from volumen.metrics.table import validated_values
from volumen.postprocess import probabilities_from_logits
from volumen.system.output import Tally, unheard
from volumen.system.stopping import raise_if_wanted
from volumen.training.distributed import ALONE, World
from volumen.training.regions import validation_regions
from volumen.training.sharing import my_cases

BLOCK = 160  # voxels along an axis: the loss's memory stays bounded however large the volume is


SHOWN_CASES = 2
SHOWN_SIDE = 384  # voxels: of larger slices every n-th one is kept


@dataclass(frozen=True)
class Shown:
    """The middle slice of a case, to look at: image (normalised), truth (label codes) and mask, each [Y, X]."""

    case: str
    image: NDArray[np.float16]
    truth: NDArray[np.uint8]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Validation:
    """The record of one validation; means over the cases that have a value, and each case's own numbers."""

    total: float
    raw: dict[str, float]
    weighted: dict[str, float]
    metrics: dict[str, float]
    cases: dict[str, dict[str, float]]
    seconds: float
    shown: tuple[Shown, ...] = field(default=(), compare=False, repr=False)
    """Of the first cases; not in the record."""

    def record(self) -> dict[str, Any]:
        """As it stands in `metrics.jsonl`."""
        return {
            "total": self.total,
            "terms": self.raw,
            "weighted": self.weighted,
            "metrics": self.metrics,
            "predicted_share": self.metrics["predicted_share"],
            "true_share": self.metrics["true_share"],
            "cases": self.cases,
            "seconds": self.seconds,
        }


def validate(
    predictor: Predictor,
    objective: CompositeLoss,
    dataset: PreparedDataset,
    case_ids: Sequence[str],
    config: Config,
    epoch: int = 0,
    progress: Tally = unheard,
    world: World = ALONE,
) -> Validation:
    """Score the weights now in the predictor's model on whole volumes, or on the crops that the configuration names.

    Args:
        predictor: Its model holds the weights to validate.
        objective: Terms and weights of this epoch, for the validation loss.
        dataset: Prepared volumes.
        case_ids: The held-out cases.
        config: Normalisation, post-processing, selection metric, and protocol.
        epoch: Decides which crops are drawn where they are drawn anew.
        progress: Told how many of how many cases are done; of several ranks, each is told of its own.
        world: The ranks that share out the cases; all of them are given all results, in the cases' order.
    """
    started = time.perf_counter()
    mine = my_cases(case_ids, {name: dataset.case(name).shape for name in case_ids}, world)
    parts = world.gather(lambda: _score(predictor, objective, dataset, case_ids, mine, config, epoch, progress))
    found = dict(sorted(chain(*(part.items() for part in parts))))
    losses = [loss for one in found.values() for loss in one.losses]
    cases = {case_ids[number]: one.metrics for number, one in found.items()}
    return Validation(
        total=mean_of_known(total for total, _, _ in losses),
        raw=_mean([raw for _, raw, _ in losses]),
        weighted=_mean([weighted for _, _, weighted in losses]),
        metrics=_mean(list(cases.values())),
        cases=cases,
        seconds=time.perf_counter() - started,
        shown=tuple(one.shown for one in found.values() if one.shown is not None),
    )


@dataclass(frozen=True)
class _Scored:
    """One case: total, raw and weighted terms of each region, and the mean of their metrics."""

    losses: list[tuple[float, dict[str, float], dict[str, float]]]
    metrics: dict[str, float]
    shown: Shown | None


def _score(
    predictor: Predictor,
    objective: CompositeLoss,
    dataset: PreparedDataset,
    case_ids: Sequence[str],
    numbers: Sequence[int],
    config: Config,
    epoch: int,
    progress: Tally,
) -> dict[int, _Scored]:
    """The cases of these numbers."""
    recipe = Recipe(predictor, config.data.normalisation, config.postprocessing)
    scored: dict[int, _Scored] = {}
    for done, number in enumerate(numbers):
        case_id = case_ids[number]
        progress(done, len(numbers))
        raise_if_wanted()
        losses: list[tuple[float, dict[str, float], dict[str, float]]] = []
        shown: Shown | None = None
        label, lesson, scan = (np.asarray(dataset.label(case_id)), dataset.lesson(case_id), dataset.scan(case_id))
        image = recipe.normalised(np.asarray(dataset.image(case_id)), dataset.case(case_id).statistics)
        found = []
        for region in validation_regions(config, lesson, number, epoch):
            there = None if scan is None else scan[region]
            logits = predictor.logits(image[region], there)
            losses.append(loss_on_blocks(objective, logits, np.asarray(lesson[region])))
            mask = recipe.mask(probabilities_from_logits(logits), there)
            if shown is None and number < SHOWN_CASES:
                shown = _middle(case_id, image[region], label[region], mask)
            found.append(
                mask_metrics(mask, label[region], full=config.training.selection_metric in ("leaderboard", "topo"))
            )
        scored[number] = _Scored(losses, _mean(found), shown)
    return scored


def mask_metrics(mask: NDArray[np.uint8], label: NDArray[np.uint8], *, full: bool) -> dict[str, float]:
    """Metrics of a mask [Z, Y, X] against canonical codes, by name.

    Args:
        mask: 0 and 1.
        label: Truth.
        full: Exact `leaderboard` and `topo`; otherwise `leaderboard_quick`, an upper bound for the matched tunnels.
    """
    score = (leaderboard if full else leaderboard_without_matching_tunnels)(mask, label)
    return validated_values(score, overlap(mask, label), exact=full)


def loss_on_blocks(
    objective: CompositeLoss, logits: NDArray[np.float32], label: NDArray[np.uint8]
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Total, raw and weighted terms on blocks of a volume [Z, Y, X], averaged by their labelled voxels."""
    total, raw, weighted, weight_sum = 0.0, dict[str, float](), dict[str, float](), 0
    for block in _blocks(label.shape):
        valid = label[block] != IGNORE
        count = int(valid.sum())
        if count == 0:
            continue
        raise_if_wanted()
        with torch.no_grad():
            breakdown = objective(
                torch.from_numpy(np.ascontiguousarray(logits[block]))[None, None],
                torch.from_numpy((label[block] == SURFACE).astype(np.uint8))[None],
                torch.from_numpy(valid)[None],
            )
        weight_sum += count
        total += count * float(breakdown.total)
        for sums, values in ((raw, breakdown.raw), (weighted, breakdown.weighted)):
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + count * float(value)
    return (
        ratio(total, weight_sum),
        {name: ratio(value, weight_sum) for name, value in raw.items()},
        {name: ratio(value, weight_sum) for name, value in weighted.items()},
    )


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    cuts = [np.linspace(0, side, -(-side // BLOCK) + 1).astype(int) for side in shape]
    spans = [[slice(int(a), int(b)) for a, b in pairwise(cut)] for cut in cuts]
    return [(z, y, x) for z in spans[0] for y in spans[1] for x in spans[2]]


def _middle(case: str, image: NDArray[np.float32], label: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Shown:
    """A copy of the slice in the middle of a volume [Z, Y, X]."""
    middle, step = image.shape[0] // 2, -(-max(image.shape[1:]) // SHOWN_SIDE)
    plane = (middle, slice(None, None, step), slice(None, None, step))
    return Shown(case, np.clip(image[plane], -6e4, 6e4).astype(np.float16), label[plane].copy(), mask[plane].copy())


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: mean_of_known(row[name] for row in rows if name in row) for name in dict.fromkeys(chain(*rows))}
