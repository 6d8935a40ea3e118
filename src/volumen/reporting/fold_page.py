"""All folds of a configuration as a page: what became of each, its volumes' scores, means and deviations."""

import math
from pathlib import Path

from volumen.experiments.fold_summary import FAILED, SCORED, FoldsSummary, summarise_folds
from volumen.files import write_atomically
from volumen.reporting.charts import Chart
from volumen.reporting.drawing import Drawing, nice_ticks, pixel
from volumen.reporting.fold_tables import (
    FOLD_HEADINGS,
    SPREAD_HEADINGS,
    SPREAD_LEGEND,
    fold_rows,
    scroll_headings,
    scroll_rows,
    spread_rows,
)
from volumen.reporting.page import render
from volumen.reporting.words import LEADERBOARD_LEGEND
from volumen.system.places import writable_file

PAGE = "folds.html"
WIDTH, LEFT, RIGHT, ROW, FOOT = 720, 90, 24, 30, 30  # pixels
CHIPS = {SCORED: "good", FAILED: "bad"}


def write_fold_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a folder of folds; `folds.html` in it by default.

    Raises:
        UserError: No folds there, or no place to write to.
    """
    summary = summarise_folds(folder)
    target = writable_file(out or folder / PAGE, "choose another file with --out")
    write_atomically(target, fold_page(summary))
    return target


def fold_page(summary: FoldsSummary) -> str:
    """The page."""
    chart = scores_chart(summary)
    stories = [
        {"fold": one.fold, "state": one.state, "chip": CHIPS.get(one.state, "waiting"), "story": one.story}
        for one in summary.folds
    ]
    return render(
        "folds.html",
        summary=summary,
        chart=chart,
        stories=stories,
        fold_headings=FOLD_HEADINGS,
        folds=fold_rows(summary),
        spread_headings=SPREAD_HEADINGS,
        spread=spread_rows(summary) if summary.scored else [],
        scroll_headings=scroll_headings(),
        scrolls=scroll_rows(summary),
        legend_text=f"{SPREAD_LEGEND}; {LEADERBOARD_LEGEND}",
        deviation=summary.over_folds["leaderboard"].deviation if summary.scored else math.nan,
    )


def scores_chart(summary: FoldsSummary) -> Chart | None:
    """A row a fold: each held-out volume's leaderboard score as a dot, and their mean."""
    shown = [one for one in summary.folds if one.volumes]
    if not shown:
        return None
    values = [value for one in shown for value in one.volumes.values()]
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05
    span, across = (low - room, high + room), (LEFT, WIDTH - RIGHT)
    height = len(shown) * ROW + FOOT
    drawing = Drawing("Leaderboard score of held-out volumes, by fold", WIDTH, height)
    for tick in nice_ticks(*span):
        x = pixel(tick, span, across)
        drawing.add("line", class_="grid", x1=x, x2=x, y1=0, y2=height - FOOT)
        drawing.add("text", x=x, y=height - FOOT + 17, text_anchor="middle", text=f"{tick:g}")
    for number, one in enumerate(shown):
        y = number * ROW + ROW / 2
        drawing.add("text", x=LEFT - 12, y=y + 4, text_anchor="end", text=f"fold {one.fold}")
        for case, value in one.volumes.items():
            drawing.dot(pixel(value, span, across), y, 1, 3, f"fold {one.fold}, {case}: {value:.3f}")
        if one.means is not None:
            mean = one.means["leaderboard"]
            x, title = pixel(mean, span, across), f"fold {one.fold}, mean: {mean:.3f}"
            drawing.add("rect", x=x - 1.5, y=y - 9, width=3, height=18, fill="var(--series-2)", title=title)
    note = "Dots: held-out volumes. Bars: the mean of a fold."
    return Chart("Leaderboard score by fold", note, (), drawing.markup())
