"""An ablation as a page: every remedy's interval against the control, its values by seed, and what it changes."""

import math

from volumen.experiments.ablation_report import BETTER, FAILED, MATCHED_DICE, WORSE, AblationReport, Row
from volumen.reporting.ablation_tables import changes_text, difference_text, legend, mean_text, quantity, remarks
from volumen.reporting.charts import Chart, Key
from volumen.reporting.drawing import Drawing, drawable, nice_ticks, pixel, short
from volumen.reporting.page import render
from volumen.reporting.score_tables import Row as TableRow
from volumen.system.output import duration

PAGE = "ablation.html"
WIDTH, LEFT, RIGHT, ROW, FOOT = 720, 190, 24, 34, 30  # pixels
MOST_LETTERS = 26
COLOURS = {BETTER: 3, WORSE: 2}
CHIPS = {BETTER: "good", WORSE: "bad", FAILED: "bad"}


def ablation_page(report: AblationReport) -> str:
    """The page of an ablation."""
    names = [name for name in report.quantities if any(name in row.differences for row in report.rows)]
    first = [name for name in dict.fromkeys((report.metric, MATCHED_DICE)) if name in names]
    rows = [
        {
            "name": row.name,
            "why": row.why,
            "verdict": row.verdict,
            "chip": CHIPS.get(row.verdict, "open"),
            "changes": changes_text(row),
            "remarks": remarks(row, report),
        }
        for row in report.rows[1:]
    ]
    headings = ("", *(quantity(name) for name in report.quantities), "time")
    values = [
        TableRow((row.name, *(mean_text(row, name) for name in report.quantities), duration(row.seconds)))
        for row in report.rows
    ]
    differences = [
        TableRow((row.name, *(difference_text(row.differences.get(name)) for name in report.quantities)))
        for row in report.rows[1:]
    ]
    return render(
        "ablation.html",
        report=report,
        charts=[chart for chart in (forest(report, name) for name in first) if chart is not None],
        headings=headings,
        values=values,
        difference_headings=headings[:-1],
        differences=differences,
        rows=rows,
        legend_texts=legend(report),
        seeds=", ".join(map(str, report.seeds)),
        matched=report.true_share,
    )


def forest(report: AblationReport, name: str) -> Chart | None:
    """Intervals of one quantity's differences, a row a remedy, with each seed's own difference as a dot."""
    shown = [row for row in report.rows[1:] if name in row.differences]
    if not shown:
        return None
    dots = {row.name: _pairs(row, report.rows[0], name) for row in shown}
    seen = [value for values in dots.values() for value in values] + [row.differences[name].mean for row in shown]
    most = max((abs(value) for value in seen), default=0.0) or 1e-6
    ends = [abs(end) for row in shown for end in (row.differences[name].low, row.differences[name].high)]
    reach = 1.1 * min(max([most, *(end for end in ends if math.isfinite(end))]), 3 * most)  # beyond, a bar is cut off
    span = (-reach, reach)
    height = len(shown) * ROW + FOOT
    drawing = Drawing(f"Difference in {quantity(name)} from the control", WIDTH, height)
    across, floor = (LEFT, WIDTH - RIGHT), height - FOOT
    for tick in nice_ticks(*span):
        x = pixel(tick, span, across)
        drawing.add("line", class_="zero" if abs(tick) < 1e-12 else "grid", x1=x, x2=x, y1=0, y2=floor)
        drawing.add("text", x=x, y=floor + 17, text_anchor="middle", text=_signed(tick))
    for number, row in enumerate(shown):
        _draw(drawing, row, name, number * ROW + ROW / 2, span, dots[row.name])
    keys = (Key(3, "better"), Key(2, "worse"), Key(8, "not told from the control"))
    note = "Dots: single seeds. Bars: the 95 % interval of the mean; one that leaves the drawing is wider than it."
    return Chart(f"{quantity(name)}: remedy less control", note, keys, drawing.markup())


def _draw(drawing: Drawing, row: Row, name: str, y: float, span: tuple[float, float], dots: tuple[float, ...]) -> None:
    found, colour = row.differences[name], COLOURS.get(row.verdict, 8)
    across = (LEFT, WIDTH - RIGHT)
    label = row.name if len(row.name) <= MOST_LETTERS else f"{row.name[: MOST_LETTERS - 1]}…"
    title = f"{row.name}: {difference_text(found)}"
    drawing.add("text", x=LEFT - 12, y=y + 4, text_anchor="end", text=label, title=row.name)
    if drawable(found.half) is not None and found.half == found.half:
        left, right = pixel(found.low, span, across), pixel(found.high, span, across)
        width = max(right - left, 1.5)
        drawing.add(
            "rect", x=left, y=y - 4, width=width, height=8, fill=f"var(--series-{colour})", opacity=0.3, title=title
        )
    for value in dots:
        drawing.dot(pixel(value, span, across), y, colour, 3, f"{row.name}, one seed: {value:+.4f}")
    x = pixel(found.mean, span, across)
    drawing.add("rect", x=x - 1.5, y=y - 9, width=3, height=18, fill=f"var(--series-{colour})", title=title)


def _pairs(row: Row, control: Row, name: str) -> tuple[float, ...]:
    pairs = zip(row.values[name], control.values[name], strict=True)
    return tuple(one - other for one, other in pairs if one is not None and other is not None)


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-12 else ("+" if value > 0 else "") + short(value)
