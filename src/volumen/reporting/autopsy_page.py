"""The loss autopsy as a page: ranges as bars, p* against q, and what the objective's own optimum looks like."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from volumen.data.pictures import choose_slices, encode_png, slice_panel
from volumen.doctor.objective.autopsy import Autopsy
from volumen.doctor.objective.operating_point import OperatingPoint
from volumen.reporting.charts import Chart, Curves, Key, Series, line_chart
from volumen.reporting.doctor_tables import operating_point_text
from volumen.reporting.drawing import Drawing, pixel
from volumen.reporting.page import render
from volumen.reporting.score_tables import Row

WIDTH, ROW, LEFT, RIGHT = 640, 34, 150, 66  # pixels of the bars
HEADINGS = (
    "term", "weight", "floor", "perfect", "constant", "at p", "background", "surface", "prior", "shuffled", "conflict",
)  # fmt: skip


def autopsy_page(
    name: str,
    autopsies: Mapping[str, Autopsy],
    points: Mapping[str, OperatingPoint | None],
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
) -> str:
    """The page of a configuration.

    Args:
        name: Of the configuration.
        autopsies: By phase.
        points: The operating points of the same phases.
        images: Grey values of the label patches, [N, Z, Y, X].
        labels: The label patches, canonical codes [N, Z, Y, X].
    """
    phases = [
        {
            "name": phase,
            "found": found,
            "ranges": _ranges(found),
            "rows": _rows(found),
            "operating_point": _operating_point(points[phase]),
            "pictures": [
                encode_png(slice_panel(image, label, mask, 0, choose_slices(label)[0]))
                for image, label, mask in zip(images, labels, found.optimum.masks, strict=True)
            ],
        }
        for phase, found in autopsies.items()
    ]
    return render("autopsy.html", name=name, phases=phases, headings=HEADINGS)


def _ranges(found: Autopsy) -> Chart:
    """Each term's range as a bar from floor to constant, from 0 to the largest of its values."""
    rows = (*found.terms, found.total)
    drawing = Drawing("Range of every term from its floor to its best constant", WIDTH, len(rows) * ROW + 8)
    for number, one in enumerate(rows):
        largest, middle = max(one.floor, one.perfect, one.baseline, one.prior, 1e-9), number * ROW + 18
        marks = (
            ("best constant", one.baseline, 2, 9),
            ("perfect prediction", one.perfect, 1, 7),
            ("floor", one.floor, 3, 5),
        )
        at = [pixel(value, (0.0, largest), (LEFT, WIDTH - RIGHT)) for _, value, _, _ in marks]
        drawing.add("text", x=LEFT - 10, y=middle + 4, text_anchor="end", text=one.name)
        drawing.add("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=middle, y2=middle)
        length = max(at[0] - at[2], 0.0)
        drawing.add("rect", x=at[2], y=middle - 5, width=length, height=10, fill="var(--rule)")
        drawing.add("text", x=WIDTH - RIGHT + 14, y=middle + 4, text=f"{largest:.3f}")
        for x, (name, value, colour, radius) in zip(at, marks, strict=True):
            drawing.dot(x, middle, colour, radius, f"{one.name}, {name}: {value:.4f}")
    note = (
        "Each from 0 to the largest of its values. Where the perfect prediction lies right of the floor, the objective "
        "prefers another prediction to the labels."
    )
    keys = (Key(3, "floor"), Key(1, "perfect prediction"), Key(2, "best constant"))
    return Chart("Ranges", note, keys, drawing.markup())


def _rows(found: Autopsy) -> list[Row]:
    rows = []
    for one in (*found.terms, found.total):
        values = (one.floor, one.perfect, one.baseline, one.baseline_probability, one.all_background, one.all_surface)
        cells = (f"{value:.3f}" for value in (*values, one.prior, one.shuffled, one.conflict))
        rows.append(Row((one.name, f"{one.weight:g}", *cells), "all" if one is found.total else ""))
    return rows


def _operating_point(point: OperatingPoint | None) -> Chart | None:
    if point is None:
        return None
    answers = tuple(zip(map(float, point.population.probability), map(float, point.answer), strict=True))
    same = Series("p* = q", ((0.0, 0.0), (1.0, 1.0)), 8, dashed=True)
    curves = Curves("Operating point", (Series("optimal prediction p*", answers, 1), same), operating_point_text(point))
    return line_chart(curves, "true probability q")
