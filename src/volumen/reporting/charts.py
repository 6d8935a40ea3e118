"""The kinds of charts on a page: curves, histograms, points and signed bars."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from volumen.reporting.drawing import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Drawing,
    Plot,
    Span,
    drawable,
    nice_ticks,
    pixel,
    short,
    value_range,
)
from volumen.system.output import counted

MOST_POINTS = 400  # of a line; more are averaged in bins, for a page has no more pixels
MOST_DOTS = 60  # a line of at most so many points shows each, with its value on hovering
MOST_BARS = 24
LEAST_ROW, MOST_ROW, NAMES = 22, 56, 118  # pixels of a bar's row, and of the names beside the bars
MOST_LETTERS = 16

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Series:
    """A line: points (x, y) by rising x, y None where the value was not finite."""

    name: str
    points: tuple[Point, ...]
    colour: int
    """Number of the style sheet's series colour, from 1."""
    dashed: bool = False


@dataclass(frozen=True)
class Curves:
    """Lines of one chart and the line below its heading; an axis is logarithmic where every value is positive."""

    title: str
    series: Sequence[Series]
    note: str = ""
    logarithmic: bool = False

    @property
    def moments(self) -> set[float]:
        """Where on the horizontal axis there is a value."""
        return {x for one in self.series for x, _ in one.points}


