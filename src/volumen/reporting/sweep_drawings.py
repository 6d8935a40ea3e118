"""The pictures of a sweep: parallel coordinates, each factor alone, importances, and the best so far."""

import math
from collections.abc import Sequence

from volumen.experiments.sweep_halving import BASELINE, Entry, Value, ranked
from volumen.experiments.sweep_report import SweepReport
from volumen.experiments.sweep_space import Factor, Space
from volumen.reporting.charts import Chart, Curves, Key, Series, line_chart
from volumen.reporting.drawing import Drawing, Plot, Span, nice_ticks, pixel, short, value_range
from volumen.reporting.sweep_tables import share_text, value_text
from volumen.reporting.words import words
from volumen.system.output import counted

WIDTH, TOP, FLOOR, MARGIN = 960, 44, 330, 90  # pixels
ABSENT = 34  # pixels below an axis for what a trial does not have
BEST, OWN, WHOLE, STOPPED = 3, 2, 1, 8
"""Colours of the best third of the whole trials, of the configuration itself, of whole trials and of the others."""
MOST_LETTERS, MOST_LINES, MOST_PLACES = 20, 400, 8
ROW = 26


def parallel(report: SweepReport, space: Space) -> Chart | None:
    """Every trial as a line through the values of its factors, to its value at the right; None without trials."""
    known = ranked(report.entries)[:MOST_LINES]
    if not known:
        return None
    span = value_range([one.values[-1] for one in known], logarithmic=False)
    axes = len(space.factors) + 1
    drawing = Drawing(
        f"Trials as lines through {', '.join(one.key for one in space.factors)} and {words(report.metric)}",
        WIDTH, FLOOR + ABSENT + 16,
    )  # fmt: skip
    across = [pixel(number, (0, axes - 1), (MARGIN, WIDTH - MARGIN)) for number in range(axes)]
    for one in reversed(known):  # the best on top
        points = [(x, _height(factor, one)) for x, factor in zip(across, space.factors, strict=False)]
        points.append((across[-1], pixel(one.values[-1], span, (FLOOR, TOP))))
        colour = _colour(report, one)
        drawing.add(
            "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), fill="none",
            stroke=f"var(--series-{colour})", stroke_width=2.4 if colour in (BEST, OWN) else 1.2,
            opacity=0.9 if colour in (BEST, OWN) else 0.45, title=_said(report, one),
        )  # fmt: skip
    for x, factor in zip(across, space.factors, strict=False):
        _axis(drawing, x, factor.key, [(_share(factor, value), value_text(value)) for value in _ticks(factor)])
        if factor.when or any(factor.key not in one.parameters for one in known):
            drawing.add("text", x=x, y=FLOOR + ABSENT + 4, text_anchor="middle", text="not set")
    marks = [((tick - span[0]) / (span[1] - span[0]), short(tick)) for tick in nice_ticks(*span)]
    _axis(drawing, across[-1], words(report.metric), marks)
    keys = (
        Key(BEST, "best third of the whole trials"), Key(OWN, "the configuration itself"),
        Key(WHOLE, "other whole trials"), Key(STOPPED, "stopped at a rung; value there"),
    )  # fmt: skip
    more = f" The best {MOST_LINES} of {len(report.entries)}." if len(known) < len(ranked(report.entries)) else ""
    note = f"A line is a trial; hover over it for its values.{more} Values of stopped trials are of shorter trainings."
    return Chart("Every trial", note, keys, drawing.markup())


def _axis(drawing: Drawing, x: float, name: str, marks: Sequence[tuple[float, str]]) -> None:
    drawing.add("line", class_="tick", x1=x, x2=x, y1=TOP, y2=FLOOR)
    short_name = name if len(name) <= MOST_LETTERS else f"…{name.rpartition('.')[2][:MOST_LETTERS]}"
    drawing.add("text", class_="axis", x=x, y=TOP - 20, text_anchor="middle", text=short_name, title=name)
    for share, text in marks:
        y = pixel(share, (0.0, 1.0), (FLOOR, TOP))
        drawing.add("line", class_="tick", x1=x - 4, x2=x, y1=y, y2=y)
        said = text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
        drawing.add(
            "text", x=x - 7, y=y + 4, text_anchor="end", text=said, title=text, paint_order="stroke",
            stroke="var(--card)", stroke_width=4,
        )  # fmt: skip


def _ticks(factor: Factor) -> list[Value]:
    if factor.low is None:
        return list(factor.choices)
    if factor.log:
        low, high = math.ceil(math.log10(factor.low) - 1e-9), math.floor(math.log10(factor.last) + 1e-9)
        whole: list[Value] = [10.0**power for power in range(low, high + 1)]
        return whole if len(whole) > 1 else [factor.low, factor.last]
    return [tick for tick in nice_ticks(factor.low, factor.last) if not factor.whole or tick == int(tick)]


def _share(factor: Factor, value: Value) -> float:
    """Where on its axis a value stands, 0 to 1."""
    if factor.low is None:
        names = list(factor.choices)
        return names.index(str(value)) / (len(names) - 1) if str(value) in names else 0.0
    low, high, at = factor.low, factor.last, float(value)
    if factor.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low) if high > low else 0.0


