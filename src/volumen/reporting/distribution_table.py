"""The class distribution on the terminal: what each step did, the operating point, calibration, and verdicts."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from volumen.config.postprocessing import Hysteresis, SharpenRidges
from volumen.experiments.distribution import Operating
from volumen.experiments.scoring import Evaluation
from volumen.experiments.step_scores import FEATURES, StepEffect
from volumen.reporting.console import plain_table
from volumen.reporting.words import number

STEP_HEADINGS = ("step", "added", "removed", *FEATURES, "score")


def print_distribution(evaluation: Evaluation, console: Console) -> None:
    """Print what is known of an evaluation's class distribution; nothing where it holds masks alone."""
    if evaluation.step_effects:
        console.print(_steps(evaluation))
    for line in distribution_lines(evaluation):
        console.print(line, soft_wrap=True)
    for verdict in evaluation.verdicts:
        style = None if verdict.reached is None else "green" if verdict.reached else "yellow"
        console.print(f"verdict: {verdict.sentence}", style=style, soft_wrap=True)


def distribution_lines(evaluation: Evaluation) -> list[str]:
    """Threshold in use, threshold of the best Dice and calibration, a sentence each."""
    counts = evaluation.probability_counts
    if counts is None:
        return []
    used = evaluation.operating_point
    first = no_operating_point(evaluation) if used is None else operating_line("threshold in use", used)
    return [
        first,
        operating_line("threshold of best Dice", counts.best_dice),
        calibration_line(counts.calibration_error),
    ]


def calibration_line(error: float) -> str:
    """How far probabilities are from what they say, in words."""
    return (
        f"calibration error {number(error)}: where the network says 70 %, the share of surface is "
        f"another by {number(100 * error, '.1f')} percentage points, on average over all it says"
    )


def operating_line(name: str, point: Operating) -> str:
    """A threshold and what it gives on the voxels of all cases together."""
    return (
        f"{name} {point.threshold:.2f}: precision {number(point.precision)}, recall {number(point.recall)}, "
        f"Dice {number(point.dice)}, surface {number(100 * point.predicted_share, '.2f')} %"
    )


def no_operating_point(evaluation: Evaluation) -> str:
    """Why the threshold in use is no point of the curve."""
    steps = evaluation.postprocessing
    kinds = () if steps is None else steps.steps
    if any(isinstance(step, SharpenRidges) for step in kinds):
        return "threshold in use: applied to sharpened probabilities, so it is no point of the curve"
    if any(isinstance(step, Hysteresis) for step in kinds):
        return "threshold in use: the mask is decided by hysteresis, so it is no point of the curve"
    return "threshold in use: not recorded"


def mean_text(value: float) -> str:
    """A mean of counts for people: decimals only where they say something."""
    return f"{value:.1f}" if value < 100 and value != round(value) else f"{value:.0f}"


def change_text(step: StepEffect, feature: str) -> str:
    """A mean count before and after a step; the step that decides has no before."""
    return _change(step.before, feature, mean_text(step.after[feature]))


def score_text(step: StepEffect) -> str:
    """The mean score before and after a step."""
    before = "" if step.score_before is None else f"{step.score_before:.4f} -> "
    return f"{before}{step.score_after:.4f}"


def _change(before: Mapping[str, float] | None, feature: str, after: str) -> str:
    return after if before is None else f"{mean_text(before[feature])} -> {after}"


def _steps(evaluation: Evaluation) -> Table:
    table = plain_table(f"Steps of the post-processing, means of {len(evaluation.cases)}", STEP_HEADINGS)
    for step in evaluation.step_effects:
        turned = (mean_text(step.voxels_added), mean_text(step.voxels_removed))
        table.add_row(step.name, *turned, *(change_text(step, name) for name in FEATURES), score_text(step))
    return table
