"""The table of `volumen score`."""

from collections.abc import Mapping

from rich.console import Console

from volumen.metrics.files import NUMBERS, FileScores
from volumen.reporting.console import plain_table, print_legend
from volumen.reporting.words import LEADERBOARD_LEGEND
from volumen.system.output import counted


def print_scores(scores: FileScores, console: Console) -> None:
    """Print a row per case, means per scroll and over all, and what could not be scored."""
    several_scrolls = len(scores.by_scroll) > 1
    title = "Leaderboard score" + (" (upper bound: tunnels not matched)" if scores.is_upper_bound else "")
    table = plain_table(
        title, ("case", *(("scroll",) if several_scrolls else ()), *(one.heading for one in NUMBERS.values()))
    )
    for case in scores.cases:
        table.add_row(case.id, *((case.scroll_id,) if several_scrolls else ()), *_texts(case.values))
    if len(scores.cases) > 1:
        table.add_section()
        for scroll, means in scores.by_scroll.items() if several_scrolls else ():
            table.add_row(f"mean of {means['cases']:.0f}", scroll, *_texts(means))
        name = (f"mean of {len(scores.cases)}", *(("all",) if several_scrolls else ()))
        table.add_row(*name, *_texts(scores.mean), style="bold")
    if scores.cases:
        console.print(table)
        print_legend(LEADERBOARD_LEGEND, console)
    if scores.failures:
        total = len(scores.cases) + len(scores.failures)
        console.print(
            f"{len(scores.cases)} of {counted(total, 'case has', 'cases have')} a score; the means leave the others out"
        )


def _texts(values: Mapping[str, float | None]) -> list[str]:
    """Numbers as text; an inactive dimension of the topology is a dash."""
    return ["-" if (value := values[name]) is None else f"{value:.4f}" for name in NUMBERS]
