"""What post-processing leaves of the truth: the configured steps, run on the labels themselves.

A step that takes away much of a perfect prediction takes as much of any good one. The labels are given as
probabilities near 0 and 1; besides, blurred a little, as a network that is good but not perfect would give them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.config.postprocessing import (
    Hysteresis,
    Median,
    PatchSheets,
    Postprocessing,
    RemoveSmallComponents,
    SharpenRidges,
    SplitFused,
    Step,
    Threshold,
)
from volumen.data.labels import IGNORE, SURFACE
from volumen.doctor.context import Context, once
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.knowledge import blurred, expected_dice, sigma_for
from volumen.metrics import leaderboard_without_matching_tunnels, overlap
from volumen.postprocess.pipeline import walk

VOLUMES, MOST_SIDE, DOUBTED_SIDE = 2, 192, 96
ON_PREDICTIONS = (Hysteresis, SharpenRidges, SplitFused, Median)
"""Steps that are judged by what they do to blurred labels."""
SLOW = (PatchSheets, SplitFused)
NEARLY = 1e-4
"""Probability of surface where there is none, and of none where there is."""
GOOD_DICE = 0.9
"""Of the blurred labels at their best threshold: a good network's."""
HARMFUL, HARMFUL_IN_DOUBT, RUINOUS = 0.10, 0.30, 0.40
"""Share of the score (of the truth, or of the blurred labels by a plain threshold) that the steps cost."""
HARMFUL_HYSTERESIS = (0.05, 0.085)
"""Of blurred labels' score and Dice, both of which it costs; measured on sheets, shells, balls, phantoms and crops: low
0.3 with high 0.7 or 0.85 costs 0.01 to 0.13 of the score and at most 0.07 of the Dice, low 0.78 with high 0.988 0.03 to
0.15 of the Dice."""
DICE_LOST, MASKS_ALONE = 0.05, ("open", "close", "remove_small_components")
"""Dice of the labels themselves, which no prediction can win back: these steps are called harmful from here on."""
HARMFUL_MEDIAN = (0.25, 0.15)
"""Of blurred labels' score and Dice, both of which it costs: what it takes of the labels themselves are steps and
spikes, which predictions have not. Measured: up to 0.17 and 0.09, 0.3 of the labels themselves."""
CHANGED = 0.002
"""Of the surface: masks that differ by fewer voxels score alike."""


@dataclass(frozen=True)
class Left:
    """What the steps leave of a prediction."""

    before: float
    """Score of the truth, or of the best plain threshold."""
    after: float
    worst: int
    """Place of the step that costs most."""
    cost: float
    """What that step takes of the score."""
    empty: bool
    """Whether nothing is left of surface that there was."""
    dice: float = 1.0
    """Of the end and the labels."""

    @property
    def lost(self) -> float:
        """Share of the score."""
        return max(0.0, 1 - self.after / max(self.before, 1e-9))


def score_of(mask: NDArray[np.uint8], label: NDArray[np.uint8]) -> float:
    """Mean of Dice and of the leaderboard's score without matched tunnels."""
    dice = overlap(mask, label).dice
    score = leaderboard_without_matching_tunnels(mask, label).score
    return float((np.nan_to_num(dice) + score) / 2)


def what_is_left(
    probabilities: NDArray[np.float32],
    label: NDArray[np.uint8],
    settings: Postprocessing,
    before: float,
    scan: NDArray[np.bool_] | None = None,
) -> Left:
    """Run the steps; score their end, and each of them where they cost much.

    Args:
        probabilities: float32 [Z, Y, X].
        label: Canonical codes [Z, Y, X].
        settings: The steps.
        before: Score without them.
        scan: Where the scan holds something.
    """
    masks = [state.mask for _, state in walk(probabilities, settings, scan)]
    last = masks[-1]
    if last is None:
        raise RuntimeError("no step decides between surface and background")  # the schema refuses that
    surface = label == SURFACE
    changed = int(((last > 0) != surface)[label != IGNORE].sum())
    after = before if changed < CHANGED * int(surface.sum()) else score_of(last, label)
    empty = not last[surface].any()
    first = next(place for place, mask in enumerate(masks) if mask is not None)
    dice = float(np.nan_to_num(overlap(last, label).dice))
    if after >= before * (1 - HARMFUL) and 1 - dice <= DICE_LOST:
        return Left(before, after, first, before - after, empty, dice)
    scores = [before, *(score_of(mask, label) for mask in masks[first:] if mask is not None)]
    drops = -np.diff(scores)
    return Left(before, after, first + int(np.argmax(drops)), float(drops.max()), empty, dice)


