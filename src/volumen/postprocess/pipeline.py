"""From probabilities to the mask by the configuration's steps, one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.config.postprocessing import Hysteresis, Postprocessing, Step, Threshold
from volumen.postprocess.report import Counts, StepReport, count, report_step
from volumen.postprocess.ridges import sharpen_ridges
from volumen.postprocess.sheets import patch_sheets
from volumen.postprocess.splitting import split_fused
from volumen.postprocess.steps import (
    Mask,
    close,
    fill_cavities,
    fill_holes,
    hysteresis,
    median,
    opening,
    plug_pinholes,
    remove_small_components,
    threshold,
)

Probabilities = NDArray[np.float32]
Scan = NDArray[np.bool_] | None
NOTHING = Counts(0, 0, 0, 0)
LEAST_FACE = 5 / 64
"""A component of fewer voxels than this share of a face of the volume is small, where nothing else is said: a sheet
through the volume has some three faces. 2,000 voxels of 160^3, 320 of 64^3."""


@dataclass(frozen=True)
class State:
    """What the steps hand on."""

    probabilities: Probabilities
    mask: Mask | None = None
    """None before the step that decides."""


# What each kind of step makes of probabilities, or of a mask and the probabilities behind it.
ON_PROBABILITIES: dict[str, Callable[[Probabilities, Any], Probabilities]] = {
    "sharpen_ridges": lambda given, step: sharpen_ridges(given, step.scale_voxels, step.weight),
}
DECISIONS: dict[str, Callable[[Probabilities, Any], Mask]] = {
    "threshold": lambda given, step: threshold(given, step.level),
    "hysteresis": lambda given, step: hysteresis(given, step.low, step.high, step.connectivity),
}
ON_MASKS: dict[str, Callable[[Mask, Probabilities, Any], Mask]] = {
    "split_fused": lambda mask, given, step: split_fused(
        mask, given, step.levels, step.minimum_voxels, step.maximum_folded_share
    ),
    "remove_small_components": lambda mask, _, step: remove_small_components(
        mask, step.minimum_voxels or round(LEAST_FACE * mask.size ** (2 / 3)), step.connectivity
    ),
    "fill_holes": lambda mask, _, step: fill_holes(mask, step.maximum_voxels),
    "fill_cavities": lambda mask, _, step: fill_cavities(mask),
    "plug_pinholes": lambda mask, _, step: plug_pinholes(mask),
    "close": lambda mask, _, step: close(mask, step.radius_voxels),
    "open": lambda mask, _, step: opening(mask, step.radius_voxels),
    "median": lambda mask, _, step: median(mask, step.iterations),
    "patch_sheets": lambda mask, _, step: patch_sheets(mask, step.maximum_hole_voxels),
}


def apply_pipeline(probabilities: Probabilities, settings: Postprocessing, scan: Scan = None) -> Mask:
    """Every step in its order.

    Args:
        probabilities: float32 [Z, Y, X].
        settings: The steps.
        scan: Where the scan holds something, [Z, Y, X]: no step leaves surface elsewhere. None: everywhere.

    Returns:
        Mask, uint8 [Z, Y, X], 0 or 1.
    """
    *_, (_, last) = walk(probabilities, settings, scan)
    return _decided(last)


def walk(probabilities: Probabilities, settings: Postprocessing, scan: Scan = None) -> Iterator[tuple[Step, State]]:
    """Each step with what it leaves behind."""
    state = State(probabilities)
    for step in settings.steps:
        state = _apply(state, step)
        if scan is not None and state.mask is not None:
            state = State(state.probabilities, state.mask & scan)
        yield step, state


def walk_masks(
    probabilities: Probabilities, settings: Postprocessing, scan: Scan = None
) -> Iterator[tuple[Mask, StepReport]]:
    """The mask after each step from the one that decides on, and what the step changed.

    Only the masks before and after a step are held; topology of the whole volume is counted.
    """
    before: Mask | None = None
    counts = NOTHING
    for step, state in walk(probabilities, settings, scan):
        if state.mask is None:
            continue
        if before is None:
            after = count(state.mask)
            report = StepReport(step.kind, after.voxels, 0, NOTHING, after)
        else:
            report = report_step(step.kind, before, state.mask, counts)
        before, counts = state.mask, report.after
        yield before, report


def report_pipeline(probabilities: Probabilities, settings: Postprocessing) -> tuple[Mask, tuple[StepReport, ...]]:
    """The mask, and what every step from the one that decides on changed."""
    reports: list[StepReport] = []
    mask: Mask | None = None
    for mask, report in walk_masks(probabilities, settings):  # noqa: B007
        reports.append(report)
    return _decided(State(probabilities, mask)), tuple(reports)


def describe(settings: Postprocessing) -> str:
    """The steps in words, for a person."""
    return ", ".join(_described(step) for step in settings.steps)


def _apply(state: State, step: Step) -> State:
    kind = step.kind
    if kind in ON_PROBABILITIES:
        return State(ON_PROBABILITIES[kind](state.probabilities, step))
    if kind in DECISIONS:
        return State(state.probabilities, DECISIONS[kind](state.probabilities, step))
    return State(state.probabilities, ON_MASKS[kind](_decided(state), state.probabilities, step))


def _decided(state: State) -> Mask:
    if state.mask is None:
        raise RuntimeError("no step decides between surface and background")  # the schema refuses that
    return state.mask


def _described(step: Step) -> str:
    if isinstance(step, Threshold):
        return f"probability above {step.level:g}"
    if isinstance(step, Hysteresis):
        return f"probability above {step.low:g} and connected to {step.high:g}"
    settings = {name: value for name, value in step.model_dump().items() if name != "kind"}
    said = ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in settings.items())
    return step.kind.replace("_", " ") + (f" ({said})" if said else "")


def _short(value: object) -> str:
    if value is None:
        return "5/64 of a face of the volume"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
