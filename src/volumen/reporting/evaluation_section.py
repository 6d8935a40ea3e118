"""The report's sections on the held-out volumes: tables per case and scroll, and slices to look at."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from volumen.experiments.scoring import CaseResult, Evaluation
from volumen.metrics.table import Metric
from volumen.postprocess import describe
from volumen.reporting.images import LEGEND
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.page import picture_source
from volumen.reporting.tables import (
    LEADERBOARD,
    OVERLAP,
    STATISTICS,
    SUMMARY,
    statistic,
)
from volumen.reporting.words import LEADERBOARD_LEGEND, OVERLAP_LEGEND, number, words
from volumen.system.output import counted

MOST_PICTURES = 9


def evaluation_section(evaluation: Evaluation) -> Markup:
    """Settings, warnings and tables of an evaluation, as HTML."""
    constant = evaluation.mean["all_surface_dice"]
    parts = [
        html('<p class="note">{}</p>', settings_line(evaluation)),
        html_list("bad", evaluation.degenerate),
        html_list("note", evaluation.notes),
        html("<h3>Leaderboard</h3>"),
        _cases_table(LEADERBOARD, evaluation),
        html('<p class="note">{}</p>', LEADERBOARD_LEGEND),
        html("<h3>Overlap on labelled voxels</h3>"),
        _cases_table(OVERLAP, evaluation),
        html('<p class="note">{}</p>', OVERLAP_LEGEND),
        html('<p class="note">Predicting surface everywhere would give Dice {:.3f} on average.</p>', constant),
    ]
    if len(evaluation.cases) > 1:
        parts += [html("<h3>Over the cases</h3>"), _statistics_table(evaluation)]
    return joined(parts)


def slices_section(evaluation: Evaluation, slices: Mapping[str, bytes]) -> Markup:
    """Pictures of cases, worst score first; where there are many, the worst, the middle and the best."""
    shown = shown_cases(evaluation, slices)
    if not shown:
        return html("<p>The evaluation left no slices.</p>")
    note = "Worst score first."
    if len(shown) < len(slices):
        note = f"{len(shown)} of {counted(len(slices), 'case')}: the worst, the middle and the best, worst first."
    keys = joined(
        html('<span title="{}"><i class="painted-{}"></i>{}: {}</span>', what, place, name, what)
        for place, (name, _, what) in enumerate(LEGEND, 1)
    )
    figures = joined(_picture(case, slices[case.id], evaluation) for case in shown)
    return html('<p class="note">{}</p><div class="legend">{}</div>{}', note, keys, figures)


def shown_cases(evaluation: Evaluation, slices: Collection[str]) -> list[CaseResult]:
    """The cases of which pictures are shown, worst score first; `slices` holds the ids of those that have some."""
    ranked = sorted((case for case in evaluation.cases if case.id in slices), key=lambda c: c.values["leaderboard"])
    return pick(ranked, MOST_PICTURES)


def slices_anchor(evaluation: Evaluation, case: CaseResult) -> str:
    """Where on the page the pictures of a case stand; ids may hold what an anchor cannot."""
    return f"slices-{[one.id for one in evaluation.cases].index(case.id) + 1}"


def pick(ranked: Sequence[CaseResult], most: int) -> list[CaseResult]:
    """At most `most` cases of a ranking: a third from its start, a third from its middle, a third from its end."""
    if len(ranked) <= most:
        return list(ranked)
    third = most // 3
    middle = (len(ranked) - third) // 2
    return [*ranked[:third], *ranked[middle : middle + third], *ranked[-third:]]


def settings_line(evaluation: Evaluation) -> str:
    """Which weights, volumes and settings, in one line."""
    settings, steps = evaluation.settings, evaluation.postprocessing
    said = [
        f"{words(name)} {_plain(settings[name])}"
        for name in ("which", "fold", "tile", "overlap", "mirror", "rotate", "precision")
        if settings.get(name) is not None
    ]
    if steps is not None:
        said.append(f"mask: {describe(steps)}")
    return " · ".join(said)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _picture(case: CaseResult, png: bytes, evaluation: Evaluation) -> Markup:
    places = evaluation.settings.get("slices", {}).get(case.id)
    named = [f"{axis} {index}" for axis, index in zip("zyx", places, strict=True)] if places else []
    where = f"slices {', '.join(named)}" if named else ""
    score, dice = case.values["leaderboard"], case.values["dice"]
    caption = f"{case.id} (scroll {case.scroll_id}): score {score:.3f}, Dice {number(dice)}"
    return html(
        "<figure class='slices' id='{anchor}'><figcaption><b>{caption}</b><span>{where}</span></figcaption>"
        "<div class='panels'><div class='heads'><span>image</span><span>truth</span><span>prediction</span></div>"
        "<img alt='{caption}' src='{source}'></div></figure>",
        anchor=slices_anchor(evaluation, case),
        caption=caption,
        where=where,
        source=picture_source(png),
    )


def _cases_table(columns: Sequence[Metric[Any]], evaluation: Evaluation) -> Markup:
    body = [_row(case.id, case.scroll_id, columns, case.values) for case in evaluation.cases]
    if len(evaluation.cases) > 1:
        scrolls = evaluation.by_scroll if len(evaluation.by_scroll) > 1 else {}
        for scroll, means in scrolls.items():
            body.append(_row(f"mean of {means['cases']:.0f}", scroll, columns, means, "mean"))
        body.append(_row(f"mean of {len(evaluation.cases)}", "all", columns, evaluation.mean, "mean all"))
    return html_table(("case", "scroll", *(column.heading for column in columns)), body, texts=2)


def _row(
    first: str, second: str, columns: Sequence[Metric[Any]], values: Mapping[str, float], kind: str = ""
) -> Markup:
    numbers = joined(html("<td class='n'>{}</td>", column.text(values[column.name])) for column in columns)
    return html("<tr class='{}'><td>{}</td><td>{}</td>{}</tr>", kind, first, second, numbers)


def _statistics_table(evaluation: Evaluation) -> Markup:
    body = []
    for column in SUMMARY:
        summary = evaluation.summary[column.name]
        numbers = joined(html("<td class='n'>{}</td>", statistic(column, summary, name)) for name in STATISTICS)
        row = "<tr><td>{}</td>{}<td>{}</td></tr>"
        body.append(html(row, column.heading, numbers, _bars(summary.counts)))
    return html_table(("metric", *STATISTICS, "histogram"), body, texts=1)


def _bars(counts: Sequence[int]) -> Markup:
    """A histogram the size of a word, from the least to the greatest value."""
    most = max(1, *counts)
    bars = joined(
        html(
            '<rect x="{}" y="{:.1f}" width="7" height="{:.1f}"/>', 8 * place, 18 - 18 * count / most, 18 * count / most
        )
        for place, count in enumerate(counts)
    )
    label = f"counts from least to greatest: {' '.join(map(str, counts))}"
    svg = '<svg class="bars" viewBox="0 0 {} 18" role="img"><title>{}</title>{}</svg>'
    return html(svg, 8 * len(counts), label, bars)


def html_table(headings: Sequence[str], body: Sequence[Markup], texts: int) -> Markup:
    """A table; the first `texts` columns are text, the others numbers."""
    head = joined(
        html("<th>{}</th>" if number < texts or heading == "histogram" else "<th class='n'>{}</th>", heading)
        for number, heading in enumerate(headings)
    )
    table = "<div class='scroll'><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    return html(table, head, joined(body))


def html_list(kind: str, lines: Sequence[str]) -> Markup:
    """A list of sentences of a kind, as the style sheet knows it; nothing without any."""
    items = joined(html("<li>{}</li>", line) for line in lines)
    return html("<ul class='{}'>{}</ul>", kind, items) if lines else NOTHING