def scaled(settings: Postprocessing, share: float) -> Postprocessing:
    """The steps with the least size of components as large as this share of a whole component's."""
    if share >= 1:
        return settings
    steps: list[Step] = [
        step.model_copy(update={"minimum_voxels": max(1, round(step.minimum_voxels * share))})
        if isinstance(step, RemoveSmallComponents) and step.minimum_voxels
        else step
        for step in settings.steps
    ]
    return settings.model_copy(update={"steps": tuple(steps)})


@dataclass(frozen=True)
class Masks:
    """What post-processing leaves of held-out volumes."""

    truth: tuple[Left, ...]
    blurred: tuple[Left, ...]
    cases: tuple[str, ...]
    largest: int
    """Voxels of the largest component of surface."""
    thickness: float
    """Mean thickness of the surface, in voxels."""


@once
def masks_of(context: Context) -> Masks | None:
    """The steps on the labels of some held-out volumes; None where none has surface, or no step can take any away."""
    settings, dataset = context.config.postprocessing, context.dataset
    parts = (context.validation, context.training)
    most = [sorted(part, key=lambda name: -dataset.case(name).scanned_surface) for part in parts]
    ids = [name for part in most for name in part if dataset.case(name).scanned_surface][:VOLUMES]
    if not ids or all(isinstance(step, Threshold) for step in settings.steps):
        return None
    largest = 0
    truth: list[Left] = []
    unsure: list[Left] = []
    thickness: list[float] = []
    doubted_too = any(isinstance(step, ON_PREDICTIONS) for step in settings.steps)
    slow = any(isinstance(step, SLOW) for step in settings.steps)
    for name in ids:
        label, whole = _block(context, name, DOUBTED_SIDE if slow else MOST_SIDE)
        fitted = scaled(settings, (label.size / whole) ** (2 / 3) * float((label != IGNORE).mean()))
        surface = label == SURFACE
        certain = np.where(_continued(label) == SURFACE, 1 - NEARLY, NEARLY).astype(np.float32)
        truth.append(what_is_left(certain, label, fitted, 1.0))
        if doubted_too and not unsure:
            unsure.append(_of_blurred(label, fitted, label.size / whole))
        sizes = np.bincount(cc3d.connected_components(surface, connectivity=26).ravel())[1:]
        largest = max(largest, int(sizes.max(initial=0)))
        faces = sum(int((surface[_after(axis)] != surface[_before(axis)]).sum()) for axis in range(3))
        thickness.append(2 * surface.sum() / max(faces / 1.5, 1))  # a tilted sheet shows 1.5 faces a unit on average
    return Masks(tuple(truth), tuple(unsure), tuple(ids), largest, float(np.mean(thickness)))


