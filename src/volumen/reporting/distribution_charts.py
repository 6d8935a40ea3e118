"""Charts of a class distribution: shares against shares, precision against recall, calibration, and signed bars.

Drawn in the room of `curves`, so they look like every other chart of the page and follow its light or dark setting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from volumen.experiments.distribution import Operating, Reliability
from volumen.reporting.curves import (
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    dot,
    drawing,
    figure,
    frame,
    nice_ticks,
    pixel,
    remark,
    short,
)
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.words import number
from volumen.system.output import counted

HEIGHT, BOTTOM = 340, 46  # of the charts that are as good as square
LEAST_ROW, MOST_ROW, NAMES = 22, 56, 118  # pixels of a bar's row, and of the names beside the bars
MOST_BARS = 24
MOST_LETTERS = 16


@dataclass(frozen=True)
class Point:
    """A case in a scatter chart."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Bar:
    """A case's signed value."""

    name: str
    value: float
    target: str = ""
    """Anchor on the page where more is to be seen."""


def scatter_chart(
    title: str, points: Sequence[Point], *, x_name: str, y_name: str, bands: Sequence[tuple[float, float]], note: str
) -> Markup:
    """Points on equal axes from 0, with the diagonal on which they should lie.

    Args:
        title: Heading.
        points: What is drawn; without any the result is empty.
        x_name: Of the horizontal axis.
        y_name: Of the vertical axis.
        bands: Ranges of y that are shaded, one over the other.
        note: A line below the heading.
    """
    if not points:
        return NOTHING
    most = 1.08 * max(*(one.x for one in points), *(one.y for one in points), *(high for _, high in bands), 1e-3)
    axes = Axes((0.0, most), (0.0, most), height=HEIGHT, bottom=BOTTOM)
    body = [frame(axes, x_name, y_name)]
    for low, high in bands:
        top, text = axes.y(high), f"{short(round(low, 2))} to {short(round(high, 2))}"
        shape = html('x="{}" width="{}" y="{:.1f}" height="{:.1f}"', LEFT, WIDTH - LEFT - RIGHT, top, axes.y(low) - top)
        body.append(html('<rect class="band" {}><title>{}</title></rect>', shape, text))
    body.append(_diagonal(axes))
    for one in points:
        text = f"{one.name}: {y_name} {one.y:.2f}, {x_name} {one.x:.2f}"
        body.append(dot(axes.x(one.x), axes.y(one.y), 1, 4.5, text))
    return figure(title, remark(note), drawing(title, body, HEIGHT))


def precision_recall_chart(curve: Sequence[Operating], best: Operating, used: Operating | None) -> Markup:
    """Precision against recall over all thresholds, with the threshold in use and the one of best Dice."""
    shown = [one for one in curve if not math.isnan(one.precision + one.recall)]
    if not shown:
        return NOTHING
    axes = Axes((0.0, 1.0), (0.0, 1.0), height=HEIGHT, bottom=BOTTOM)
    path = " ".join(f"{axes.x(one.recall):.1f},{axes.y(one.precision):.1f}" for one in shown)
    body = [
        frame(axes, "recall", "precision"),
        html('<polyline class="line" points="{}" stroke="var(--series-1)"/>', path),
        *(dot(axes.x(one.recall), axes.y(one.precision), 1, 2.2, _said(one)) for one in shown),
    ]
    keys = [_key(1, "thresholds 0 to 0.99")]
    if used is not None:
        if used in shown:
            body.append(dot(axes.x(used.recall), axes.y(used.precision), 2, 5.5, f"in use: {_said(used)}"))
        said = "in use " if used in shown else "in use, finds nothing "
        keys.append(_key(2, said, html("<b>{:.2f}</b>", used.threshold)))
    centre = html('cx="{:.1f}" cy="{:.1f}"', axes.x(best.recall), axes.y(best.precision))
    ring = '<circle class="ring" {} r="9" stroke="var(--series-3)"><title>best Dice: {}</title></circle>'
    body.append(html(ring, centre, _said(best)))
    keys.append(_key(3, "best Dice ", html("<b>{:.2f}</b>", best.threshold)))
    title = "Precision and recall over thresholds"
    return figure(title, html('<div class="legend">{}</div>', joined(keys)), drawing(title, body, HEIGHT))


