"""The loss autopsy as a page: ranges as bars, p* against q, and what the objective's own optimum looks like.

One self-contained HTML file, in the manner of the report.
"""

import base64
from collections.abc import Mapping
from html import escape
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.autopsy import Autopsy, Range
from volumen.doctor.operating_point import OperatingPoint
from volumen.reporting.curves import Series, line_chart
from volumen.reporting.images import LEGEND, choose_slices, encode_png, slice_panel

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
) -> str:
    """The page of a configuration.

    Args:
        name: Of the configuration.
        autopsies: By phase.
        points: The operating points of the same phases.
        images: Grey values of the label patches, [N, Z, Y, X].
        labels: The label patches, canonical codes [N, Z, Y, X].
    """
    style = files("volumen.reporting").joinpath("assets/report.css").read_text(encoding="utf-8")
    title = f"{name} · loss autopsy"
    body = "".join(_phase(phase, found, points[phase], images, labels) for phase, found in autopsies.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{style}</style></head><body>'
        f"<header><p class='kicker'>volumen audit loss</p><h1>{escape(name)}</h1><p>{escape(INTRODUCTION)}</p></header>"
        f"<main>{body}</main></body></html>\n"
    )


def _phase(
    phase: str, found: Autopsy, point: OperatingPoint | None, images: NDArray[np.float32], labels: NDArray[np.uint8]
) -> str:
    patch = " x ".join(map(str, found.patch))
    curve = "" if point is None else _operating_point(point)
    return (
        f"<section><h2>Objective of phase {escape(phase)}</h2>"
        f"<p class='note'>{found.patches} label patches of {patch} voxels</p>{_bars(found)}{_table(found)}"
        f"<div class='charts apart'>{curve}</div>{_optimum(found, images, labels)}</section>"
    )


def _bars(found: Autopsy) -> str:
    """Each term's range as a bar from floor to constant, on the scale of its own landmarks."""
    rows = [*found.terms, found.total]
    body = "".join(_bar(one, number * ROW + 8) for number, one in enumerate(rows))
    height = len(rows) * ROW + 8
    legend = (
        "<div class='legend'><span><i style='--colour:var(--series-3)'></i>floor</span>"
        "<span><i style='--colour:var(--series-1)'></i>perfect prediction</span>"
        "<span><i style='--colour:var(--series-2)'></i>best constant</span></div>"
    )
    label = "Range of every term from its floor to its best constant"
    return (
        "<figure class='chart'><h3>Ranges</h3><p class='note'>Each from 0 to its largest landmark. A perfect "
        f"prediction right of the floor is punished for being perfect.</p>{legend}"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{body}</svg></figure>'
    )


def _bar(one: Range, top: int) -> str:
    largest = max(one.floor, one.perfect, one.baseline, one.prior, 1e-9)
    middle = top + 10

    def at(value: float) -> float:
        return LEFT + value / largest * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(one.name)}</text>',
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}"/>',
        f'<rect x="{at(one.floor):.1f}" y="{middle - 5}" height="10" fill="var(--rule)" '
        f'width="{max(at(one.baseline) - at(one.floor), 0):.1f}"/>',
        f'<text x="{WIDTH - RIGHT + 14}" y="{middle + 4}">{largest:.3f}</text>',
    ]
    marks = (
        ("best constant", one.baseline, 2, 9),
        ("perfect prediction", one.perfect, 1, 7),
        ("floor", one.floor, 3, 5),
    )
    for name, value, colour, radius in marks:
        parts.append(
            f'<circle cx="{at(value):.1f}" cy="{middle}" r="{radius}" fill="var(--series-{colour})">'
            f"<title>{escape(one.name)}, {name}: {value:.4f}</title></circle>"
        )
    return "".join(parts)


def _table(found: Autopsy) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("term", *COLUMNS))
    rows = []
    for one in (*found.terms, found.total):
        values = (one.floor, one.perfect, one.baseline, one.baseline_probability, one.all_background, one.all_surface)
        numbers = (*values, one.prior, one.shuffled, one.conflict)
        cells = "".join(f"<td>{value:.3f}</td>" for value in numbers)
        rows.append(f"<tr><td>{escape(one.name)}</td><td>{one.weight:g}</td>{cells}</tr>")
    return (
        f"<div class='scroll apart'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _operating_point(point: OperatingPoint) -> str:
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


def _optimum(found: Autopsy, images: NDArray[np.float32], labels: NDArray[np.uint8]) -> str:
    best = found.optimum
    panels = []
    for image, label, mask in zip(images, labels, best.masks, strict=True):
        picture = slice_panel(image, label, mask, 0, choose_slices(label)[0])
        source = base64.b64encode(encode_png(picture)).decode("ascii")
        panels.append(
            f"<p><img alt='image, truth and the optimum of one patch' src='data:image/png;base64,{source}'></p>"
        )
    caption = (
        f"The objective's own optimum: Dice {best.dice:.3f}, surface {best.predicted_share:.1%} (labels "
        f"{best.true_share:.1%}), leaderboard {best.leaderboard:.3f}"
    )
    colours = "; ".join(f"{name}: {meaning}" for name, _, meaning in LEGEND)
    return (
        f"<figure class='slices'><figcaption><b>{escape(caption)}</b><span>image, truth, optimum; one slice of each "
        f"patch</span></figcaption><div class='panels'>{''.join(panels)}</div>"
        f"<p class='note'>{escape(colours)}</p></figure>"
    )
