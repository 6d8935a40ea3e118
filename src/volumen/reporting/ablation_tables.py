"""What an ablation found, as a table in a terminal, and the texts that its page shares."""

import math
from collections.abc import Sequence

from rich.console import Console

from volumen.experiments.ablation_report import ALIKE, LOSS, MATCHED_DICE, SAME, UNTOLD, AblationReport, Row
from volumen.experiments.differences import Paired
from volumen.reporting.console import plain_table, print_legend
from volumen.reporting.words import number, words
from volumen.system.output import counted

MOST_CHANGES = 4
SAID = {MATCHED_DICE: "Dice at matched share", LOSS: "loss"}


def print_ablation(report: AblationReport, console: Console) -> None:
    """Print the table, reasons and notes, and what is recommended."""
    heading = (
        f"Remedies for {report.name}: {counted(report.steps, 'step')}, {counted(len(report.seeds), 'seed')}, "
        f"{counted(len(report.cases), 'held-out volume')}"
    )
    table = plain_table(heading, ("remedy", words(report.metric), "difference", "at matched share", "verdict"))
    for row in report.rows:
        control = row is report.rows[0]
        matched = mean_text(row, MATCHED_DICE) if control else difference_text(row.differences.get(MATCHED_DICE))
        difference = "" if control else difference_text(row.differences.get(report.metric))
        table.add_row(row.name, mean_text(row, report.metric), difference, matched, row.verdict)
    console.print(table)
    for text in legend(report):
        print_legend(text, console)
    for row in report.rows[1:]:
        console.print(f"{row.name}: {changes_text(row, MOST_CHANGES)}", soft_wrap=True)
        for remark in remarks(row, report):
            console.print(f"  {remark}", soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
    said = "recommended" if report.recommended else "nothing recommended"
    console.print(f"{said}: {report.advice}", soft_wrap=True)


def quantity(name: str) -> str:
    """A compared quantity for people."""
    _, of_a_term, term = name.partition(f"{LOSS}.")
    return f"loss: {words(term)}" if of_a_term else SAID.get(name, words(name))


def mean_text(row: Row, name: str) -> str:
    """The mean over the seeds."""
    value = row.mean(name)
    return "-" if value is None else f"{value:.4f}"


def difference_text(one: Paired | None) -> str:
    """Mean and half of its interval, which one pair has not."""
    if one is None:
        return "-"
    return f"{one.mean:+.4f}" + ("" if math.isnan(one.half) else f" ± {one.half:.4f}")


def changes_text(row: Row, most: int | None = None) -> str:
    """What a remedy changes, key by key."""
    texts = [f"{key} {_value(before)} -> {_value(after)}" for key, (before, after) in row.changes.items()]
    more = f", and {len(texts) - most} more" if most is not None and len(texts) > most else ""
    return ", ".join(texts[:most]) + more or "nothing"


def _value(value: object) -> str:
    if value is None:
        return "none"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def remarks(row: Row, report: AblationReport) -> list[str]:
    """What has to be known of a row beside its numbers."""
    found = [row.reason] if row.reason else []
    found += row.notes
    if row.over_cases is not None and row.verdict != SAME:
        interval = difference_text(row.over_cases)
        found.append(f"over the {counted(row.over_cases.pairs, 'volume')}, not over seeds: {interval}")
    missed = [share for share, point in zip(row.matched_shares, row.thresholds, strict=True) if point is None]
    if missed:
        shares = ", ".join(number(100 * share, ".1f") for share in missed if share is not None)
        wanted = "" if report.true_share is None else f", the labels hold {100 * report.true_share:.1f} %"
        found.append(f"no threshold gives the labels' surface share: the nearest {shares} %{wanted}")
    return found


def legend(report: AblationReport) -> Sequence[str]:
    """How the table is read."""
    several = len(report.seeds) > 1
    interval = "± is half of the 95 % interval over the seeds (Student's t)" if several else "one seed has no interval"
    true = "" if report.true_share is None else f", {100 * report.true_share:.1f} % of the labelled voxels"
    return (
        f"difference: remedy less control, paired by seed; {interval}. At matched share: the Dice of masks cut where "
        f"they hold as much surface as the labels{true}; a remedy that only moves the operating point gains nothing "
        f"there. '{ALIKE}' and '{UNTOLD}' are no proof that it does nothing.",
    )