def reliability_chart(parts: Sequence[Reliability], error: float) -> Markup:
    """Observed share of surface against the predicted probability; a dot's area grows with its voxels.

    Args:
        parts: Bins of probability; without any the result is empty.
        error: Expected calibration error.
    """
    if not parts:
        return NOTHING
    axes = Axes((0.0, 1.0), (0.0, 1.0), height=HEIGHT, bottom=BOTTOM)
    path = " ".join(f"{axes.x(one.predicted):.1f},{axes.y(one.observed):.1f}" for one in parts)
    voxels = sum(one.voxels for one in parts)
    body = [
        frame(axes, "predicted probability", "observed share of surface"),
        _diagonal(axes),
        html('<polyline class="line" points="{}" stroke="var(--series-1)"/>', path),
    ]
    for one in parts:
        share = one.voxels / voxels
        text = f"predicted {one.predicted:.3f}, observed {one.observed:.3f}, {100 * share:.2g} % of the voxels"
        body.append(dot(axes.x(one.predicted), axes.y(one.observed), 1, 3 + 7 * math.sqrt(share), text))
    title = "Calibration"
    note = f"above the diagonal: too cautious, below: too sure; calibration error {number(error)}"
    return figure(title, remark(note), drawing(title, body, HEIGHT))


def bars_chart(title: str, bars: Sequence[Bar], *, unit: str, least: float, note: str) -> Markup:
    """Signed bars by falling value; of more than `MOST_BARS` the extremes of both ends.

    Args:
        title: Heading.
        bars: One for each case; without any the result is empty.
        unit: Of the values.
        least: The scale reaches so far to both sides at least.
        note: A line below the heading.
    """
    if not bars:
        return NOTHING
    ranked = sorted(bars, key=lambda one: -one.value)
    if len(ranked) > MOST_BARS:
        ranked = [*ranked[: MOST_BARS // 2], *ranked[-MOST_BARS // 2 :]]
        note = f"{note}; the {MOST_BARS} extremes of {counted(len(bars), 'case')}"
    low, high = min(-least, ranked[-1].value), max(least, ranked[0].value)
    room = 0.2 * (high - low)  # for the numbers at the bars' ends
    low, high = low - room, high + room
    row = max(LEAST_ROW, min(MOST_ROW, 190 // len(ranked)))
    height = TOP + row * len(ranked) + 30
    floor = height - 30

    def across(value: float) -> float:
        return pixel(value, (low, high), (NAMES, WIDTH - RIGHT))

    body = []
    for tick in nice_ticks(low, high):
        x = across(tick)
        body.append(html('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>', x, x, TOP, floor))
        if x < WIDTH - RIGHT - 7 * len(unit) - 16:  # room for the axis's name
            label = '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
            body.append(html(label, x, floor + 17, short(round(tick, 9))))
    body.append(html('<text x="{}" y="{}" text-anchor="end">{}</text>', WIDTH - RIGHT, floor + 17, unit))
    body += [_bar(one, TOP + row * place, row, across(0.0), across(one.value)) for place, one in enumerate(ranked)]
    zero = across(0.0)
    body.append(html('<line class="zero" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>', zero, zero, TOP, floor))
    return figure(title, remark(note), drawing(title, body, height))


def _bar(one: Bar, top: float, row: float, zero: float, end: float) -> Markup:
    line = top + row / 2 + 4  # of the texts
    name = one.name if len(one.name) <= MOST_LETTERS else one.name[: MOST_LETTERS - 1] + "…"
    shape = html(
        'x="{:.1f}" y="{}" width="{:.1f}" height="{}" fill="var(--series-{})"',
        min(zero, end), top + 3, abs(end - zero), row - 6, 2 if one.value > 0 else 1,
    )  # fmt: skip
    drawn = html(
        '<title>{}: {:+.2f}</title><text x="{}" y="{}" text-anchor="end">{}</text><rect {}/>',
        one.name, one.value, NAMES - 8, line, name, shape,
    )  # fmt: skip
    beside = html('x="{:.1f}"', end + 5) if end >= zero else html('x="{:.1f}" text-anchor="end"', end - 5)
    number = html('<text {} y="{}">{:+.2f}</text>', beside, line, one.value)
    return joined((html('<a href="#{}">{}</a>', one.target, drawn) if one.target else html("<g>{}</g>", drawn), number))


def _diagonal(axes: Axes) -> Markup:
    (left, right), (bottom, top) = axes.x_range, axes.y_range
    line = '<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    return html(line, axes.x(left), axes.y(bottom), axes.x(right), axes.y(top))


def _said(one: Operating) -> str:
    return (
        f"threshold {one.threshold:.2f}: precision {number(one.precision)}, recall {number(one.recall)}, "
        f"Dice {number(one.dice)}, surface {number(100 * one.predicted_share, '.1f')} %"
    )


def _key(colour: int, text: str, value: Markup = NOTHING) -> Markup:
    return html('<span><i class="series-{}"></i>{}{}</span>', colour, text, value)
