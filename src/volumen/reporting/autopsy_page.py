"""The loss autopsy as a page: ranges as bars, p* against q, and what the objective's own optimum looks like.

One self-contained HTML file, in the manner of the report.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.objective.autopsy import Autopsy, Range
from volumen.doctor.objective.operating_point import OperatingPoint
from volumen.reporting.curves import Series, dot, line_chart, pixel
from volumen.reporting.images import LEGEND, choose_slices, encode_png, slice_panel
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.page import page, picture_source
from volumen.system.output import counted

WIDTH, ROW, LEFT, RIGHT = 640, 34, 150, 66  # pixels of the bars
COLUMNS = ("weight", "floor", "perfect", "constant", "at p", "background", "surface", "prior", "shuffled", "conflict")
INTRODUCTION = (
    "No network takes part: every voxel's logit is free. What even free logits cannot reach, no training can. "
    "Floor: the least value found. Perfect: at the labels themselves. Constant: the best one number for all voxels. "
    "Progress r = (loss - floor) / (constant - floor) is 1 for the constant and 0 for the best attainable."
)


def autopsy_page(
    name: str,
    autopsies: Mapping[str, Autopsy],
    points: Mapping[str, OperatingPoint | None],
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
) -> Markup:
    """The page of a configuration.

    Args:
        name: Of the configuration.
        autopsies: By phase.
        points: The operating points of the same phases.
        images: Grey values of the label patches, [N, Z, Y, X].
        labels: The label patches, canonical codes [N, Z, Y, X].
    """
    phases = joined(_phase(phase, found, points[phase], images, labels) for phase, found in autopsies.items())
    head = "<header><p class='kicker'>volumen audit loss</p><h1>{}</h1><p>{}</p></header><main>{}</main>"
    return page(f"{name} · loss autopsy", html(head, name, INTRODUCTION, phases))


def _phase(
    phase: str, found: Autopsy, point: OperatingPoint | None, images: NDArray[np.float32], labels: NDArray[np.uint8]
) -> Markup:
    return html(
        "<section><h2>Objective of phase {}</h2><p class='note'>{} of {} voxels</p>{}{}"
        "<div class='charts apart'>{}</div>{}</section>",
        phase,
        counted(found.patches, "label patch"),
        " x ".join(map(str, found.patch)),
        _bars(found),
        _table(found),
        NOTHING if point is None else _operating_point(point),
        _optimum(found, images, labels),
    )


def _bars(found: Autopsy) -> Markup:
    """Each term's range as a bar from floor to constant, on the scale of its own landmarks."""
    rows = [*found.terms, found.total]
    return html(
        "<figure class='chart'><h3>Ranges</h3><p class='note'>Each from 0 to its largest landmark. A perfect "
        "prediction right of the floor is punished for being perfect.</p>"
        "<div class='legend'><span><i class='series-3'></i>floor</span>"
        "<span><i class='series-1'></i>perfect prediction</span>"
        "<span><i class='series-2'></i>best constant</span></div>"
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Range of every term from its floor to its best constant">'
        "{}</svg></figure>",
        WIDTH,
        len(rows) * ROW + 8,
        joined(_bar(one, number * ROW + 8) for number, one in enumerate(rows)),
    )


def _bar(one: Range, top: int) -> Markup:
    largest = max(one.floor, one.perfect, one.baseline, one.prior, 1e-9)
    middle = top + 10

    def at(value: float) -> float:
        return pixel(value, (0.0, largest), (LEFT, WIDTH - RIGHT))

    length = max(at(one.baseline) - at(one.floor), 0)
    parts = [
        html('<text x="{}" y="{}" text-anchor="end">{}</text>', LEFT - 10, middle + 4, one.name),
        html('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', LEFT, WIDTH - RIGHT, middle, middle),
        html(
            '<rect x="{:.1f}" y="{}" height="10" fill="var(--rule)" width="{:.1f}"/>', at(one.floor), middle - 5, length
        ),
        html('<text x="{}" y="{}">{:.3f}</text>', WIDTH - RIGHT + 14, middle + 4, largest),
    ]
    marks = (
        ("best constant", one.baseline, 2, 9),
        ("perfect prediction", one.perfect, 1, 7),
        ("floor", one.floor, 3, 5),
    )
    for name, value, colour, radius in marks:
        parts.append(dot(at(value), middle, colour, radius, f"{one.name}, {name}: {value:.4f}"))
    return joined(parts)


def _table(found: Autopsy) -> Markup:
    head = joined(html("<th>{}</th>", name) for name in ("term", *COLUMNS))
    rows = []
    for one in (*found.terms, found.total):
        values = (one.floor, one.perfect, one.baseline, one.baseline_probability, one.all_background, one.all_surface)
        cells = joined(html("<td>{:.3f}</td>", value) for value in (*values, one.prior, one.shuffled, one.conflict))
        rows.append(html("<tr><td>{}</td><td>{:g}</td>{}</tr>", one.name, one.weight, cells))
    table = "<div class='scroll apart'><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    return html(table, head, joined(rows))


def _operating_point(point: OperatingPoint) -> Markup:
    probability = point.population.probability
    answers = tuple((float(q), float(p)) for q, p in zip(probability, point.answer, strict=True))
    left_out = f" Without {', '.join(point.left_out)}, which look at neighbourhoods." if point.left_out else ""
    note = (
        f"A voxel is called surface from a true probability of {point.crossing():.2f} on: {point.asked_share():.1%} of "
        f"the voxels, where the labels hold {point.population.surface_share:.1%}.{left_out}"
    )
    series = (
        Series("best answer p*", answers, 1),
        Series("p* = q", ((0.0, 0.0), (1.0, 1.0)), 8, dashed=True),
    )
    return line_chart("Operating point", series, x_name="true probability q", note=note)


def _optimum(found: Autopsy, images: NDArray[np.float32], labels: NDArray[np.uint8]) -> Markup:
    best = found.optimum
    panels = []
    for image, label, mask in zip(images, labels, best.masks, strict=True):
        picture = encode_png(slice_panel(image, label, mask, 0, choose_slices(label)[0]))
        panel = "<p><img alt='image, truth and the optimum of one patch' src='{}'></p>"
        panels.append(html(panel, picture_source(picture)))
    caption = (
        f"The objective's own optimum: Dice {best.dice:.3f}, surface {best.predicted_share:.1%} (labels "
        f"{best.true_share:.1%}), leaderboard {best.leaderboard:.3f}"
    )
    return html(
        "<figure class='slices'><figcaption><b>{}</b><span>image, truth, optimum; one slice of each patch</span>"
        "</figcaption><div class='panels'>{}</div><p class='note'>{}</p></figure>",
        caption,
        joined(panels),
        "; ".join(f"{name}: {meaning}" for name, _, meaning in LEGEND),
    )
