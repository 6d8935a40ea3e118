"""What a sweep found, as a table in a terminal, and the texts that its page shares."""

import math
from collections.abc import Sequence

from rich.console import Console

from volumen.experiments.sweep_halving import BASELINE, Entry, ranked
from volumen.experiments.sweep_importance import FEWEST_TRIALS, Importance
from volumen.experiments.sweep_report import Repeated, SweepReport
from volumen.reporting.console import plain_table, print_legend
from volumen.reporting.words import words
from volumen.system.output import counted, duration

MOST_ROWS = 12
WINNERS_CURSE = (
    "The value in the search is what a trial was chosen by, so it is too high on average; its repeats are not."
)
IMPORTANCE = (
    "share: of the variance of the trials' ranks after the first rung, what goes with a factor alone, with its "
    f"95 % interval; chance: how often shuffled values give as much, times the number of factors. Fewer than "
    f"{FEWEST_TRIALS} trials tell nothing, and what two factors do only together does not show."
)


def print_sweep(report: SweepReport, console: Console) -> None:
    """Print the best trials, the factors, the repeats and what is recommended."""
    table = plain_table(heading(report), ("trial", words(report.metric), "epochs", "parameters"))
    for one in shown(report):
        table.add_row(name_of(one), *cells(report, one))
    console.print(table)
    for text in counts(report):
        console.print(text, soft_wrap=True)
    factors = plain_table("Factors, each alone", ("factor", "share", "chance", "trials", "verdict"))
    for each in report.importances:
        factors.add_row(each.factor, share_text(each), chance_text(each), str(each.trials), each.verdict)
    console.print(factors)
    print_legend(IMPORTANCE, console)
    if report.repeated:
        again = plain_table("Repeated with other seeds", ("trial", "in the search", "repeats", "difference", "verdict"))
        for row in report.repeated:
            again.add_row(*repeat_cells(row))
        console.print(again)
        print_legend(WINNERS_CURSE, console)
    console.print(f"{'recommended' if report.recommended else 'nothing recommended'}: {report.advice}", soft_wrap=True)


def heading(report: SweepReport) -> str:
    """What was done."""
    trials = counted(len(report.entries), "trial")
    return f"Sweep of {report.name}: {trials} of up to {counted(report.rungs[-1], 'epoch')}, {report.sampler}"


def shown(report: SweepReport) -> list[Entry]:
    """The best trials, and the configuration itself wherever it stands."""
    best = ranked(report.entries)
    first = best[:MOST_ROWS]
    return first + [one for one in best[MOST_ROWS:] if one.number == BASELINE]


def name_of(entry: Entry) -> str:
    """A trial's name."""
    return f"{entry.number} (as it is)" if entry.number == BASELINE else str(entry.number)


def cells(report: SweepReport, entry: Entry) -> tuple[str, str, str]:
    """Value, epochs and parameters of a trial."""
    value = f"{entry.values[-1]:.4f}" if entry.values else "-"
    epochs = str(report.rungs[len(entry.values) - 1]) if entry.values else "0"
    return value, epochs, parameters_text(entry)


def parameters_text(entry: Entry) -> str:
    """What a trial tried, in the words of `-o`."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in entry.parameters.items())


def value_text(value: object) -> str:
    """A value as short as it can be told apart."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counts(report: SweepReport) -> tuple[str, ...]:
    """How many trials came how far, and what it cost."""
    done, whole = report.epochs
    said = [
        f"{counted(len(report.complete), 'trial')} reached the end, {len(report.stopped)} were stopped at a rung, "
        f"{len(report.refused)} failed or could not be begun"
    ]
    if whole:
        said.append(
            f"{done} epochs were trained in {duration(report.seconds)}, {done / whole:.0%} of what all trials would "
            "take to the end"
        )
    first = [one.values[0] for one in report.entries if one.values]
    alike = max((first.count(value) for value in first), default=0)
    if len(report.rungs) > 1 and alike > max(2, len(first) / 2):
        said.append(
            f"{alike} of {len(first)} trials had the same value after {counted(report.rungs[0], 'epoch')}: so "
            "early a rung tells little: give a longer --first-rung in another folder"
        )
    reasons: dict[str, list[int]] = {}
    for one in report.refused:
        reasons.setdefault(one.reason, []).append(one.number)
    said += [f"failed: trial {', '.join(map(str, numbers))}: {reason}" for reason, numbers in reasons.items()]
    return tuple(said)


def share_text(one: Importance) -> str:
    """Share and interval."""
    return "-" if one.share is None else f"{one.share:.0%} ({one.low:.0%} to {one.high:.0%})"


def chance_text(one: Importance) -> str:
    """How often chance would do it."""
    return "-" if one.chance is None else f"{one.chance:.3f}"


def repeat_cells(row: Repeated) -> Sequence[str]:
    """A row of the repeats."""
    mean = "-" if row.mean is None else f"{row.mean:.4f}"
    searched = "-" if math.isnan(row.searched) else f"{row.searched:.4f}"
    name = f"{row.number} (as it is)" if row.number == BASELINE else str(row.number)
    if row.difference is None:
        return name, searched, mean, "", ""
    half = "" if math.isnan(row.difference.half) else f" ± {row.difference.half:.4f}"
    verdict = {1: "better", -1: "worse", 0: "no difference beyond the noise"}[row.sign]
    return name, searched, mean, f"{row.difference.mean:+.4f}{half}", verdict