def _continued(label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where there is no label, the nearest one: a network goes on there, and steps do not meet a border."""
    unknown = label == IGNORE
    if not unknown.any() or unknown.all():
        return label
    nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
    found: NDArray[np.uint8] = label[tuple(nearest)]
    return found


def _of_blurred(label: NDArray[np.uint8], settings: Postprocessing, share: float) -> Left:
    """The steps on the labels of a block, made as uncertain as a good network's answers."""
    cut = tuple(slice(max(0, (side - DOUBTED_SIDE) // 2), (side + DOUBTED_SIDE) // 2) for side in label.shape)
    part = np.ascontiguousarray(label[cut]) if (label[cut] == SURFACE).any() else label
    sigma = sigma_for(part, GOOD_DICE)
    doubted = blurred(part, sigma)
    known = part != IGNORE
    level = expected_dice(doubted[known], doubted[known]).best_level
    before = score_of((doubted > level).astype(np.uint8), part)
    return what_is_left(doubted, part, scaled(settings, (part.size / label.size) ** (2 / 3)), before)


def _after(axis: int) -> tuple[slice, ...]:
    return tuple(slice(1, None) if one == axis else slice(None) for one in range(3))


def _before(axis: int) -> tuple[slice, ...]:
    return tuple(slice(None, -1) if one == axis else slice(None) for one in range(3))


def _block(context: Context, name: str, most: int) -> tuple[NDArray[np.uint8], int]:
    """The labels of a volume, of a large one its middle, and the voxels of the whole."""
    lesson = context.dataset.lesson(name)
    cut = tuple(
        slice(max(0, (side - most) // 2), max(0, (side - most) // 2) + min(side, most)) for side in lesson.shape
    )
    return np.asarray(lesson[cut], np.uint8), int(np.prod(lesson.shape))


def check_masks(context: Context) -> Iterator[Finding]:
    """Whether post-processing takes away the truth."""
    found = masks_of(context)
    if found is None:
        return
    for rows, what, bar in (
        (found.truth, "the labels", HARMFUL),
        (found.blurred, "blurred labels", HARMFUL_IN_DOUBT),
    ):
        if not rows:
            continue
        lost, dice = (float(np.mean([getattr(row, one) for row in rows])) for one in ("lost", "dice"))
        worst = max(rows, key=lambda row: row.cost)
        step = context.config.postprocessing.steps[worst.worst]
        of_labels = rows is found.truth and step.kind in MASKS_ALONE and 1 - dice > DICE_LOST
        if not of_labels and not _harms(step, lost, 1 - dice, bar, of_truth=rows is found.truth):
            continue
        if isinstance(step, Threshold):
            return  # the threshold's place is the operating point's business
        before, after = (float(np.mean([getattr(row, one) for row in rows])) for one in ("before", "after"))
        ruined = lost >= RUINOUS or all(row.empty for row in rows)
        yield Finding(
            code="P3",
            severity=Severity.stop if ruined else Severity.warn,
            title=f"post-processing takes away the truth: {step.kind} costs {worst.cost:.2f} of the score",
            evidence=(
                f"the steps run on {what} of {', '.join(found.cases)} leave {after:.3f} of {before:.3f} (mean of Dice "
                f"and score), with a Dice of {dice:.3f}; the surface is {found.thickness:.1f} voxels thick, "
                f"its largest component has {found.largest:,} voxels"
            ),
            causes=(_cause(step),),
            remedies=(
                _remedy(step, found),
                "choose the steps on held-out predictions: volumen tune",
            ),
            where=context.where(f"postprocessing.steps.{worst.worst}.kind"),
        )
        return


def _harms(step: Step, lost: float, dice_lost: float, bar: float, *, of_truth: bool) -> bool:
    """Whether a step that costs so much is called harmful."""
    if isinstance(step, Median):
        return not of_truth and lost >= HARMFUL_MEDIAN[0] and dice_lost >= HARMFUL_MEDIAN[1]
    if isinstance(step, Hysteresis) and not of_truth:
        return lost >= HARMFUL_HYSTERESIS[0] and dice_lost >= HARMFUL_HYSTERESIS[1]
    return lost >= bar


def _cause(step: Step) -> str:
    return {
        "remove_small_components": "whole sheets are smaller than the least size",
        "open": "the sheets are thinner than the box, and what is thinner than it is removed",
        "close": "the box is wider than the gaps between sheets, and joins them",
        "hysteresis": "no voxel of most sheets reaches the higher level",
        "fill_holes": "what lies between sheets is enclosed, and taken for a hole",
        "fill_cavities": "what lies between sheets is enclosed, and taken for a cavity",
        "median": "the sheets are thinner than the window, and lose every vote",
        "patch_sheets": "gaps between sheets are taken for holes in them",
        "split_fused": "sheets are cut where they are one",
        "plug_pinholes": "openings of the surface are taken for pinholes",
    }.get(step.kind, "the step changes what is right")


def _remedy(step: Step, found: Masks) -> str:
    if isinstance(step, RemoveSmallComponents):
        return "minimum_voxels: null, which follows the size of the volume"
    if isinstance(step, Hysteresis):
        return "hysteresis with low 0.3 and high 0.85, or threshold 0.5"
    if step.kind in ("open", "close"):
        return f"leave {step.kind} out, or take a radius of 1 at most (sheets are {found.thickness:.1f} voxels thick)"
    return f"leave {step.kind} out"
