"""A range test of learning rates in the terminal."""

from rich.console import Console
from rich.table import Table

from volumen.doctor.learning_rate import RateRange
from volumen.reporting.words import PROGRESS

ROWS = 24
WIDTH = 40


def print_rates(found: RateRange, console: Console) -> None:
    """The curve as bars of progress, and where the run's rate lies on it."""
    table = Table(title=f"Progress after a step at each rate ({PROGRESS})")
    table.add_column("rate", justify="right")
    table.add_column("r", justify="right")
    table.add_column("")
    every = max(1, len(found.progress) // ROWS)
    shown = list(zip(found.rates, found.progress, strict=False))[every - 1 :: every]
    marked = min((rate for rate, _ in shown), key=lambda rate: abs(rate / found.configured - 1), default=None)
    for rate, progress in shown:
        bar = "#" * round(WIDTH * min(max(progress, 0.0), 1.5) / 1.5)
        table.add_row(f"{rate:.1e}", f"{progress:.2f}", bar + ("  <- the run's highest rate" if rate == marked else ""))
    console.print(table)
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    useful = "no rate made the loss fall" if low is None else f"useful {low:.2g} to {high:.2g}"
    beyond = "not reached" if diverging is None else f"{diverging:.2g}"
    console.print(
        f"{useful}; divergence {beyond}; highest rate of the run {found.configured:.3g}; {found.seconds:.0f} s"
        + ("" if found.complete else "; ended by the time limit")
    )
