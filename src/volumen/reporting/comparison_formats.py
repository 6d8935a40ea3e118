"""A comparison for a terminal, as JSON, as CSV in long form, and as LaTeX (booktabs)."""

import csv
import io
import re
from typing import Any

from rich.console import Console

from volumen.experiments.comparing_intervals import LEVEL
from volumen.experiments.comparing_results import Comparison
from volumen.files import strict_json
from volumen.reporting.comparison_model import Line, Table
from volumen.reporting.comparison_tables import tables_of
from volumen.reporting.console import plain_table, print_legend
from volumen.system.names import csv_text, one_line, printable

MOST_NAME = 30
"""Letters of a line's name in a terminal; longer ones are folded."""
LEGEND = (
    "± is half of the 95 % interval (Student's t) of the mean over the shared cases, and over seeds where a row has "
    "several runs. Differences are paired by case. Ranks: rows that cannot be told apart share them (2-4: the second, "
    "third or fourth). p: after Holm over all pairs; a verdict needs one below "
    f"{LEVEL:g} and a difference of more than twice its standard error over three cases or more."
)
_GAP = 3


def print_comparison(found: Comparison, console: Console) -> None:
    """Tables as wide as the terminal takes, what is to be said of each, and the verdicts."""
    tables = tables_of(found)
    for table in tables:
        if table.long:
            continue
        for part in _parts(table, console.width):
            shown = plain_table(part.title, part.headings)
            for column in shown.columns[1:]:
                column.overflow = "fold"
            for line in part.lines:
                shown.add_row(line.name, *(cell.text for cell in line.cells))
            console.print(shown)
        for note in table.notes:
            print_legend(note, console)
    print_legend(LEGEND, console)
    left = ", ".join(table.title for table in tables if table.long)
    if left:
        console.print(f"not shown here: {left} (in --html, --json and --csv)", soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for ranking in found.rankings:
        console.print(f"{ranking.point}: {ranking.verdict}", soft_wrap=True)


def _parts(table: Table, width: int) -> list[Table]:
    """A table, or several below each other where it is wider than that; each has the names."""
    names = min(MOST_NAME, max(len(one) for one in (table.headings[0], *(line.name for line in table.lines))))
    parts: list[list[int]] = [[]]
    left = width - names - _GAP
    for place, text in enumerate(table.headings[1:]):
        widest = max(len(text), *(len(line.cells[place].text) for line in table.lines)) + _GAP - 1
        if parts[-1] and widest > left:
            parts.append([])
            left = width - names - _GAP
        parts[-1].append(place)
        left -= widest
    return [
        Table(
            table.key,
            table.title if number == 0 else "",
            (table.headings[0], *(table.headings[place + 1] for place in places)),
            tuple(Line(line.name, tuple(line.cells[place] for place in places)) for line in table.lines),
        )
        for number, places in enumerate(parts)
    ]


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Strict JSON values: verdicts, notes, and every table."""
    tables = [
        {
            "key": table.key,
            "title": table.title,
            "lines": [
                {"name": line.name, "cells": {heading: {"text": cell.text, "value": cell.value, "half": cell.half}
                 for heading, cell in zip(table.headings[1:], line.cells, strict=True)}}
                for line in table.lines
            ],
            "notes": list(table.notes),
        }
        for table in tables_of(found)
    ]  # fmt: skip
    rankings = [
        {"point": one.point, "metric": one.metric, "winner": one.winner or None, "verdict": one.verdict,
         "ranks": {each.label: list(each.ranks) if each.ranks else None for each in one.standings}}
        for one in found.rankings
    ]  # fmt: skip
    return strict_json(
        {
            "which": found.which, "quick": found.quick, "metric": found.metric, "reference": found.reference or None,
            "shared_cases": list(found.shared), "rankings": rankings, "tables": tables, "notes": list(found.notes),
            "legend": LEGEND,
        }
    )  # fmt: skip


def comparison_csv(found: Comparison) -> str:
    """A line for every cell: table, line, column, text, value, half; texts that a spreadsheet would run get a quote."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", "line", "column", "text", "value", "half"))
    for table in tables_of(found):
        for line in table.lines:
            for heading, cell in zip(table.headings[1:], line.cells, strict=True):
                words = [csv_text(printable(one)) for one in (table.key, line.name, heading, cell.text)]
                writer.writerow((*words, cell.value, cell.half))
    for ranking in found.rankings:
        verdict = csv_text(printable(ranking.verdict))
        writer.writerow((f"ranking {ranking.point}", "", "verdict", verdict, "", ""))
    return text.getvalue()


def comparison_latex(found: Comparison) -> str:
    """Tables with booktabs, to be read in with \\input; needs \\usepackage{booktabs}."""
    parts = ["% \\usepackage{booktabs}"]
    for table in tables_of(found):
        if table.long:
            continue
        columns = "l" + "r" * (len(table.headings) - 1)
        rows = [" & ".join(map(latex_text, (line.name, *(cell.text for cell in line.cells)))) for line in table.lines]
        notes = [f"\\par\\footnotesize {latex_text(note)}" for note in table.notes]
        parts += [
            "\\begin{table}",
            f"\\caption{{{latex_text(table.title)}}}",
            "\\small",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            f"{' & '.join(map(latex_text, table.headings))} \\\\",
            "\\midrule",
            *(f"{row} \\\\" for row in rows),
            "\\bottomrule",
            "\\end{tabular}",
            *notes,
            "\\end{table}",
            "",
        ]
    said = [f"{one.point}: {one.verdict}" for one in found.rankings]
    parts += [f"\\par {latex_text(one)}" for one in (*said, *found.notes, LEGEND)]
    return "\n".join([*parts, ""])


_LATEX = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "\\textquotedbl{}", "±": "$\\pm$", "[": "{[}", "]": "{]}", "-": "{-}", "`": "\\textasciigrave{}",
    "'": "\\textquotesingle{}", "*": "{*}",
}  # fmt: skip
_PLAIN = re.compile(r"[ -~À-ÖØ-öø-ÿ]")


def latex_text(text: str) -> str:
    """Text for LaTeX that sets every letter as itself; what its own fonts lack is said by its number, as [U+4E2D]."""
    found = []
    for letter in one_line(printable(text), 2000):
        if letter in _LATEX:
            found.append(_LATEX[letter])
        else:
            found.append(letter if _PLAIN.fullmatch(letter) else f"{{[}}U+{ord(letter):04X}{{]}}")
    return "".join(found)
