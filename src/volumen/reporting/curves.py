"""Curves and histograms as inline SVG: no script, no network, sharp at any size, and in the page's own colours.

Colours are the style sheet's variables `--series-1` and so on, so a chart follows the reader's light or dark setting.
A value that was not finite is no gap to overlook: it stands as a red mark on the chart's floor.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 30
MOST_POINTS = 400  # of a line; more are averaged in bins, for a page has no more pixels
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
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (*self.y_range, value))
        return self.floor - (at - low) / (high - low) * (self.floor - TOP)

    @property
    def floor(self) -> float:
        """Pixels from the top of the horizontal axis."""
        return self.height - self.bottom


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str = "epoch",
    logarithmic: bool = False,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> str:
    """A figure with a heading, a legend that gives each line's last value, and the chart.

    Args:
        title: Heading.
        series: Lines; those without points are left out. Without any the result is empty.
        x_name: What the horizontal axis counts.
        logarithmic: Vertical axis by powers of ten, where every value is positive.
        marks: Vertical lines.
        note: A line below the heading.
    """
    shown = [one for one in series if one.points]
    values = [y for one in shown for _, y in one.points if y is not None]
    if not shown:
        return ""
    legend = "".join(_legend_entry(one) for one in shown)
    if not values:
        return figure(title, f'{remark(note)}<p class="bad">No value of this curve was finite.</p>')
    moments = {x for one in shown for x, _ in one.points}
    if len(moments) == 1:  # a single moment is no curve: the legend says it all
        at = remark(f"one record, {x_name} {short(moments.pop())}")
        return figure(title, f'{remark(note)}{at}<div class="legend">{legend}</div>')
    axes = _axes(shown, values, logarithmic and min(values) > 0)
    body = [frame(axes, x_name), *(_mark(mark, axes) for mark in marks), *(_line(one, axes) for one in shown)]
    label = f"{title}: {', '.join(one.name for one in shown)} by {x_name}"
    return figure(title, f'{remark(note)}<div class="legend">{legend}</div>{drawing(label, body)}')


def histogram_chart(
    title: str, groups: Sequence[tuple[str, Sequence[float], int]], *, unit: str, note: str = "", bins: int = 10
) -> str:
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
        return ""
    ticks = nice_ticks(0.0, max(max(values) for _, values, _ in groups) or 1.0, 6)
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
                body.append(
                    f'<rect x="{left:.1f}" y="{high:.1f}" width="{bar:.1f}" height="{axes.y(0) - high:.1f}" '
                    f'fill="var(--series-{colour})"><title>{escape(text)}</title></rect>'
                )
    legend = "".join(f'<span><i style="--colour:var(--series-{c})"></i>{escape(n)}</span>' for n, _, c in groups)
    return figure(title, f'{remark(note)}<div class="legend">{legend}</div>{drawing(title, body)}')


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


def frame(axes: Axes, x_name: str, y_name: str = "", *, whole: bool = False) -> str:
    """Grid, ticks and the axes' names; `whole` leaves out fractions on the vertical axis."""
    ticks = _log_ticks(*axes.y_range) if axes.logarithmic else nice_ticks(*axes.y_range)
    if whole:
        ticks = [tick for tick in ticks if tick == int(tick)]
    right, floor, own_row = WIDTH - RIGHT, axes.floor, axes.bottom > BOTTOM
    parts = []
    for tick in ticks:
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    across = nice_ticks(*axes.x_range)
    for tick in across if x_name != "epoch" else (tick for tick in across if tick == round(tick)):
        x = axes.x(tick)
        parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        if own_row or x < right - 7 * len(x_name) - 16:  # room for the axis's name
            parts.append(f'<text x="{x:.1f}" y="{floor + 17}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<line class="tick" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    below = floor + (34 if own_row else 17)
    parts.append(f'<text class="axis" x="{right}" y="{below}" text-anchor="end">{escape(x_name)}</text>')
    if y_name:
        middle = (TOP + floor) / 2
        turned = f'transform="rotate(-90 12 {middle:.1f})"'
        parts.append(
            f'<text class="axis" x="12" y="{middle:.1f}" text-anchor="middle" {turned}>{escape(y_name)}</text>'
        )
    return "".join(parts)


def _line(one: Series, axes: Axes) -> str:
    floor = axes.floor
    parts, run = list[str](), list[tuple[float, float]]()
    dash = ' stroke-dasharray="5 4"' if one.dashed else ""
    for x, y in [*thin(one.points), (math.nan, None)]:
        if y is not None:
            run.append((axes.x(x), axes.y(y)))
            continue
        if len(run) > 1:
            colour = f'stroke="var(--series-{one.colour})"'
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in run)
            parts.append(f'<polyline class="line" points="{path}" {colour}{dash}/>')
        elif run:
            parts.append(dot(*run[0], one.colour, 3.0, ""))
        run = []
        if x == x:
            at = axes.x(x)
            parts.append(
                f'<path class="lost" d="M{at - 4:.1f} {floor - 9}l8 8m0 -8l-8 8">'
                f"<title>{escape(one.name)} at {short(x)}: not finite</title></path>"
            )
    if len(one.points) <= MOST_DOTS:
        for x, y in one.points:
            if y is not None:
                text = f"{one.name} at {short(x)}: {y:.5g}"
                parts.append(dot(axes.x(x), axes.y(y), one.colour, 2.2, text))
    return "".join(parts)


def dot(x: float, y: float, colour: int, radius: float, text: str) -> str:
    """A filled circle at a pixel, in a series' colour, with a text on hovering."""
    title = f"<title>{escape(text)}</title>" if text else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="var(--series-{colour})">{title}</circle>'


def _mark(mark: Mark, axes: Axes) -> str:
    low, high = axes.x_range
    if not low <= mark.x <= high:
        return ""
    x = axes.x(mark.x)
    title = f"<title>{escape(mark.text)}</title>"
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{axes.floor}">{title}</line>'


def _legend_entry(one: Series) -> str:
    last = next((y for _, y in reversed(one.points) if y is not None), None)
    value = "" if last is None else f" <b>{last:.4g}</b>"
    kind = ' class="dashed"' if one.dashed else ""
    return f'<span><i{kind} style="--colour:var(--series-{one.colour})"></i>{escape(one.name)}{value}</span>'


def remark(note: str) -> str:
    """A line below a heading."""
    return f'<p class="note">{escape(note)}</p>' if note else ""


def figure(title: str, inner: str) -> str:
    """A chart's card with its heading."""
    return f'<figure class="chart"><h3>{escape(title)}</h3>{inner}</figure>'


def drawing(label: str, body: Iterable[str], height: int = HEIGHT) -> str:
    """A chart of WIDTH by `height` pixels."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(body)}</svg>'


def short(value: float) -> str:
    """A tick's number, as short as it can be said."""
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-3 else f"{value:.6g}"
