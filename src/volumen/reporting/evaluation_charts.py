"""An evaluation as a report shows it: tables per case and scroll, the class distribution, and slices to look at."""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

from volumen.experiments.distribution import Operating, ProbabilityCounts, tolerated_shares
from volumen.experiments.scoring import CaseResult, Evaluation
from volumen.experiments.step_scores import FEATURES, StepEffect
from volumen.postprocess import describe
from volumen.reporting.charts import Bar, Chart, Key, bars_chart, histogram_chart, scatter_chart
from volumen.reporting.drawing import Drawing, Plot
from volumen.reporting.score_tables import (
    CASE_TABLES,
    Row,
    calibration_line,
    metric_rows,
    no_operating_point,
    operating_line,
    statistics_rows,
    step_cells,
)
from volumen.reporting.words import number, words
from volumen.system.output import counted

MOST_PICTURES = 9
LEAST_POINTS = 2.0  # the scale of over- and underestimation reaches so far at least: less is not to look like much


def evaluation_values(evaluation: Evaluation, pictures: Mapping[str, bytes]) -> dict[str, Any]:
    """What the template shows of an evaluation; `pictures` are PNG of slices by case id."""
    effects = evaluation.step_effects
    shown = shown_cases(evaluation, pictures)
    note = "Worst score first."
    if len(shown) < len(pictures):
        note = f"{len(shown)} of {counted(len(pictures), 'case')}: the worst, the middle and the best, worst first."
    return {
        "settings": settings_line(evaluation),
        "tables": [
            (title, ("case", "scroll", *(one.heading for one in columns)), metric_rows(evaluation, columns), legend)
            for title, columns, legend in CASE_TABLES
        ],
        "statistics": [Row((*cells, _small_histogram(counts))) for cells, counts in statistics_rows(evaluation)],
        **_operating_points(evaluation),
        "distribution": distribution_charts(evaluation, pictures),
        "step_headings": ("step", "voxels added", "voxels removed", *FEATURES, "score", "change"),
        "steps": [Row((*step_cells(one), _difference(one)), "bad" if _harmful(one) else "") for one in effects],
        "harmful": [one.sentence for one in effects if _harmful(one)],
        "noisy": [one.sentence for one in effects if one.lowers and one.within_noise],
        "slices_note": note,
        "slices": [(case, _anchor(evaluation, case), pictures[case.id]) for case in shown],
    }


def shown_cases(evaluation: Evaluation, pictures: Collection[str]) -> list[CaseResult]:
    """The cases of which pictures are shown, worst score first; `pictures` holds the ids of those that have some."""
    ranked = sorted((case for case in evaluation.cases if case.id in pictures), key=lambda c: c.values["leaderboard"])
    return pick(ranked, MOST_PICTURES)


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
    return " · ".join(said if steps is None else [*said, f"mask: {describe(steps)}"])


def distribution_charts(evaluation: Evaluation, pictures: Collection[str]) -> list[Chart]:
    """Shares, precision and recall, calibration, and over- and underestimation, whose bars lead to the pictures."""
    counts, span, points = evaluation.probability_counts, evaluation.label_range, "overestimation_points"
    names = ("predicted_share", "true_share", points)
    known = [not any(math.isnan(case.values[name]) for name in names) for case in evaluation.cases]
    cases = [*compress(evaluation.cases, known)]  # those with labelled voxels
    predicted, true = ([100 * case.values[name] for case in cases] for name in ("predicted_share", "true_share"))
    linked = {case.id for case in shown_cases(evaluation, pictures)}
    note = "percentage points of predicted minus true surface" + ("; a name leads to its slices" if linked else "")
    bars = [Bar(case.id, case.values[points], _anchor(evaluation, case) if case.id in linked else "") for case in cases]
    ranges = () if span is None else (span, tolerated_shares(*span))
    charts = [
        scatter_chart(
            "Predicted against true share",
            [(case.id, x, y) for case, x, y in zip(cases, true, predicted, strict=True)],
            x_name="true %",
            y_name="predicted %",
            bands=[(100 * low, 100 * high) for low, high in ranges],
            note="a dot a case; "
            + ("shaded: the labels' own range, and a quarter beyond" if span else "labelled voxels"),
        ),
        None if counts is None else precision_recall_chart(counts, evaluation.operating_point),
        None if counts is None else calibration_chart(counts),
        histogram_chart(
            "Surface share over the cases",
            [("predicted", predicted, 1), ("true", true, 3)],
            unit="%",
            note="percent of the labelled voxels",
        ),
        bars_chart("Over- and underestimation", bars, unit="pp", least=LEAST_POINTS, note=note),
    ]
    return [chart for chart in charts if chart is not None]


