"""Validation: every labelled voxel of the held-out volumes, the same way each time.

The whole volume is predicted once; the loss terms are taken on large fixed blocks of the stitched logits and the
metrics on the whole mask. Nothing is drawn at random, so two validations differ only by their weights. Crops in place
of whole volumes are a function of the seed, and of the epoch only where the configuration asks for fresh ones.

On a card, mask and metrics of one volume are computed while the next is predicted; the numbers are the same.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
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
from volumen.metrics import mean_of_known, overlap, ratio
from volumen.metrics.leaderboard import Definition, Truth, analyse_truth, score_masks
from volumen.metrics.masks import binarise
from volumen.metrics.table import validated_values
from volumen.postprocess import probabilities_from_logits
from volumen.system.output import Tally, unheard
from volumen.system.stopping import raise_if_wanted
from volumen.training.behind import Behind, threads_beside
from volumen.training.distributed import ALONE, World
from volumen.training.regions import validation_regions
from volumen.training.sharing import my_cases

BLOCK = 160  # voxels along an axis: the loss's memory stays bounded however large the volume is


SHOWN_CASES = 2
SHOWN_SIDE = 384  # voxels: of larger slices every n-th one is kept
DEFINITION = Definition(ignore_label=IGNORE)
MOST_TRUTHS = 32  # cases: of 320^3 voxels each holds some 30 MB

Truths = dict[str, Truth]
"""What was found of held-out volumes' truths, by case, for the next validation."""
Scored = tuple[int, dict[str, float], "Shown | None"]
"""Number of a case, metrics of one region of it, and what is shown."""


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
    truths: Truths | None = None,
    threads: int | None = None,
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
        progress: Told how many of how many cases are predicted; of several ranks, each is told of its own.
        truths: What earlier validations of the same volumes found; added to.
        threads: Masks and metrics that are computed while the next volume is predicted; None decides by the device.
            The result does not depend on it.
        world: The ranks that share out the cases; all of them are given all results, in the cases' order.

    Raises:
        StopWanted: Somebody asked to stop.
    """
    started = time.perf_counter()
    mine = my_cases(case_ids, {name: dataset.case(name).shape for name in case_ids}, world)
    known = truths if truths is not None and config.training.validation.kind == "full" else None
    threads = threads_beside(predictor.device) if threads is None else threads

    def own() -> dict[int, _Case]:
        recipe = Recipe(predictor, config.data.normalisation, config.postprocessing)
        return _score_cases(recipe, objective, dataset, case_ids, mine, config, epoch, progress, known, threads)

    found = dict(sorted(chain(*(part.items() for part in world.gather(own)))))
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
class _Case:
    """One case: total, raw and weighted terms of each region, and the mean of their metrics."""

    losses: list[tuple[float, dict[str, float], dict[str, float]]]
    metrics: dict[str, float]
    shown: Shown | None


def _score_cases(
    recipe: Recipe,
    objective: CompositeLoss,
    dataset: PreparedDataset,
    case_ids: Sequence[str],
    numbers: Sequence[int],
    config: Config,
    epoch: int,
    progress: Tally,
    truths: Truths | None,
    threads: int,
) -> dict[int, _Case]:
    """The cases of these numbers."""
    predictor = recipe.predictor
    losses = {number: list[tuple[float, dict[str, float], dict[str, float]]]() for number in numbers}
    with Behind[Scored](threads) as work:
        for done, number in enumerate(numbers):
            case_id = case_ids[number]
            progress(done, len(numbers))
            raise_if_wanted()
            label, lesson, scan = (np.asarray(dataset.label(case_id)), dataset.lesson(case_id), dataset.scan(case_id))
            image = recipe.normalised(np.asarray(dataset.image(case_id)), dataset.case(case_id).statistics)
            for place, region in enumerate(validation_regions(config, lesson, number, epoch)):
                there = None if scan is None else scan[region]
                logits = predictor.logits(image[region], there)
                losses[number].append(loss_on_blocks(objective, logits, np.asarray(lesson[region]), predictor.device))
                looked_at = image[region] if number < SHOWN_CASES and place == 0 else None
                work.add(
                    partial(_score, number, case_id, recipe, config, logits, label[region], there, looked_at, truths)
                )
        scored = work.results()
    regions = {number: [one for one in scored if one[0] == number] for number in numbers}
    return {
        number: _Case(
            losses[number],
            _mean([metrics for _, metrics, _ in found]),
            next((shown for _, _, shown in found if shown is not None), None),
        )
        for number, found in regions.items()
    }


def _score(
    number: int,
    case: str,
    recipe: Recipe,
    config: Config,
    logits: NDArray[np.float32],
    label: NDArray[np.uint8],
    scan: NDArray[np.bool_] | None,
    image: NDArray[np.float32] | None,
    truths: Truths | None,
) -> Scored:
    """Mask and metrics of a region; touches no device."""
    mask = recipe.mask(probabilities_from_logits(logits), scan)
    full, truth = config.training.selection_metric in ("leaderboard", "topo"), None
    if truths is not None and (case in truths or len(truths) < MOST_TRUTHS):
        if case not in truths:
            truths[case] = analyse_truth(binarise(mask, label, IGNORE).truth, DEFINITION)
        truth = truths[case]
    metrics = mask_metrics(mask, label, full=full, truth=truth)
    return number, metrics, None if image is None else _middle(case, image, label, mask)


def mask_metrics(
    mask: NDArray[np.uint8], label: NDArray[np.uint8], *, full: bool, truth: Truth | None = None
) -> dict[str, float]:
    """Metrics of a mask [Z, Y, X] against canonical codes, by name.

    Args:
        mask: 0 and 1.
        label: Truth.
        full: Exact `leaderboard` and `topo`; otherwise `leaderboard_quick`, an upper bound for the matched tunnels.
        truth: What is known of the label already, as `analyse_truth` with `DEFINITION` finds it.
    """
    score = score_masks(binarise(mask, label, IGNORE), DEFINITION, truth, match_tunnels=full)
    return validated_values(score, overlap(mask, label), exact=full)


def loss_on_blocks(
    objective: CompositeLoss,
    logits: NDArray[np.float32],
    label: NDArray[np.uint8],
    device: torch.device | str = "cpu",
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Total, raw and weighted terms on blocks of a volume [Z, Y, X], averaged by their labelled voxels.

    They are computed on a device.
    """
    total, raw, weighted, weight_sum = 0.0, dict[str, float](), dict[str, float](), 0
    for block in _blocks(label.shape):
        valid = label[block] != IGNORE
        count = int(valid.sum())
        if count == 0:
            continue
        raise_if_wanted()
        with torch.no_grad():
            breakdown = objective(
                torch.from_numpy(np.ascontiguousarray(logits[block])).to(device)[None, None],
                torch.from_numpy((label[block] == SURFACE).astype(np.uint8)).to(device)[None],
                torch.from_numpy(valid).to(device)[None],
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
