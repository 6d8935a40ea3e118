"""What became of the folds, as tables in a terminal; their page shares the rows."""

from rich.console import Console

from volumen.experiments.fold_summary import SCORED, FoldReport, FoldsSummary
from volumen.metrics.table import METRICS
from volumen.reporting.console import plain_table, print_legend, print_remarks
from volumen.reporting.score_tables import SUMMARY, Row
from volumen.reporting.words import LEADERBOARD_LEGEND, words
from volumen.system.output import counted, duration

FOLD_HEADINGS = ("fold", "state", "epochs", "best", "validation", "time", "restarts", "held out", "score")
SPREAD_HEADINGS = ("metric", "mean of volumes", "deviation", "mean of folds", "deviation")
BY_SCROLL = tuple(one for one in SUMMARY if one.name not in ("accuracy", "precision", "recall", "iou"))
SPREAD_LEGEND = "deviation: of one volume or one fold about the mean (n - 1)"


def fold_rows(summary: FoldsSummary) -> list[Row]:
    """A row a fold."""
    return [Row(_cells(one)) for one in summary.folds]


def _cells(one: FoldReport) -> tuple[str, ...]:
    validation = "-" if one.best is None else f"{words(one.metric)} {one.best:.4f}"
    return (
        str(one.fold),
        one.state,
        f"{one.epochs}/{one.planned_epochs}" if one.planned_epochs else "-",
        "-" if one.best_epoch is None else str(one.best_epoch),
        validation,
        duration(one.wall_seconds) if one.wall_seconds else "-",
        str(one.restarts),
        str(one.cases),
        "-" if one.means is None else f"{one.means['leaderboard']:.3f}",
    )


def spread_rows(summary: FoldsSummary) -> list[Row]:
    """A row a metric: mean and deviation over volumes and over folds."""
    rows = []
    for metric in SUMMARY:
        cases, folds = summary.over_cases[metric.name], summary.over_folds[metric.name]
        cells = [metric.text(value) for value in (cases.mean, cases.deviation, folds.mean, folds.deviation)]
        rows.append(Row((metric.heading, cells[0], cells[1].lstrip("+"), cells[2], cells[3].lstrip("+"))))
    return rows


def scroll_headings() -> tuple[str, ...]:
    """Of the table by scroll."""
    return ("scroll", "volumes", *(metric.heading for metric in BY_SCROLL))


def scroll_rows(summary: FoldsSummary) -> list[Row]:
    """A row a scroll."""
    return [
        Row((scroll, f"{values['cases']:.0f}", *(METRICS[one.name].text(values[one.name]) for one in BY_SCROLL)))
        for scroll, values in summary.scrolls.items()
    ]


def print_folds(summary: FoldsSummary, console: Console) -> None:
    """Print folds, what happened to each, means and deviations, and means by scroll."""
    table = plain_table(f"Folds of {summary.name}", FOLD_HEADINGS)
    for row in fold_rows(summary):
        table.add_row(*row.cells)
    console.print(table)
    for one in summary.folds:
        if one.state != SCORED or one.restarts:
            console.print(f"fold {one.fold} {one.state}: {one.story or 'nothing was done'}", soft_wrap=True)
    if summary.scored:
        title = f"{counted(len(summary.scored), 'fold')}, {counted(summary.over_cases['leaderboard'].count, 'volume')}"
        table = plain_table(title, SPREAD_HEADINGS)
        for row in spread_rows(summary):
            table.add_row(*row.cells)
        console.print(table)
        print_legend(f"{SPREAD_LEGEND}; {LEADERBOARD_LEGEND}", console)
    if len(summary.scrolls) > 1:
        table = plain_table("By scroll, means of volumes", scroll_headings())
        for row in scroll_rows(summary):
            table.add_row(*row.cells)
        console.print(table)
    print_remarks((), summary.notes, console)
    console.print(summary.headline, soft_wrap=True)