def precision_recall_chart(counts: ProbabilityCounts, used: Operating | None) -> Chart | None:
    """Precision against recall over all thresholds, with the threshold in use and the one of best Dice."""
    shown = [one for one in counts.curve if not math.isnan(one.precision + one.recall)]
    if not shown:
        return None
    title, best = "Precision and recall over thresholds", counts.best_dice
    plot = Plot(title, (0.0, 1.0), (0.0, 1.0), "recall", "precision")
    plot.line(((one.recall, one.precision) for one in shown), 1)
    for one in shown:
        plot.dot(plot.x(one.recall), plot.y(one.precision), 1, 2.2, operating_line("threshold", one))
    keys = [Key(1, "thresholds 0 to 0.99")]
    if used is not None:
        if used in shown:
            plot.dot(plot.x(used.recall), plot.y(used.precision), 2, 5.5, operating_line("in use: threshold", used))
        keys.append(Key(2, "in use" if used in shown else "in use, finds nothing", f"{used.threshold:.2f}"))
    x, y, text = plot.x(best.recall), plot.y(best.precision), operating_line("best Dice: threshold", best)
    plot.add("circle", class_="ring", cx=x, cy=y, r=9, stroke="var(--series-3)", title=text)
    keys.append(Key(3, "best Dice", f"{best.threshold:.2f}"))
    return Chart(title, keys=tuple(keys), drawing=plot.markup())


def calibration_chart(counts: ProbabilityCounts) -> Chart | None:
    """Observed share of surface against the predicted probability; a dot's area grows with its voxels."""
    parts = counts.calibration
    if not parts:
        return None
    plot = Plot("Calibration", (0.0, 1.0), (0.0, 1.0), "predicted probability", "observed share of surface")
    plot.diagonal()
    plot.line(((one.predicted, one.observed) for one in parts), 1)
    voxels = sum(one.voxels for one in parts)
    for one in parts:
        share = one.voxels / voxels
        text = f"predicted {one.predicted:.3f}, observed {one.observed:.3f}, {100 * share:.2g} % of the voxels"
        plot.dot(plot.x(one.predicted), plot.y(one.observed), 1, 3 + 7 * math.sqrt(share), text)
    error = number(counts.calibration_error)
    note = f"above the diagonal: underconfident, below: overconfident; calibration error {error}"
    return Chart("Calibration", note, drawing=plot.markup())


def _operating_points(evaluation: Evaluation) -> dict[str, Any]:
    counts, used = evaluation.probability_counts, evaluation.operating_point
    if counts is None:
        return {"operating_points": [], "operating_note": ""}
    missing = no_operating_point(evaluation)
    note = f"{missing[0].upper()}{missing[1:]}. " if used is None else ""
    note += "Labelled voxels of all cases together, by the threshold alone, to the nearest hundredth. "
    rows = []
    for name, point in (("in use", used), ("best Dice", counts.best_dice)):
        if point is not None:
            overlap = (number(point.precision), number(point.recall), number(point.dice))
            rows.append(Row((name, f"{point.threshold:.2f}", *overlap, number(100 * point.predicted_share, ".2f"))))
    return {"operating_points": rows, "operating_note": f"{note}Expected {calibration_line(counts.calibration_error)}."}


def _small_histogram(counts: Sequence[int]) -> str:
    """A histogram the size of a word, from the least to the greatest value."""
    label = f"counts from least to greatest: {' '.join(map(str, counts))}"
    drawing, most = Drawing(label, 8 * len(counts), 18, "bars"), max(1, *counts)
    for place, count in enumerate(counts):
        height = 18 * count / most
        drawing.add("rect", x=8 * place, y=18 - height, width=7, height=height)
    return drawing.markup()


def _harmful(step: StepEffect) -> bool:
    return step.lowers and not step.within_noise


def _difference(step: StepEffect) -> str:
    """The change of the score with its standard error, where the step has changed anything."""
    if step.score_before is None or step.noise is None:
        return ""
    if not step.voxels_added and not step.voxels_removed:
        return "none"
    return f"{step.difference:+.4f}" + ("" if math.isnan(step.noise) else f" ± {step.noise:.4f}")


def _anchor(evaluation: Evaluation, case: CaseResult) -> str:
    """Where on the page the pictures of a case stand; ids may hold what an anchor cannot."""
    return f"slices-{[one.id for one in evaluation.cases].index(case.id) + 1}"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
