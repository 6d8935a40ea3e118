"""Candidates side by side, the chosen one first, and what to do next."""

import math

from rich.console import Console

from volumen.experiments.selection import Choice
from volumen.metrics.comparison import NOISE_ERRORS
from volumen.reporting.console import plain_table
from volumen.reporting.words import number
from volumen.system.output import counted


def print_choice(choice: Choice, console: Console) -> None:
    """Print the ranking with its noise, what is not sound and why, what is not there, and the command to go on with."""
    table = plain_table(
        f"Weights on {counted(len(choice.cases), 'whole held-out volume')}",
        ("weights", "score", "Dice", "surface %", "sound", "difference"),
    )
    for one in choice.selection.candidates:
        noise = "?" if math.isnan(one.noise) else f"{NOISE_ERRORS * one.noise:.4f}"
        difference = "chosen" if one is choice.selection.chosen else f"{one.difference:+.4f} ± {noise}"
        share = number(100 * one.predicted_share, ".2f")
        table.add_row(
            one.name, f"{one.score:.4f}", number(one.dice, ".4f"), share, "yes" if one.sound else "no", difference
        )
    console.print(table)
    for line in _lines(choice):
        console.print(line, soft_wrap=True)


def _lines(choice: Choice) -> list[str]:
    low, high = choice.label_range
    lines = [f"the labels of the data set hold {100 * low:.1f} to {100 * high:.1f} % surface"]
    lines += [f"not sound: {one.name}: {reason}" for one in choice.selection.candidates for reason in one.reasons]
    lines += [f"the same weights as {name}: {', '.join(same)}" for name, same in choice.same.items() if same]
    lines += [f"not there: {name}: {reason}" for name, reason in choice.missing.items()]
    if len(choice.selection.candidates) > 1:
        lines.append(
            "± is two standard errors of the paired difference over the volumes; within it nothing is preferred"
        )
    if choice.selection.note:
        lines.append(f"note: {choice.selection.note}")
    if choice.selection.chosen.sound:
        lines.append(f"next: {choice.command}")
    else:
        lines.append(f"next: nothing here is fit to be submitted; for a look at it all the same: {choice.command}")
    return lines
