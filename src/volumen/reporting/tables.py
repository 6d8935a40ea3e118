"""Tables of an evaluation or a prediction, as wide as they need to be on a terminal and whole in a pipe or a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from volumen.data.spacing import not_cubes
from volumen.experiments.scoring import Evaluation
from volumen.inference.degenerate import degenerate_warnings, emptiness_notes
from volumen.inference.prediction_record import FilePrediction
from volumen.metrics import Summary
from volumen.metrics.table import LEADERBOARD_METRICS, OVERLAP_METRICS, Metric
from volumen.reporting.console import plain_table, print_legend
from volumen.reporting.distribution_table import print_distribution
from volumen.reporting.words import LEADERBOARD_LEGEND, OVERLAP_LEGEND

LEADERBOARD = [one for one in LEADERBOARD_METRICS.values() if one.evaluated]
OVERLAP = [one for one in OVERLAP_METRICS.values() if one.heading]
SUMMARY: list[Metric[Any]] = [*LEADERBOARD[:4], *OVERLAP]
STATISTICS = ("mean", "median", "std", "minimum", "maximum")


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print an evaluation: leaderboard and overlap per case and per scroll, distribution, what to beware of."""
    console.print(_per_case("Leaderboard", LEADERBOARD, evaluation))
    print_legend(LEADERBOARD_LEGEND, console)
    console.print(_per_case("Overlap on labelled voxels", OVERLAP, evaluation))
    print_legend(OVERLAP_LEGEND, console)
    if len(evaluation.cases) > 1:
        console.print(_statistics(evaluation))
        print_legend("cases from minimum to maximum: how many in each of ten equal steps", console)
    print_distribution(evaluation, console)
    _print_foot(evaluation.warnings, evaluation.remarks, console)


def print_predictions(predictions: Sequence[FilePrediction], console: Console) -> None:
    """Print what `volumen predict` wrote."""
    table = plain_table("Masks", ("image", "shape z y x", "surface %", "probabilities"))
    for one in predictions:
        look = one.appearance
        spread = f"{look.probability_minimum:.3f} to {look.probability_maximum:.3f}"
        table.add_row(one.name, " x ".join(map(str, one.shape)), f"{100 * look.surface_share:.2f}", spread)
    console.print(table)
    padded = [one.name for one in predictions if one.padded_to is not None]
    looks = [one.appearance for one in predictions]
    notes = [f"Smaller than the tile and padded with the nearest voxels: {', '.join(padded)}."] if padded else []
    notes += [*emptiness_notes(looks), *not_cubes({one.name: one.spacing for one in predictions})]
    _print_foot(degenerate_warnings(looks), notes, console)


def _per_case(title: str, columns: Sequence[Metric[Any]], evaluation: Evaluation) -> Table:
    table = plain_table(title, ("case", "scroll", *(column.heading for column in columns)))
    for case in evaluation.cases:
        table.add_row(case.id, case.scroll_id, *_texts(columns, case.values))
    scrolls = evaluation.by_scroll
    if len(evaluation.cases) > 1:
        table.add_section()
        for scroll, means in scrolls.items() if len(scrolls) > 1 else ():
            table.add_row(f"mean of {means['cases']:.0f}", scroll, *_texts(columns, means))
        table.add_row(f"mean of {len(evaluation.cases)}", "all", *_texts(columns, evaluation.mean), style="bold")
    return table


def _statistics(evaluation: Evaluation) -> Table:
    table = plain_table("Over the cases", ("metric", *STATISTICS, "cases from minimum to maximum"))
    for column in SUMMARY:
        summary = evaluation.summary[column.name]
        numbers = [statistic(column, summary, name) for name in STATISTICS]
        table.add_row(column.heading, *numbers, " ".join(str(count) for count in summary.counts))
    return table


def statistic(column: Metric[Any], summary: Summary, name: str) -> str:
    """A statistic over the cases as text; a spread has no sign."""
    return column.text(getattr(summary, name)).removeprefix("+" if name == "std" else "")


def _texts(columns: Sequence[Metric[Any]], values: Mapping[str, float]) -> list[str]:
    return [column.text(values[column.name]) for column in columns]


def _print_foot(warnings: Sequence[str], notes: Sequence[str], console: Console) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
