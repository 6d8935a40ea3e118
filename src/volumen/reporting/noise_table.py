"""What difference is real, as a table."""

import math

from rich.console import Console

from volumen.doctor.protocol import ProtocolNoise
from volumen.reporting.console import plain_table
from volumen.system.output import counted


def print_noise(noise: ProtocolNoise, console: Console) -> None:
    """Print the noise of every quantity and what follows from it."""
    headings = ("quantity", "stand-in", "one validation", "volumes", "two epochs", "two runs")
    title = (
        f"One validation sees {noise.seen_share:.1%} of {counted(noise.held_out, 'held-out volume')} "
        f"({noise.looked_at} looked at)"
    )
    table = plain_table(title, headings)
    for one in noise.quantities:
        numbers = (one.value, one.protocol, one.volumes, one.between_epochs, one.between_runs)
        table.add_row(one.quantity.replace("_", " "), *(_number(value) for value in numbers))
    console.print(table)
    for line in (
        "one validation: scatter at fixed weights; volumes: standard error over the held-out volumes",
        "two epochs: the least difference of two validations of one run that is more than noise",
        "two runs: the least difference of two runs on the same volumes that holds for other volumes too",
    ):
        console.print(f" {line}")
    console.print(" measured on a stand-in's prediction (the image's sheetness); two standard deviations\n")


def _number(value: float) -> str:
    return "one volume tells nothing" if math.isnan(value) else f"{value:.4f}"
