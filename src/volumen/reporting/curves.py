"""Curves and histograms as inline SVG: no script, no network, sharp at any size, and in the page's own colours.

Colours are the style sheet's variables `--series-1` and so on, so a chart follows the reader's light or dark setting.
A value that was not finite is no gap to overlook: it stands as a red mark on the chart's floor. Every pixel comes from
`pixel`, which stays inside of the chart whatever the value is.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from volumen.reporting.markup import NOTHING, Markup, html, joined

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 30
MOST_POINTS = 400  # of a line; more are averaged in bins, for a page has no more pixels
MOST_DRAWN = 1e100  # a larger number stands as one that was not finite: no axis reaches so far
MOST_DOTS = 60  # a line of at most so many points shows each, with its value on hovering

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
class Mark:
    """A moment worth a vertical line."""

    x: float
    text: str


@dataclass(frozen=True)
class Axes:
    """The mapping from values to pixels."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    logarithmic: bool = False
    height: int = HEIGHT
    """Of the chart, pixels."""
    bottom: int = BOTTOM
    """Pixels below the horizontal axis; with more than `BOTTOM` its name stands in a row of its own."""

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return pixel(value, self.x_range, (LEFT, WIDTH - RIGHT))

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (*self.y_range, value))
        return pixel(at, (low, high), (self.floor, TOP))

    @property
    def floor(self) -> float:
        """Pixels from the top of the horizontal axis."""
        return self.height - self.bottom


def pixel(value: float, span: tuple[float, float], pixels: tuple[float, float]) -> float:
    """Where a value stands between two pixels: never outside of them, and always a number."""
    low, high = span
    share = (value - low) / (high - low) if high > low else 0.0
    return pixels[0] + (min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0) * (pixels[1] - pixels[0])


def drawable(value: float | None) -> float | None:
    """A value that an axis can hold, the least of them as 0; None for one that is not finite, or as good as that."""
    if value is None or not abs(value) <= MOST_DRAWN:
        return None
    return value if abs(value) >= 1 / MOST_DRAWN else 0.0


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str = "epoch",
    logarithmic: bool = False,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> Markup:
    """A figure with a heading, a legend that gives each line's last value, and the chart.

    Args:
        title: Heading.
        series: Lines; those without points are left out. Without any the result is empty.
        x_name: What the horizontal axis counts.
        logarithmic: Vertical axis by powers of ten, where every value is positive.
        marks: Vertical lines.
        note: A line below the heading.
    """
    shown = [_drawable(one) for one in series if one.points]
    values = [y for one in shown for _, y in one.points if y is not None]
    if not shown:
        return NOTHING
    legend = html('<div class="legend">{}</div>', joined(_legend_entry(one) for one in shown))
    if not values:
        return figure(title, remark(note), html('<p class="bad">No value of this curve was finite.</p>'))
    moments = {x for one in shown for x, _ in one.points}
    if len(moments) == 1:  # a single moment is no curve: the legend says it all
        at = remark(f"one record, {x_name} {short(moments.pop())}")
        return figure(title, remark(note), at, legend)
    axes = _axes(shown, values, logarithmic and min(values) > 0)
    body = [frame(axes, x_name), *(_mark(mark, axes) for mark in marks), *(_line(one, axes) for one in shown)]
    label = f"{title}: {', '.join(one.name for one in shown)} by {x_name}"
    return figure(title, remark(note), legend, drawing(label, body))


