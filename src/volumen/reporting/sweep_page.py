"""A sweep as a page: what was best, which factors matter, every trial as a line through its values."""

from volumen.experiments.sweep_halving import BASELINE, STOPPED, Entry, ranked
from volumen.experiments.sweep_report import SweepReport
from volumen.experiments.sweep_space import Space
from volumen.reporting.page import render
from volumen.reporting.score_tables import Row
from volumen.reporting.sweep_drawings import history, importance_bars, parallel, slices
from volumen.reporting.sweep_tables import (
    IMPORTANCE,
    WINNERS_CURSE,
    cells,
    chance_text,
    counts,
    heading,
    name_of,
    repeat_cells,
    share_text,
)
from volumen.reporting.words import words
from volumen.system.output import duration

PAGE = "report.html"


def sweep_page(report: SweepReport, space: Space) -> str:
    """The page of a sweep."""
    rows = []
    for one in [*ranked(report.entries), *(one for one in report.refused if not one.values)]:
        value, epochs, parameters = cells(report, one)
        rows.append(Row((name_of(one), value, epochs, state(report, one), parameters)))
    factors = [
        Row((one.factor, share_text(one), chance_text(one), str(one.trials), one.verdict)) for one in report.importances
    ]
    best = next(iter(report.complete), None)
    return render(
        "sweep.html",
        report=report,
        heading=heading(report),
        metric=words(report.metric),
        best=None if best is None else f"{best.values[-1]:.4f}",
        own=next((f"{one.values[-1]:.4f}" for one in report.entries if one.number == BASELINE and one.values), None),
        took=duration(report.seconds),
        counts=counts(report),
        parallel=parallel(report, space),
        bars=importance_bars(report),
        slices=slices(report, space),
        history=history(report),
        trial_headings=("trial", words(report.metric), "epochs", "", "parameters"),
        trials=rows,
        factor_headings=("factor", "share", "chance", "trials", ""),
        factors=factors,
        repeat_headings=("trial", "in the search", "repeats", "difference", ""),
        repeats=[Row(tuple(repeat_cells(one))) for one in report.repeated],
        importance=IMPORTANCE,
        curse=WINNERS_CURSE,
    )


def state(report: SweepReport, entry: Entry) -> str:
    """How a trial stands."""
    if len(entry.values) >= len(report.rungs):
        return "whole"
    if entry.reason.startswith(STOPPED):
        return "stopped"
    return entry.reason or "under way"
