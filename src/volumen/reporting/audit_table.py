"""What the audit prints: findings, and the autopsy of an objective."""

from rich.console import Console

from volumen.doctor.audit import AuditReport
from volumen.doctor.findings import Finding, Severity
from volumen.doctor.objective.autopsy import Autopsy, Range
from volumen.doctor.objective.operating_point import OperatingPoint
from volumen.reporting.console import plain_table
from volumen.system.output import counted

STYLES = {Severity.stop: "bold red", Severity.warn: "yellow", Severity.note: "dim"}
BAR = 28  # characters
CURVE_POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def print_findings(report: AuditReport, console: Console) -> None:
    """Print every finding with evidence, causes and remedies, the gravest first, and a verdict."""
    for finding in report.findings:
        _print_finding(finding, console)
    counts = [f"{len(found)} {severity}" for severity in Severity if (found := report.of(severity))]
    checked = ", ".join(report.seconds)
    took = sum(report.seconds.values())
    verdict = ", ".join(counts) if counts else "nothing found"
    console.print(f"{verdict} (checked {checked or 'nothing'} in {took:.1f} s; docs/audit.md explains the codes)")


def _print_finding(finding: Finding, console: Console) -> None:
    console.print(f"{finding.code} {finding.severity}: {finding.title}", style=STYLES[finding.severity])
    lines = [("evidence", finding.evidence), ("where", finding.where)]
    lines += [("cause", cause) for cause in finding.causes] + [("remedy", remedy) for remedy in finding.remedies]
    for name, text in lines:
        console.print(f"  {name:9}{text}", soft_wrap=True)
    console.print()


def print_autopsy(phase: str, found: Autopsy, point: OperatingPoint | None, console: Console) -> None:
    """Print the ranges of terms and sum with a bar each, the sum's optimum, and its operating point."""
    headings = ("term", "weight", "floor", "perfect", "constant", "at p", "background", "surface", "prior", "shuffled")
    table = plain_table(
        f"Objective of phase {phase!r} on {counted(found.patches, 'label patch')} of {list(found.patch)}", headings
    )
    for one in (*found.terms, found.total):
        values = (one.floor, one.perfect, one.baseline, one.baseline_probability)
        extremes = (one.all_background, one.all_surface, one.prior, one.shuffled)
        numbers = [f"{value:.3f}" for value in (*values, *extremes)]
        table.add_row(one.name, f"{one.weight:g}", *numbers, style="bold" if one is found.total else None)
    console.print(table)
    for one in (*found.terms, found.total):
        console.print(f" {one.name:16}{_bar(one)}")
    console.print(
        " F floor, P perfect prediction, C best constant; from 0 to the largest of them and of the prior's constant\n",
    )
    best = found.optimum
    console.print(
        f"The sum's own optimum: Dice {best.dice:.3f}, surface {best.predicted_share:.1%} "
        f"(labels {best.true_share:.1%}), leaderboard {best.leaderboard:.3f}",
    )
    if point is None:
        console.print("No term has an operating point: all of them look at neighbourhoods.")
        return
    left_out = f"; without {', '.join(point.left_out)}" if point.left_out else ""
    console.print(
        f"A voxel is called surface from a true probability of {point.crossing():.2f} on; the best answer holds "
        f"{point.asked_share():.1%} surface, the labels {point.population.surface_share:.1%}{left_out}",
    )
    curve = plain_table("Best answer p* by true probability q", ("q", *(f"{q:g}" for q in CURVE_POINTS)))
    answers = [point.answer[round(q * (len(point.answer) - 1))] for q in CURVE_POINTS]
    curve.add_row("p*", *(f"{answer:.2f}" for answer in answers))
    console.print(curve)


def _bar(one: Range) -> str:
    """Floor, perfect and constant on a line from 0 to the largest of them and the constant at the prior."""
    top = max(one.floor, one.perfect, one.baseline, one.prior, 1e-9)
    line = ["·"] * (BAR + 1)
    for mark, value in (("C", one.baseline), ("P", one.perfect), ("F", one.floor)):
        line[round(BAR * value / top)] = mark
    return f"0 {''.join(line)} {top:.3f}"
