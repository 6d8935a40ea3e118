"""A comparison of runs as tables: one model, from which text, page, JSON, CSV and LaTeX are made.

Every number is a cell with its text, its value and half of its interval; no format computes one of its own.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from volumen.config.compare import confounded, factors_of
from volumen.config.compare import diff_configs as differences
from volumen.config.describe import value_text
from volumen.config.dump import flat_values
from volumen.experiments.comparing_intervals import Interval, Pair, interval
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN, Ranking
from volumen.experiments.comparing_results import Comparison, Entry
from volumen.experiments.comparing_runs import differing
from volumen.metrics.table import LEADERBOARD_METRICS, OVERLAP_METRICS
from volumen.reporting.comparison_costs import cost_table
from volumen.reporting.comparison_model import NOTHING, Cell, Line, Table, number_cell, of_interval, text_cell
from volumen.reporting.words import words
from volumen.system.output import counted

PARTS = ("leaderboard", "leaderboard_quick", "topo", "surface_dice", "voi")
OVERLAPS = ("dice", "precision", "recall")
MOST_PAIRS = 10
"""Of a table that stands in a terminal."""
MOST_LETTERS = 60
_METRIC_TABLES = (("score", "Leaderboard score and its parts", PARTS), ("overlap", "Overlap", OVERLAPS))
_HEADINGS = {name: one.heading for name, one in (LEADERBOARD_METRICS | OVERLAP_METRICS).items() if one.heading}


def tables_of(found: Comparison) -> tuple[Table, ...]:
    """All tables of a comparison, in the order in which they are read."""
    made = [
        runs_table(found),
        configuration_table(found),
        *(ranking_table(found, ranking) for ranking in found.rankings if ranking.standings),
        *metric_tables(found),
        terms_table(found),
        distribution_table(found),
        cost_table(found),
        *(pairs_table(ranking) for ranking in found.rankings if ranking.pairs),
        cases_table(found),
    ]
    return tuple(table for table in made if table.lines)


def runs_table(found: Comparison) -> Table:
    """Every run that was named, whatever became of it."""
    row_of = {run.name: one.label for one in found.entries for run in one.row.runs}
    scored = {name for one in found.entries for name in one.scores}
    lines = []
    for run in found.told:
        config = run.config
        lines.append(
            Line(
                run.name,
                (
                    text_cell(row_of.get(run.name, NOTHING)),
                    number_cell(None if config is None else config.seed, "d"),
                    number_cell(None if config is None else config.data.fold, "d"),
                    text_cell(run.state.replace("_", " ")),
                    text_cell(f"{run.epochs} of {run.planned_epochs}"),
                    text_cell("yes" if run.name in scored else "no"),
                ),
            )
        )
    problems = [f"not scored: {name}: {reason}" for name, reason in found.problems.items()]
    faults = [f"{run.name}: {fault}" for run in found.told for fault in run.faults]
    headings = ("run", "row", "seed", "fold", "state", "epochs", "scored")
    return Table("runs", f"Runs ({found.which} weights)", headings, tuple(lines), (*problems, *faults))


def configuration_table(found: Comparison) -> Table:
    """Keys in which rows differ; that a section is there or not shows by its keys."""
    entries = found.entries
    values = [flat_values(one.row.config) for one in entries]
    told = [key for key in differing([one.row for one in entries]) if any(each.get(key) is not None for each in values)]
    lines = tuple(
        Line(key, tuple(text_cell(_short(value_text(each[key])) if key in each else NOTHING) for each in values))
        for key in told
    )
    notes = []
    if entries:
        for one in entries[1:]:
            said = confounded(factors_of(differences(entries[0].row.config, one.row.config)))
            notes += [f"{one.label} against {entries[0].label}: {said}"] if said else []
    return Table("configurations", "What differs", ("key", *(one.label for one in entries)), lines, tuple(notes))


def _short(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."


def ranking_table(found: Comparison, ranking: Ranking) -> Table:
    """Rows in order, with their rank groups."""
    lines, notes = list[Line](), list[str]()
    for one in ranking.standings:
        behind = of_interval(one.behind, sign=True)
        lines.append(Line(one.label, (text_cell(one.rank), of_interval(one.mean), behind, _p_cell(one.adjusted))))
        notes += [f"{one.label} is not ranked: {one.reason}"] if one.reason else []
    title = (
        f"Ranking by {heading(ranking.metric)} at {_where(ranking.point)}, {counted(len(found.shared), 'shared case')}"
    )
    headings = ("row", "rank", heading(ranking.metric), "less the first", "p")
    return Table(f"ranking {ranking.point}", title, headings, tuple(lines), tuple(notes))


def _where(point: str) -> str:
    return {OWN: "each run's own threshold", AT_MATCHED: "a matched share of surface"}[point]


def _p_cell(value: float | None) -> Cell:
    return number_cell(value, ".2g")


def metric_tables(found: Comparison) -> Iterable[Table]:
    """Fixed metrics over the shared cases."""
    points = (OWN,) if found.quick else (OWN, AT_MATCHED)
    for point in points:
        for key, title, wanted in (
            ("score", "Leaderboard score and its parts", PARTS),
            ("overlap", "Overlap", OVERLAPS),
        ):
            names = [name for name in wanted if any(_has(one, name, point) for one in found.scored)]
            lines = tuple(
                Line(one.label, tuple(of_interval(found.mean(one, name, point)) for name in names))
                for one in found.scored
            )
            headings = ("row", *map(heading, names))
            yield Table(f"{key} {point}", f"{title} at {_where(point)}", headings, lines if found.shared else ())


def _has(entry: Entry, metric: str, point: str) -> bool:
    return any(metric in values for one in entry.scores.values()
               for values in (one.own if point == OWN else one.at_matched).values())  # fmt: skip


def heading(metric: str) -> str:
    """A metric as a heading."""
    return _HEADINGS.get(metric, words(metric))


def terms_table(found: Comparison) -> Table:
    """Every network under the reference objective, term by term, and each run's own total beside it."""
    entries, lines = found.scored, []
    for term in found.terms:
        cells = tuple(of_interval(_interval(found, one, term)) for one in entries)
        lines.append(Line(words(term), cells))
    if found.terms:
        lines.append(Line("total", tuple(of_interval(_interval(found, one, "")) for one in entries)))
    own = [list(one.own_totals.values()) for one in entries]
    if any(own):
        means = [sum(values) / len(values) if values else None for values in own]
        lines.append(Line("own total (last validation)", tuple(number_cell(value, ".4f") for value in means)))
    notes = ["raw terms, lower is better; the total weighs them as the reference does"] if found.terms else []
    notes += [_on_totals(found)] if any(own) and len(entries) > 1 else []
    title = f"Terms of the objective of {found.reference}" if found.terms else "Each run's own objective"
    return Table("terms", title, ("term", *(one.label for one in entries)), tuple(lines), tuple(notes))


