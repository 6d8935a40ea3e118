"""Cells, lines and tables that every format of a comparison shows."""

import math
from dataclasses import dataclass

from volumen.experiments.comparing_intervals import Interval

NOTHING = "-"


@dataclass(frozen=True)
class Cell:
    """One number or text."""

    text: str
    """As every format shows it."""
    value: float | None = None
    half: float | None = None
    """Half of the 95 % interval."""


@dataclass(frozen=True)
class Line:
    """A line: its name, and a cell for each of the other headings."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table."""

    key: str
    """In JSON and CSV."""
    title: str
    headings: tuple[str, ...]
    """The first one is that of the names."""
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    long: bool = False
    """Left out where there is no room: in a terminal and in LaTeX."""


def text_cell(text: str) -> Cell:
    """A text."""
    return Cell(text)


def number_cell(value: float | None, style: str) -> Cell:
    """A number; a dash where there is none."""
    if value is None or math.isnan(value):
        return Cell(NOTHING)
    return Cell(f"{value:{style}}", value)


def of_interval(one: Interval | None, *, sign: bool = False, percent: bool = False) -> Cell:
    """A mean with half of its interval."""
    if one is None:
        return Cell(NOTHING)
    factor, style = (100.0, ".2f") if percent else (1.0, ".4f")
    mean, half = factor * one.mean, factor * one.half
    text = f"{mean:{'+' if sign else ''}{style}}"
    if math.isnan(half):
        return Cell(text, mean)
    return Cell(f"{text} ± {half:{style}}", mean, half)
