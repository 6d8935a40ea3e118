"""The report's sections on the held-out volumes: tables per case and scroll, and slices to look at."""

import base64
from collections.abc import Collection, Mapping, Sequence
from html import escape

from volumen.experiments.scoring import CaseResult, Evaluation
from volumen.postprocess import describe
from volumen.reporting.images import LEGEND
from volumen.reporting.tables import LEADERBOARD, OVERLAP, STATISTICS, SUMMARY, Column, statistic
from volumen.reporting.words import words

MOST_PICTURES = 9


def evaluation_section(evaluation: Evaluation) -> str:
    """Settings, warnings and tables of an evaluation, as HTML."""
    constant = evaluation.mean["all_surface_dice"]
    parts = [
        f'<p class="note">{escape(settings_line(evaluation))}</p>',
        html_list("bad", evaluation.degenerate),
        html_list("note", evaluation.notes),
        "<h3>Leaderboard</h3>",
        _cases_table(LEADERBOARD, evaluation),
        "<h3>Overlap on labelled voxels</h3>",
        _cases_table(OVERLAP, evaluation),
        f'<p class="note">Predicting surface everywhere would give Dice {constant:.3f} on average.</p>',
    ]
    if len(evaluation.cases) > 1:
        parts += ["<h3>Over the cases</h3>", _statistics_table(evaluation)]
    return "".join(parts)


def slices_section(evaluation: Evaluation, slices: Mapping[str, bytes]) -> str:
    """Pictures of cases, worst score first; where there are many, the worst, the middle and the best."""
    shown = shown_cases(evaluation, slices)
    if not shown:
        return "<p>The evaluation left no slices.</p>"
    note = "Worst score first."
    if len(shown) < len(slices):
        note = f"{len(shown)} of {len(slices)} cases: the worst, the middle and the best, worst first."
    keys = "".join(
        f'<span title="{escape(what)}"><i style="--colour:rgb{colour}"></i>{escape(name)}: {escape(what)}</span>'
        for name, colour, what in LEGEND
    )
    figures = "".join(_picture(case, slices[case.id], evaluation) for case in shown)
    return f'<p class="note">{note}</p><div class="legend">{keys}</div>{figures}'


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
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _picture(case: CaseResult, png: bytes, evaluation: Evaluation) -> str:
    slices = evaluation.settings.get("slices")
    places = slices.get(case.id) if isinstance(slices, Mapping) else None
    named = [f"{axis} {index}" for axis, index in zip("zyx", places, strict=True)] if places else []
    where = f"slices {', '.join(named)}" if named else ""
    score, dice = case.values["leaderboard"], case.values["dice"]
    caption = f"{case.id} (scroll {case.scroll_id}): score {score:.3f}, Dice {dice:.3f}"
    source = base64.b64encode(png).decode("ascii")
    return (
        f"<figure class='slices' id='{slices_anchor(evaluation, case)}'>"
        f"<figcaption><b>{escape(caption)}</b><span>{escape(where)}</span></figcaption>"
        "<div class='panels'>"
        "<div class='heads'><span>image</span><span>truth</span><span>prediction</span></div>"
        f"<img alt='{escape(caption)}' src='data:image/png;base64,{source}'></div></figure>"
    )


def _cases_table(columns: Sequence[Column], evaluation: Evaluation) -> str:
    body = [_row(case.id, case.scroll_id, columns, case.values) for case in evaluation.cases]
    if len(evaluation.cases) > 1:
        scrolls = evaluation.by_scroll if len(evaluation.by_scroll) > 1 else {}
        for scroll, means in scrolls.items():
            body.append(_row(f"mean of {means['cases']:.0f}", scroll, columns, means, "mean"))
        body.append(_row(f"mean of {len(evaluation.cases)}", "all", columns, evaluation.mean, "mean all"))
    return html_table(("case", "scroll", *(column.heading for column in columns)), body, texts=2)


def _row(first: str, second: str, columns: Sequence[Column], values: Mapping[str, float], kind: str = "") -> str:
    numbers = "".join(f"<td class='n'>{escape(column.text(values[column.metric]))}</td>" for column in columns)
    return f"<tr class='{kind}'><td>{escape(first)}</td><td>{escape(second)}</td>{numbers}</tr>"


def _statistics_table(evaluation: Evaluation) -> str:
    body = []
    for column in SUMMARY:
        summary = evaluation.summary[column.metric]
        numbers = "".join(f"<td class='n'>{escape(statistic(column, summary, name))}</td>" for name in STATISTICS)
        body.append(f"<tr><td>{escape(column.heading)}</td>{numbers}<td>{_bars(summary.counts)}</td></tr>")
    return html_table(("metric", *STATISTICS, "histogram"), body, texts=1)


def _bars(counts: Sequence[int]) -> str:
    """A histogram the size of a word, from the least to the greatest value."""
    most = max(counts)
    bars = "".join(
        f'<rect x="{8 * place}" y="{18 - 18 * count / most:.1f}" width="7" height="{18 * count / most:.1f}"/>'
        for place, count in enumerate(counts)
    )
    label = f"counts from least to greatest: {' '.join(map(str, counts))}"
    return f'<svg class="bars" viewBox="0 0 {8 * len(counts)} 18" role="img"><title>{label}</title>{bars}</svg>'


def html_table(headings: Sequence[str], body: Sequence[str], texts: int) -> str:
    """A table; the first `texts` columns are text, the others numbers."""
    head = "".join(
        f"<th{'' if number < texts or heading == 'histogram' else ' class=n'}>{escape(heading)}</th>"
        for number, heading in enumerate(headings)
    )
    rows = "".join(body)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def html_list(kind: str, lines: Sequence[str]) -> str:
    """A list of sentences of a kind, as the style sheet knows it; nothing without any."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul class='{kind}'>{items}</ul>" if lines else ""
