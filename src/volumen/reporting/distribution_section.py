"""The report's section on the class distribution: how much surface, how sure, how right, and what each step did."""

import math
from collections.abc import Collection
from itertools import compress

from volumen.experiments.distribution import Judgement, Operating, tolerated_shares
from volumen.experiments.scoring import Evaluation
from volumen.experiments.step_scores import FEATURES, StepEffect
from volumen.reporting.curves import histogram_chart
from volumen.reporting.distribution_charts import (
    Bar,
    Point,
    bars_chart,
    precision_recall_chart,
    reliability_chart,
    scatter_chart,
)
from volumen.reporting.distribution_table import (
    calibration_line,
    change_text,
    mean_text,
    no_operating_point,
    score_text,
)
from volumen.reporting.evaluation_section import html_list, html_table, shown_cases, slices_anchor
from volumen.reporting.markup import NOTHING, Markup, html, joined
from volumen.reporting.words import number

LEAST_POINTS = 2.0  # the scale of over- and underestimation reaches so far at least: less is not to look like much


def distribution_section(evaluation: Evaluation, slices: Collection[str]) -> Markup:
    """Verdicts, operating point, charts and steps of an evaluation, as HTML.

    Args:
        evaluation: Of a run.
        slices: Ids of the cases that have pictures, to which the bars lead.
    """
    verdicts = joined(_verdict(one) for one in evaluation.verdicts)
    parts = [
        html("<ul class='verdicts'>{}</ul>", verdicts) if verdicts else NOTHING,
        _operating_points(evaluation),
        html('<div class="charts apart">{}</div>', _charts(evaluation, slices)),
        _steps(evaluation),
    ]
    return joined(parts)


def _verdict(one: Judgement) -> Markup:
    kind, said = {True: ("good", "reached"), False: ("bad", "missed"), None: ("open", "open")}[one.reached]
    return html("<li><span class='chip {}'>{}</span>{}</li>", kind, said, one.sentence)


def _operating_points(evaluation: Evaluation) -> Markup:
    counts = evaluation.probability_counts
    if counts is None:
        return NOTHING
    used = evaluation.operating_point
    rows = [_operating("in use", used)] if used is not None else []
    rows.append(_operating("best Dice", counts.best_dice))
    missing = no_operating_point(evaluation)
    note = f"{missing[0].upper()}{missing[1:]}. " if used is None else ""
    note += "Labelled voxels of all cases together, by the threshold alone, to the nearest hundredth. "
    note += f"Expected {calibration_line(counts.calibration_error)}."
    headings = ("operating point", "threshold", "precision", "recall", "Dice", "surface %")
    return html('<h3>Operating point</h3>{}<p class="note">{}</p>', html_table(headings, rows, texts=1), note)


def _operating(name: str, point: Operating) -> Markup:
    values = (
        f"{point.threshold:.2f}",
        number(point.precision),
        number(point.recall),
        number(point.dice),
        number(100 * point.predicted_share, ".2f"),
    )
    return html("<tr><td>{}</td>{}</tr>", name, joined(html("<td class='n'>{}</td>", value) for value in values))


def _charts(evaluation: Evaluation, slices: Collection[str]) -> Markup:
    counts, span = evaluation.probability_counts, evaluation.label_range
    names = ("predicted_share", "true_share", "overestimation_points")
    known = [not any(math.isnan(case.values[name]) for name in names) for case in evaluation.cases]
    cases = [*compress(evaluation.cases, known)]  # those with labelled voxels
    predicted, true = ([100 * case.values[name] for case in cases] for name in ("predicted_share", "true_share"))
    shown = {case.id for case in shown_cases(evaluation, slices)}
    charts = [
        scatter_chart(
            "Predicted against true share",
            [Point(case.id, x, y) for case, x, y in zip(cases, true, predicted, strict=True)],
            x_name="true %",
            y_name="predicted %",
            bands=() if span is None else _percent(span, tolerated_shares(*span)),
            note="a dot a case; "
            + ("shaded: the labels' own range, and a quarter beyond" if span else "on labelled voxels"),
        )
    ]
    if counts is not None:
        charts.append(precision_recall_chart(counts.curve, counts.best_dice, evaluation.operating_point))
        charts.append(reliability_chart(counts.calibration, counts.calibration_error))
    shares = [("predicted", predicted, 1), ("true", true, 3)]
    charts.append(
        histogram_chart("Surface share over the cases", shares, unit="%", note="percent of the labelled voxels")
    )
    bars = [
        Bar(case.id, case.values["overestimation_points"], slices_anchor(evaluation, case) if case.id in shown else "")
        for case in cases
    ]
    note = "percentage points of predicted less true surface" + ("; a name leads to its slices" if shown else "")
    charts.append(bars_chart("Over- and underestimation", bars, unit="pp", least=LEAST_POINTS, note=note))
    return joined(charts)


def _percent(*spans: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    return tuple((100 * low, 100 * high) for low, high in spans)


def _steps(evaluation: Evaluation) -> Markup:
    effects = evaluation.step_effects
    if not effects:
        return NOTHING
    headings = ("step", "voxels added", "voxels removed", *FEATURES, "score", "change")
    harmful = [one.sentence for one in effects if one.lowers and not one.within_noise]
    noisy = [one.sentence for one in effects if one.lowers and one.within_noise]
    return html(
        '<h3>What each step of the post-processing does</h3>{}<p class="note">Means over the cases, before -&gt; '
        "after; topology of the whole volume, score of the leaderboard.</p>{}{}",
        html_table(headings, [_step(one) for one in effects], texts=1),
        html_list("bad", harmful),
        html_list("note", noisy),
    )


def _step(one: StepEffect) -> Markup:
    values = (
        mean_text(one.voxels_added),
        mean_text(one.voxels_removed),
        *(change_text(one, name) for name in FEATURES),
        score_text(one),
        _difference(one),
    )
    kind = html(" class='bad'") if one.lowers and not one.within_noise else NOTHING
    return html("<tr{}><td>{}</td>{}</tr>", kind, one.name, joined(html("<td class='n'>{}</td>", v) for v in values))


def _difference(one: StepEffect) -> str:
    """The change of the score with its standard error, where the step has changed anything."""
    if one.score_before is None or one.noise is None:
        return ""
    if not one.voxels_added and not one.voxels_removed:
        return "none"
    return f"{one.difference:+.4f}" + ("" if math.isnan(one.noise) else f" ± {one.noise:.4f}")
