"""Scores for people: an evaluation with its class distribution, and the scores of files."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from volumen.metrics.files import NUMBERS, FileScores
from volumen.metrics.table import LEADERBOARD_METRICS, OVERLAP_METRICS, Metric
from volumen.reporting.console import plain_table, print_legend, print_remarks
from volumen.reporting.words import LEADERBOARD_LEGEND, OVERLAP_LEGEND, number
from volumen.system.output import counted

if TYPE_CHECKING:  # `volumen score` does without PyTorch and post-processing
    from volumen.experiments.distribution import Operating
    from volumen.experiments.scoring import Evaluation
    from volumen.experiments.step_scores import StepEffect

Values = Mapping[str, float | None]
"""Of a case, or means, by metric."""


@dataclass(frozen=True)
class Row:
    """A line of a table: its cells, and whether it is a mean, over some or over all cases."""

    cells: tuple[str, ...]
    kind: str = ""
    """`mean`, `mean all`, or nothing."""


LEADERBOARD = [one for one in LEADERBOARD_METRICS.values() if one.evaluated]
OVERLAP = [one for one in OVERLAP_METRICS.values() if one.heading]
CASE_TABLES = (
    ("Leaderboard", LEADERBOARD, LEADERBOARD_LEGEND),
    ("Overlap on labelled voxels", OVERLAP, OVERLAP_LEGEND),
)
SUMMARY: list[Metric[Any]] = [*LEADERBOARD[:4], *OVERLAP]
STATISTICS = ("mean", "median", "std", "minimum", "maximum")
FILE_SCORES = [replace(one, name=name, decimals=4) for name, one in NUMBERS.items()]


def print_evaluation(evaluation: "Evaluation", console: Console) -> None:
    """Print an evaluation: leaderboard and overlap per case and per scroll, distribution, warnings and notes."""
    for title, columns, legend in CASE_TABLES:
        _print_cases(title, columns, metric_rows(evaluation, columns), console)
        print_legend(legend, console)
    if len(evaluation.cases) > 1:
        table = plain_table("Over the cases", ("metric", *STATISTICS, "cases from minimum to maximum"))
        for cells, counts in statistics_rows(evaluation):
            table.add_row(*cells, " ".join(map(str, counts)))
        console.print(table)
        print_legend("cases from minimum to maximum: how many in each of ten equal bins", console)
    if evaluation.step_effects:
        title = f"Steps of the post-processing, means of {len(evaluation.cases)}"
        table = plain_table(title, ("step", "added", "removed", *evaluation.step_effects[0].after, "score"))
        for step in evaluation.step_effects:
            table.add_row(*step_cells(step))
        console.print(table)
    for line in _distribution_lines(evaluation):
        console.print(line, soft_wrap=True)
    for verdict in evaluation.verdicts:
        style = None if verdict.reached is None else "green" if verdict.reached else "yellow"
        console.print(f"verdict: {verdict.sentence}", style=style, soft_wrap=True)
    print_remarks(evaluation.warnings, evaluation.remarks, console)


def print_scores(scores: FileScores, console: Console) -> None:
    """Print a row per case, means per scroll and over all, and how many could not be scored."""
    if scores.cases:
        title = "Leaderboard score" + (" (upper bound: tunnels not matched)" if scores.is_upper_bound else "")
        cases = [(case.id, case.scroll_id, case.values) for case in scores.cases]
        rows = _case_rows(cases, scores.by_scroll, scores.mean, FILE_SCORES)
        _print_cases(title, FILE_SCORES, rows, console, with_scroll=len(scores.by_scroll) > 1)
        print_legend(LEADERBOARD_LEGEND, console)
    if scores.failures:
        total = len(scores.cases) + len(scores.failures)
        console.print(
            f"{len(scores.cases)} of {counted(total, 'case has', 'cases have')} a score; the means leave the others out"
        )


def metric_rows(evaluation: "Evaluation", columns: Sequence[Metric[Any]]) -> list[Row]:
    """Case, scroll and these metrics of each case, then the means of each scroll and of all."""
    cases = [(case.id, case.scroll_id, case.values) for case in evaluation.cases]
    return _case_rows(cases, evaluation.by_scroll, evaluation.mean, columns)


def statistics_rows(evaluation: "Evaluation") -> Iterable[tuple[tuple[str, ...], Sequence[int]]]:
    """Heading, statistics over the cases and counts of a histogram of each metric; a spread has no sign."""
    for column in SUMMARY:
        summary = evaluation.summary[column.name]
        texts = {name: column.text(getattr(summary, name)) for name in STATISTICS}
        texts["std"] = texts["std"].removeprefix("+")
        yield (column.heading, *texts.values()), summary.counts


def step_cells(step: "StepEffect") -> tuple[str, ...]:
    """Name, voxels added and removed, topology and score of a step of the post-processing, means over the cases."""

    def change(feature: str) -> str:
        after = _mean_text(step.after[feature])
        return after if step.before is None else f"{_mean_text(step.before[feature])} -> {after}"

    before = "" if step.score_before is None else f"{step.score_before:.4f} -> "
    turned = (_mean_text(step.voxels_added), _mean_text(step.voxels_removed))
    return step.name, *turned, *map(change, step.after), f"{before}{step.score_after:.4f}"


def calibration_line(error: float) -> str:
    """The calibration error in words."""
    return (
        f"calibration error {number(error)}: predicted probabilities differ from the observed share of surface by "
        f"{number(100 * error, '.1f')} percentage points on average"
    )


def operating_line(name: str, point: "Operating") -> str:
    """A threshold and what it gives on the voxels of all cases together."""
    return (
        f"{name} {point.threshold:.2f}: precision {number(point.precision)}, recall {number(point.recall)}, "
        f"Dice {number(point.dice)}, surface {number(100 * point.predicted_share, '.2f')} %"
    )


def no_operating_point(evaluation: "Evaluation") -> str:
    """Why the threshold in use is no point of the curve."""
    steps = () if evaluation.postprocessing is None else evaluation.postprocessing.steps
    if any(step.kind == "sharpen_ridges" for step in steps):
        return "threshold in use: applied to sharpened probabilities, so it is not on the curve"
    if any(step.kind == "hysteresis" for step in steps):
        return "threshold in use: the mask is decided by hysteresis, so it is not on the curve"
    return "threshold in use: not recorded"


def _distribution_lines(evaluation: "Evaluation") -> list[str]:
    """Threshold in use, threshold of the best Dice and calibration, a sentence each."""
    counts, used = evaluation.probability_counts, evaluation.operating_point
    if counts is None:
        return []
    first = no_operating_point(evaluation) if used is None else operating_line("threshold in use", used)
    best = operating_line("threshold of best Dice", counts.best_dice)
    return [first, best, calibration_line(counts.calibration_error)]


def _case_rows(
    cases: Sequence[tuple[str, str, Values]],
    by_scroll: Mapping[str, Values],
    mean: Values,
    columns: Sequence[Metric[Any]],
) -> list[Row]:
    def row(name: str, scroll: str, values: Values, kind: str = "") -> Row:
        return Row((name, scroll, *(column.text(values[column.name]) for column in columns)), kind)

    rows = [row(*case) for case in cases]
    if len(cases) > 1:
        counts = Counter(scroll for _, scroll, _ in cases)
        if len(by_scroll) > 1:
            rows += [row(f"mean of {counts[scroll]}", scroll, means, "mean") for scroll, means in by_scroll.items()]
        rows.append(row(f"mean of {len(cases)}", "all", mean, "mean all"))
    return rows


def _print_cases(
    title: str, columns: Sequence[Metric[Any]], rows: Sequence[Row], console: Console, *, with_scroll: bool = True
) -> None:
    names = ("case", "scroll") if with_scroll else ("case",)
    table = plain_table(title, (*names, *(column.heading for column in columns)))
    for place, row in enumerate(rows):
        if row.kind and not rows[place - 1].kind:
            table.add_section()
        cells = row.cells if with_scroll else (row.cells[0], *row.cells[2:])
        table.add_row(*cells, style="bold" if row.kind == "mean all" else None)
    console.print(table)


def _mean_text(value: float) -> str:
    """A mean of counts: decimals only where they say something."""
    return f"{value:.1f}" if value < 100 and value != round(value) else f"{value:.0f}"