@dataclass(frozen=True)
class Mark:
    """A moment worth a vertical line."""

    x: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A case's signed value."""

    name: str
    value: float
    target: str = ""
    """Anchor on the page where more is to be seen."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend; `value` is emphasised."""

    colour: int
    text: str
    value: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A card of a page: heading, a line below it, legend, drawing; or, in place of one, what is wrong."""

    title: str
    note: str = ""
    keys: tuple[Key, ...] = ()
    drawing: str = ""
    fault: str = ""


def line_chart(curves: Curves, x_name: str = "epoch", marks: Sequence[Mark] = ()) -> Chart | None:
    """Lines with a legend that gives the last value of each; None where no line has a point."""
    series = [
        replace(one, points=tuple((x, drawable(y)) for x, y in one.points)) for one in curves.series if one.points
    ]
    if not series:
        return None
    values = [y for one in series for _, y in one.points if y is not None]
    if not values:
        return Chart(curves.title, curves.note, fault="No value of this curve was finite.")
    logarithmic = curves.logarithmic and min(values) > 0
    label = f"{curves.title}: {', '.join(one.name for one in series)} by {x_name}"
    across = (min(curves.moments), max(curves.moments))
    plot = Plot(label, across, value_range(values, logarithmic), x_name, logarithmic=logarithmic)
    for mark in marks:
        if across[0] <= mark.x <= across[1]:
            x = plot.x(mark.x)
            plot.add("line", class_="mark", x1=x, x2=x, y1=TOP, y2=plot.floor, title=mark.text)
    for one in series:
        _draw_series(plot, one)
    last = [next((f"{y:.4g}" for _, y in reversed(one.points) if y is not None), "") for one in series]
    keys = [Key(one.colour, one.name, value, one.dashed) for one, value in zip(series, last, strict=True)]
    return Chart(curves.title, curves.note, tuple(keys), plot.markup())


def histogram_chart(
    title: str, groups: Sequence[tuple[str, Sequence[float], int]], *, unit: str, note: str = "", bins: int = 10
) -> Chart | None:
    """Histograms of groups (name, values from 0 on, colour) over the same bins, side by side; None without a value."""
    groups = [group for group in groups if group[1]]
    if not groups:
        return None
    ticks = nice_ticks(0.0, drawable(max(max(values) for _, values, _ in groups)) or 1.0, 6)
    top = ticks[-1] + (ticks[1] - ticks[0])
    counts = [[0] * bins for _ in groups]
    for row, (_, values, _) in zip(counts, groups, strict=True):
        for value in values:
            row[min(bins - 1, int(value / top * bins))] += 1
    plot = Plot(title, (0.0, top), (0.0, 1.08 * max(map(max, counts))), unit, whole=True)
    room = (plot.x(top) - plot.x(0)) / bins
    width = (room - 4) / len(groups)
    for number, ((name, _, colour), row) in enumerate(zip(groups, counts, strict=True)):
        for place, count in enumerate(row):
            if count:
                text = f"{name}: {count} between {place * top / bins:.3g} and {(place + 1) * top / bins:.3g} {unit}"
                left, y, fill = plot.x(0) + place * room + 2 + number * width, plot.y(count), f"var(--series-{colour})"
                plot.add("rect", x=left, y=y, width=width, height=plot.y(0) - y, fill=fill, title=text)
    return Chart(title, note, tuple(Key(colour, name) for name, _, colour in groups), plot.markup())


def scatter_chart(
    title: str,
    points: Sequence[tuple[str, float, float]],
    *,
    x_name: str,
    y_name: str,
    bands: Sequence[Span],
    note: str = "",
) -> Chart | None:
    """Named points (name, x, y) on equal axes from 0 with their diagonal; `bands` of y are shaded. None without any."""
    if not points:
        return None
    most = 1.08 * max(*(max(x, y) for _, x, y in points), *(high for _, high in bands), 1e-3)
    plot = Plot(title, (0.0, most), (0.0, most), x_name, y_name)
    for low, high in bands:
        top, text = plot.y(high), f"{short(round(low, 2))} to {short(round(high, 2))}"
        plot.add("rect", class_="band", x=LEFT, y=top, width=WIDTH - LEFT - RIGHT, height=plot.y(low) - top, title=text)
    plot.diagonal()
    for name, x, y in points:
        plot.dot(plot.x(x), plot.y(y), 1, 4.5, f"{name}: {y_name} {y:.2f}, {x_name} {x:.2f}")
    return Chart(title, note, drawing=plot.markup())


def bars_chart(title: str, bars: Sequence[Bar], *, unit: str, least: float, note: str) -> Chart | None:
    """Signed bars by falling value, of more than `MOST_BARS` the extremes of both ends; None without any.

    The scale reaches as far as `least` to both sides at least.
    """
    if not bars:
        return None
    ranked = sorted(bars, key=lambda one: -one.value)
    if len(ranked) > MOST_BARS:
        ranked = [*ranked[: MOST_BARS // 2], *ranked[-MOST_BARS // 2 :]]
        note = f"{note}; the {MOST_BARS} extremes of {counted(len(bars), 'case')}"
    low, high = min(-least, ranked[-1].value), max(least, ranked[0].value)
    room = 0.2 * (high - low)  # for the numbers at the bars' ends
    span = (low - room, high + room)
    row = max(LEAST_ROW, min(MOST_ROW, 190 // len(ranked)))
    floor = TOP + row * len(ranked)
    drawing = Drawing(title, WIDTH, floor + 30)
    for tick in nice_ticks(*span):
        x = pixel(tick, span, (NAMES, WIDTH - RIGHT))
        drawing.add("line", class_="grid", x1=x, x2=x, y1=TOP, y2=floor)
        if x < WIDTH - RIGHT - 7 * len(unit) - 16:  # room for the unit
            drawing.add("text", x=x, y=floor + 17, text_anchor="middle", text=short(round(tick, 9)))
    drawing.add("text", x=WIDTH - RIGHT, y=floor + 17, text_anchor="end", text=unit)
    zero = pixel(0.0, span, (NAMES, WIDTH - RIGHT))
    for place, one in enumerate(ranked):
        top, end = TOP + row * place, pixel(one.value, span, (NAMES, WIDTH - RIGHT))
        name = one.name if len(one.name) <= MOST_LETTERS else one.name[: MOST_LETTERS - 1] + "…"
        group = drawing.add("a" if one.target else "g", title=f"{one.name}: {one.value:+.2f}")
        if one.target:
            group.set("href", f"#{one.target}")
        line = top + row / 2 + 4  # of the texts
        drawing.add("text", inside=group, x=NAMES - 8, y=line, text_anchor="end", text=name)
        left, width, fill = min(zero, end), abs(end - zero), f"var(--series-{2 if one.value > 0 else 1})"
        drawing.add("rect", inside=group, x=left, y=top + 3, width=width, height=row - 6, fill=fill)
        beside, anchor = (end + 5, "start") if end >= zero else (end - 5, "end")
        drawing.add("text", x=beside, y=line, text_anchor=anchor, text=f"{one.value:+.2f}")
    drawing.add("line", class_="zero", x1=zero, x2=zero, y1=TOP, y2=floor)
    return Chart(title, note, drawing=drawing.markup())


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most about `most` points: means of equal runs, except that a value that was not finite is always kept."""
    if len(points) <= most:
        return tuple(points)
    run = -(-len(points) // most)
    result: list[Point] = []
    for start in range(0, len(points), run):
        part = points[start : start + run]
        finite = [(x, y) for x, y in part if y is not None]
        if finite:
            result.append((sum(x for x, _ in finite) / len(finite), sum(y for _, y in finite) / len(finite)))
        result += [(x, None) for x, y in part if y is None]
    return tuple(sorted(result, key=lambda point: point[0]))


def _unbroken(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """The stretches of points that have a value."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _draw_series(plot: Plot, one: Series) -> None:
    points = thin(one.points)
    for run in _unbroken(points):
        if len(run) > 1:
            plot.line(run, one.colour, dashed=one.dashed)
        else:
            plot.dot(plot.x(run[0][0]), plot.y(run[0][1]), one.colour, 3.0)
    for x, y in points:
        if y is None:
            cross = f"M{plot.x(x) - 4:.1f} {plot.floor - 9}l8 8m0 -8l-8 8"
            plot.add("path", class_="lost", d=cross, title=f"{one.name} at {short(x)}: not finite")
        elif len(one.points) <= MOST_DOTS:
            plot.dot(plot.x(x), plot.y(y), one.colour, 2.2, f"{one.name} at {short(x)}: {y:.5g}")