def histogram_chart(
    title: str, groups: Sequence[tuple[str, Sequence[float], int]], *, unit: str, note: str = "", bins: int = 10
) -> Markup:
    """A figure with the histograms of several groups of values over the same bins, side by side.

    Args:
        title: Heading.
        groups: Name, values and series colour of each group.
        unit: What the values are counted in, for the horizontal axis.
        note: A line below the heading.
        bins: Equal bins between 0 and the largest value.
    """
    groups = [group for group in groups if len(group[1])]
    if not groups:
        return NOTHING
    ticks = nice_ticks(0.0, drawable(max(max(values) for _, values, _ in groups)) or 1.0, 6)
    top = ticks[-1] + (ticks[1] - ticks[0])
    counts = [[0] * bins for _ in groups]
    for number, (_, values, _) in enumerate(groups):
        for value in values:
            counts[number][min(bins - 1, int(value / top * bins))] += 1
    most = max(max(row) for row in counts)
    axes = Axes((0.0, top), (0.0, most * 1.08), logarithmic=False)
    body = [frame(axes, unit, whole=True)]
    room = (axes.x(top) - axes.x(0)) / bins
    bar = (room - 4) / len(groups)
    for number, (name, _, colour) in enumerate(groups):
        for place, count in enumerate(counts[number]):
            if count:
                left, high = axes.x(0) + place * room + 2 + number * bar, axes.y(count)
                text = f"{name}: {count} between {place * top / bins:.3g} and {(place + 1) * top / bins:.3g} {unit}"
                shape = html('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"', left, high, bar, axes.y(0) - high)
                body.append(html('<rect {} fill="var(--series-{})"><title>{}</title></rect>', shape, colour, text))
    keys = joined(html('<span><i class="series-{}"></i>{}</span>', colour, name) for name, _, colour in groups)
    return figure(title, remark(note), html('<div class="legend">{}</div>', keys), drawing(title, body))


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


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from within [low, high], 1, 2 or 5 times a power of ten apart; at least two where low < high."""
    if not high > low:
        return [low]
    for count in (about, 2 * about, 4 * about):
        rough = (high - low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        if len(ticks) >= 2:
            return ticks
    return [low, high]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**exponent for exponent in exponents if low <= 10.0**exponent <= high]
    if len(decades) >= 3:
        return decades[:: -(-len(decades) // 6)]
    fine = [m * 10.0**exponent for exponent in exponents for m in (1, 2, 5) if low <= m * 10.0**exponent <= high]
    return fine if len(fine) >= 2 else nice_ticks(low, high, 3)


def _axes(series: Sequence[Series], values: Sequence[float], logarithmic: bool) -> Axes:
    xs = [x for one in series for x, _ in one.points]
    left, right = min(xs), max(xs)
    low, high = min(values), max(values)
    if logarithmic:
        margin = max((high / low) ** 0.06, 1.15)
        return Axes((left, right), (low / margin, high * margin), True)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    floor = 0.0 if 0 <= low < margin * 4 else low - margin
    return Axes((left, right), (floor, high + margin), False)


def frame(axes: Axes, x_name: str, y_name: str = "", *, whole: bool = False) -> Markup:
    """Grid, ticks and the axes' names; `whole` leaves out fractions on the vertical axis."""
    ticks = _log_ticks(*axes.y_range) if axes.logarithmic else nice_ticks(*axes.y_range)
    if whole:
        ticks = [tick for tick in ticks if tick == int(tick)]
    right, floor, own_row = WIDTH - RIGHT, axes.floor, axes.bottom > BOTTOM
    parts = []
    for tick in ticks:
        y = axes.y(tick)
        parts.append(html('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>', LEFT, right, y, y))
        parts.append(html('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>', LEFT - 6, y + 4, short(tick)))
    across = nice_ticks(*axes.x_range)
    for tick in across if x_name != "epoch" else (tick for tick in across if tick == round(tick)):
        x = axes.x(tick)
        parts.append(html('<line class="tick" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>', x, x, floor, floor + 4))
        if own_row or x < right - 7 * len(x_name) - 16:  # room for the axis's name
            parts.append(html('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>', x, floor + 17, short(tick)))
    parts.append(html('<line class="tick" x1="{}" x2="{}" y1="{}" y2="{}"/>', LEFT, right, floor, floor))
    below = floor + (34 if own_row else 17)
    parts.append(html('<text class="axis" x="{}" y="{}" text-anchor="end">{}</text>', right, below, x_name))
    if y_name:
        middle = (TOP + floor) / 2
        turned = html('transform="rotate(-90 12 {:.1f})"', middle)
        parts.append(
            html('<text class="axis" x="12" y="{:.1f}" text-anchor="middle" {}>{}</text>', middle, turned, y_name)
        )
    return joined(parts)


def _line(one: Series, axes: Axes) -> Markup:
    floor = axes.floor
    parts, run = list[Markup](), list[tuple[float, float]]()
    dash = html(' stroke-dasharray="5 4"') if one.dashed else NOTHING
    for x, y in [*thin(one.points), (math.nan, None)]:
        if y is not None:
            run.append((axes.x(x), axes.y(y)))
            continue
        if len(run) > 1:
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in run)
            line = '<polyline class="line" points="{}" stroke="var(--series-{})"{}/>'
            parts.append(html(line, path, one.colour, dash))
        elif run:
            parts.append(dot(*run[0], one.colour, 3.0, ""))
        run = []
        if x == x:
            at = axes.x(x)
            shape = html('class="lost" d="M{:.1f} {}l8 8m0 -8l-8 8"', at - 4, floor - 9)
            parts.append(html("<path {}><title>{} at {}: not finite</title></path>", shape, one.name, short(x)))
    if len(one.points) <= MOST_DOTS:
        for x, y in one.points:
            if y is not None:
                text = f"{one.name} at {short(x)}: {y:.5g}"
                parts.append(dot(axes.x(x), axes.y(y), one.colour, 2.2, text))
    return joined(parts)


def _drawable(one: Series) -> Series:
    return replace(one, points=tuple((x, drawable(y)) for x, y in one.points))


def dot(x: float, y: float, colour: int, radius: float, text: str) -> Markup:
    """A filled circle at a pixel, in a series' colour, with a text on hovering."""
    title = html("<title>{}</title>", text) if text else NOTHING
    return html(
        '<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="var(--series-{})">{}</circle>', x, y, radius, colour, title
    )


def _mark(mark: Mark, axes: Axes) -> Markup:
    low, high = axes.x_range
    if not low <= mark.x <= high:
        return NOTHING
    x, line = axes.x(mark.x), '<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"><title>{}</title></line>'
    return html(line, x, x, TOP, axes.floor, mark.text)


def _legend_entry(one: Series) -> Markup:
    last = next((y for _, y in reversed(one.points) if y is not None), None)
    value = NOTHING if last is None else html(" <b>{:.4g}</b>", last)
    return html('<span><i class="{}series-{}"></i>{}{}</span>', "dashed " * one.dashed, one.colour, one.name, value)


def remark(note: str) -> Markup:
    """A line below a heading."""
    return html('<p class="note">{}</p>', note) if note else NOTHING


def figure(title: str, *inner: Markup) -> Markup:
    """A chart's card with its heading."""
    return html('<figure class="chart"><h3>{}</h3>{}</figure>', title, joined(inner))


def drawing(label: str, body: Iterable[Markup], height: int = HEIGHT) -> Markup:
    """A chart of WIDTH by `height` pixels."""
    svg = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return html(svg, WIDTH, height, label, joined(body))


def short(value: float) -> str:
    """A tick's number, as short as it can be said."""
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-3 else f"{value:.6g}"