def _height(factor: Factor, entry: Entry) -> float:
    if factor.key not in entry.parameters:
        return FLOOR + ABSENT
    return pixel(_share(factor, entry.parameters[factor.key]), (0.0, 1.0), (FLOOR, TOP))


def _colour(report: SweepReport, entry: Entry) -> int:
    if entry.number == BASELINE:
        return OWN
    whole = [one.number for one in report.complete if one.number != BASELINE]
    if entry.number in whole[: -(-len(whole) // 3)]:
        return BEST
    return WHOLE if entry.number in whole else STOPPED


def _said(report: SweepReport, entry: Entry) -> str:
    values = ", ".join(f"{key} {value_text(value)}" for key, value in entry.parameters.items())
    return f"trial {entry.number}: {values}: {words(report.metric)} {entry.values[-1]:.4f}"


def slices(report: SweepReport, space: Space) -> list[Chart]:
    """Each factor alone: every trial's value after the first rung, where all were trained equally long."""
    charts = []
    for factor in space.factors:
        found = [one for one in report.entries if one.values and factor.key in one.parameters]
        if found:
            charts.append(_slice(report, factor, found))
    return charts


def _slice(report: SweepReport, factor: Factor, found: Sequence[Entry]) -> Chart:
    up = value_range([one.values[0] for one in found], logarithmic=False)
    label = f"{words(report.metric)} by {factor.key}"
    grid = factor.grid or ()
    if 0 < len(grid) <= MOST_PLACES:
        plot: Plot = _Choices(label, [value_text(one) for one in grid], up)
        places = [float(grid.index(one.parameters[factor.key])) for one in found if one.parameters[factor.key] in grid]
        found = [one for one in found if one.parameters[factor.key] in grid]
    else:
        assert factor.low is not None
        numbers = [float(one.parameters[factor.key]) for one in found]
        places = [math.log10(one) for one in numbers] if factor.log else numbers
        ends = (math.log10(factor.low), math.log10(factor.last)) if factor.log else (factor.low, factor.last)
        plot = Plot(label, ends, up, "log10" if factor.log else "")
    for place, one in zip(places, found, strict=True):
        plot.dot(plot.x(place), plot.y(one.values[0]), _colour(report, one), 3.5, _said(report, one))
    return Chart(factor.key, f"{words(report.metric)} after {counted(report.rungs[0], 'epoch')}", drawing=plot.markup())


class _Choices(Plot):
    """A plot whose places are names."""

    def __init__(self, label: str, names: Sequence[str], up: Span) -> None:
        super().__init__(label, (-0.5, len(names) - 0.5), up, " " * 200)  # so long a name leaves no room for numbers
        for number, name in enumerate(names):
            said = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
            self.add("text", x=self.x(number), y=self.floor + 17, text_anchor="middle", text=said, title=name)


def importance_bars(report: SweepReport) -> Chart | None:
    """A bar for each factor with its interval; None where none can be told."""
    known = [(one, one.share, one.low, one.high) for one in report.importances]
    bars = [(one, share, low, high) for one, share, low, high in known if share is not None]
    if not bars:
        return None
    left, right = 260, 40
    drawing = Drawing("Importance of the factors", WIDTH, ROW * len(bars) + 34)
    across, floor = (left, WIDTH - right), ROW * len(bars) + 6
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = pixel(tick, (0.0, 1.0), across)
        drawing.add("line", class_="grid", x1=x, x2=x, y1=4, y2=floor)
        drawing.add("text", x=x, y=floor + 17, text_anchor="middle", text=f"{tick:.0%}")
    for number, (one, share, low, high) in enumerate(bars):
        y = 6 + ROW * number
        colour = BEST if one.verdict == "matters" else STOPPED
        end = pixel(share, (0.0, 1.0), across)
        name = one.factor if len(one.factor) <= 34 else f"…{one.factor[-33:]}"
        drawing.add("text", x=left - 8, y=y + 16, text_anchor="end", text=name, title=one.factor)
        drawing.add(
            "rect", x=left, y=y + 4, width=max(end - left, 1.0), height=ROW - 10, fill=f"var(--series-{colour})",
            opacity=0.75, title=f"{one.factor}: {share_text(one)}, {one.verdict}",
        )  # fmt: skip
        ends = [pixel(value or 0.0, (0.0, 1.0), across) for value in (low, high)]
        drawing.add("line", class_="tick", x1=ends[0], x2=ends[1], y1=y + ROW / 2 - 1, y2=y + ROW / 2 - 1)
    keys = (Key(BEST, "matters"), Key(STOPPED, "cannot be told from chance"))
    return Chart(
        "Importance", "Bars: share of the variance of ranks; lines: its 95 % interval.", keys, drawing.markup()
    )


def history(report: SweepReport) -> Chart | None:
    """The best value of a whole trial so far, by trial."""
    best, points = -math.inf, []
    for one in report.entries:
        if len(one.values) == len(report.rungs):
            best = max(best, one.values[-1])
            points.append((float(one.number), best))
    if len(points) < 2:
        return None
    note = "The best value of a trial that reached the end, in the order in which trials were begun."
    series = [Series(f"best {words(report.metric)}", tuple(points), WHOLE)]
    return line_chart(Curves("Best so far", series, note), x_name="trial")
