"""A comparison of runs as a page: verdicts, intervals as dots with whiskers, share against score, and every table."""

import math
from collections.abc import Mapping, Sequence

from volumen.experiments.comparing_intervals import Interval
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN, Ranking
from volumen.experiments.comparing_results import Comparison
from volumen.reporting.charts import Chart, Key
from volumen.reporting.comparison_formats import LEGEND
from volumen.reporting.comparison_model import of_interval
from volumen.reporting.comparison_tables import heading, tables_of
from volumen.reporting.drawing import Drawing, Plot, nice_ticks, pixel, short, value_range
from volumen.reporting.page import render
from volumen.reporting.score_tables import Row

WIDTH, LEFT, RIGHT, ROW, FOOT = 720, 190, 24, 30, 30  # pixels
MOST_LETTERS = 26
COLOURS = 7
"""Series of the style sheet that rows take in turn."""


def comparison_page(found: Comparison) -> str:
    """The page of a comparison."""
    tables = [
        {"table": table, "rows": [Row((line.name, *(cell.text for cell in line.cells))) for line in table.lines]}
        for table in tables_of(found)
    ]
    colours = {one.label: 1 + number % COLOURS for number, one in enumerate(found.entries)}
    makers = (means_chart, behind_chart)
    charts = [chart for ranking in found.rankings for make in makers if (chart := make(ranking, colours)) is not None]
    return render(
        "comparison.html",
        found=found,
        tables=tables,
        charts=charts,
        share=share_chart(found, colours),
        legend_text=LEGEND,
        metric=heading(found.metric),
    )


def means_chart(ranking: Ranking, colours: Mapping[str, int]) -> Chart | None:
    """Means with their intervals, a row a line."""
    shown = [(one.label, one.mean) for one in ranking.standings if one.mean is not None]
    if len(shown) < 2:
        return None
    note = (
        "Dots: means over the shared cases. Whiskers: 95 % intervals, open where they go on; differences are judged by "
        "pairs, not by these."
    )
    title = f"{heading(ranking.metric)} at {_the(ranking.point)}"
    return Chart(title, note, (), _forest(title, shown, colours).markup())


def behind_chart(ranking: Ranking, colours: Mapping[str, int]) -> Chart | None:
    """Differences from the row with the best mean, paired by case."""
    shown = [(one.label, one.behind) for one in ranking.standings if one.behind is not None]
    if not shown:
        return None
    title = f"{heading(ranking.metric)} less that of {ranking.standings[0].label}, at {_the(ranking.point)}"
    drawing = _forest(title, shown, colours, 0.0)
    return Chart(title, "Paired by case, over seeds where there are several.", (), drawing.markup())


def _the(point: str) -> str:
    return {OWN: "the own thresholds", AT_MATCHED: "a matched share"}[point]


def _forest(
    label: str, rows: Sequence[tuple[str, Interval]], colours: Mapping[str, int], zero: float | None = None
) -> Drawing:
    """Dots with whiskers; one that leaves the drawing is wider than it."""
    means = [one.mean for _, one in rows] + ([] if zero is None else [zero])
    reach = 3 * ((max(means) - min(means)) or abs(means[0]) / 10 or 1e-3)
    ends = [end for _, one in rows if not math.isnan(one.half) for end in (one.mean - one.half, one.mean + one.half)]
    kept = [min(max(end, min(means) - reach), max(means) + reach) for end in ends]
    low, high = min([*means, *kept]), max([*means, *kept])
    margin = 0.06 * (high - low) or 0.01
    span, across = (low - margin, high + margin), (LEFT, WIDTH - RIGHT)
    drawing = Drawing(label, WIDTH, len(rows) * ROW + FOOT)
    floor = len(rows) * ROW
    for tick in nice_ticks(*span):
        x = pixel(tick, span, across)
        at_zero = zero is not None and abs(tick) < 1e-12
        drawing.add("line", class_="zero" if at_zero else "grid", x1=x, x2=x, y1=0, y2=floor)
        drawing.add("text", x=x, y=floor + 17, text_anchor="middle", text=short(tick))
    for number, (name, one) in enumerate(rows):
        y, colour = number * ROW + ROW / 2, colours[name]
        title = f"{name}: {of_interval(one, sign=zero is not None).text}"
        drawing.add("text", x=LEFT - 12, y=y + 4, text_anchor="end", text=_cut(name), title=name)
        if not math.isnan(one.half):
            left, right = pixel(one.mean - one.half, span, across), pixel(one.mean + one.half, span, across)
            stroke = f"var(--series-{colour})"
            drawing.add("line", x1=left, x2=right, y1=y, y2=y, stroke=stroke, stroke_width=2)
            for value, end in ((one.mean - one.half, left), (one.mean + one.half, right)):
                if span[0] <= value <= span[1]:
                    drawing.add("line", x1=end, x2=end, y1=y - 5, y2=y + 5, stroke=stroke, stroke_width=2)
        drawing.dot(pixel(one.mean, span, across), y, colour, 5, title)
    return drawing


def _cut(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def share_chart(found: Comparison, colours: Mapping[str, int]) -> Chart | None:
    """Score against predicted share: a dot at the own threshold, a ring at the matched share."""
    points = []
    for one in found.scored:
        for point in (OWN, AT_MATCHED):
            share, score = found.mean(one, "predicted_share", point), found.mean(one, found.metric, point)
            if share is not None and score is not None:
                points.append((one.label, colours[one.label], point, 100 * share.mean, score.mean))
    if len(found.scored) < 2 or not points:
        return None
    true = 100 * found.true_share
    shares = [point[3] for point in points] + ([] if math.isnan(true) else [true])
    spans = value_range(shares, False), value_range([point[4] for point in points], False)
    plot = Plot(f"{heading(found.metric)} by predicted share", *spans, "predicted share, %", heading(found.metric))
    if not math.isnan(true):
        x = plot.x(true)
        plot.add("line", class_="mark", x1=x, x2=x, y1=plot.y(spans[1][0]), y2=plot.y(spans[1][1]), title="true share")
    for name, colour, point, at, reached in points:
        title = f"{name} at {_the(point)}: {at:.2f} %, {reached:.4f}"
        if point == OWN:
            plot.dot(plot.x(at), plot.y(reached), colour, 5, title)
        else:
            stroke = f"var(--series-{colour})"
            plot.add("circle", class_="ring", cx=plot.x(at), cy=plot.y(reached), r=6, stroke=stroke, title=title)
    keys = tuple(Key(colours[one.label], one.label) for one in found.scored)
    note = "Dots: at each run's own threshold. Rings: at the matched share. The dashed line is the true share."
    return Chart("Share and score", note, keys, plot.markup())