def _interval(found: Comparison, entry: Entry, term: str) -> Interval | None:
    return interval(entry.terms(term), found.shared)


def _on_totals(found: Comparison) -> str:
    keys = found.objectives_differ
    if not keys:
        return "own totals are of one objective, by each run's own validation; the rows above are of whole volumes"
    named = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    return (
        f"own totals are not ranked: they are sums of different terms or weights ({named} differ), so a lower one may "
        "be another sum and no better mask"
    )


def distribution_table(found: Comparison) -> Table:
    """How much surface is predicted, and where that is cut."""
    lines = []
    for one in found.scored:
        own = found.mean(one, "predicted_share")
        shares = [_differences(run, true, found.shared) for run, true in
                  zip(one.by_case("predicted_share"), one.by_case("true_share"), strict=True)]  # fmt: skip
        spread = [value for values in shares for value in values]
        threshold, matched = one.thresholds
        lines.append(
            Line(
                one.label,
                (
                    of_interval(found.mean(one, "true_share"), percent=True),
                    of_interval(own, percent=True),
                    number_cell(min(spread, default=None), "+.2f"),
                    number_cell(max(spread, default=None), "+.2f"),
                    number_cell(threshold, ".3f"),
                    number_cell(matched, ".3f"),
                    of_interval(found.mean(one, "predicted_share", AT_MATCHED), percent=True),
                ),
            )
        )
    headings = (
        "row",
        "true %",
        "surface %",
        "least less true",
        "most less true",
        "threshold",
        "matched at",
        "matched %",
    )
    notes = ("least and most less true: single cases, percentage points; matched at: where it gives the true share",)
    return Table("distribution", "Class distribution", headings, tuple(lines) if found.shared else (), notes)


def _differences(predicted: Any, true: Any, cases: Sequence[str]) -> list[float]:
    both = [(predicted.get(case, math.nan), true.get(case, math.nan)) for case in cases]
    return [100 * (one - other) for one, other in both if math.isfinite(one) and math.isfinite(other)]


def pairs_table(ranking: Ranking) -> Table:
    """Every two rows."""
    lines = [
        Line(
            f"{pair.left} less {pair.right}",
            (of_interval(pair.difference, sign=True), _p_cell(pair.difference.p_value), _p_cell(pair.adjusted),
             text_cell(_verdict(pair)), text_cell(pair.difference.over)),
        )
        for pair in ranking.pairs
    ]  # fmt: skip
    title = f"Pairs by {heading(ranking.metric)} at {_where(ranking.point)}"
    headings = ("pair", "difference", "p", "p by Holm", "verdict", "interval over")
    return Table(f"pairs {ranking.point}", title, headings, tuple(lines), long=len(lines) > MOST_PAIRS)


def _verdict(pair: Pair) -> str:
    return {1: f"{pair.left} is better", -1: f"{pair.right} is better", 0: "a tie"}[pair.sign]


def cases_table(found: Comparison) -> Table:
    """Every network on every case, those that not all rows have as well."""
    names = [name for name in (*PARTS, *OVERLAPS, "predicted_share", "true_share")
             if any(_has(one, name, OWN) for one in found.scored)]  # fmt: skip
    at_matched = [] if found.quick else ["leaderboard", "dice"]
    lines = [
        Line(
            f"{name}: {case}",
            (
                text_cell(entry.label),
                text_cell("yes" if case in found.shared else "no"),
                *(number_cell(values.get(metric), ".4f") for metric in names),
                *(number_cell(scores.at_matched.get(case, {}).get(metric), ".4f") for metric in at_matched),
            ),
        )
        for entry in found.scored
        for name, scores in entry.scores.items()
        for case, values in scores.own.items()
    ]
    headings = (
        "run and case",
        "row",
        "shared",
        *map(heading, names),
        *(f"{heading(one)} matched" for one in at_matched),
    )
    return Table("cases", "Single cases", headings, tuple(lines), long=True)
