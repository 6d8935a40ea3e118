"""The class distribution on the page and on the terminal: whole, marked, and readable with one case or with many."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.scored_sheets import HARMFUL, evaluation, pipeline

from volumen.experiments.distribution import Judgement, ProbabilityCounts, judge_share
from volumen.experiments.scoring import Evaluation
from volumen.reporting.console import console_for
from volumen.reporting.curves import WIDTH
from volumen.reporting.distribution_charts import (
    Bar,
    Point,
    bars_chart,
    precision_recall_chart,
    reliability_chart,
    scatter_chart,
)
from volumen.reporting.distribution_section import distribution_section
from volumen.reporting.evaluation_section import settings_line, slices_section
from volumen.reporting.tables import print_evaluation

HEADINGS = [
    "Predicted against true share", "Precision and recall over thresholds", "Calibration",
    "Surface share over the cases", "Over- and underestimation",
]  # fmt: skip


def judged(volumes: int, *steps: dict[str, object]) -> Evaluation:
    found = evaluation(pipeline(*steps), volumes)
    shares = {case.id: case.values["predicted_share"] for case in found.cases}
    verdicts = (Judgement("dice", ">= 0.6", 0.5, False), Judgement("loss.x", "<= 1", None, None))
    return replace(found, verdicts=(*verdicts, *judge_share(shares, [0.1, 0.2])), label_range=(0.1, 0.2))


def nested(page: str) -> None:
    """Every tag is closed in its turn."""
    open_tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: open_tags.append(tag)  # type: ignore[method-assign]
    parser.handle_startendtag = lambda tag, attrs: None  # type: ignore[method-assign]

    def close(tag: str) -> None:
        assert open_tags.pop() == tag

    parser.handle_endtag = close  # type: ignore[method-assign]
    parser.feed(page)
    assert open_tags == []


@pytest.mark.parametrize("volumes", [1, 3])
def test_the_section_has_every_chart_verdict_and_step(volumes) -> None:
    found = judged(volumes, {"kind": "threshold"}, {"kind": "close"}, HARMFUL)
    page = distribution_section(found, ())
    nested(page)
    assert re.findall(r'<figure class="chart"><h3>(.*?)</h3>', page) == HEADINGS
    assert "nan" not in page
    for verdict in found.verdicts:
        assert verdict.sentence.replace("'", "&#x27;").replace(">", "&gt;").replace("<", "&lt;") in page
    for part in (">missed</span>", ">open</span>", "in use <b>0.50</b>", "best Dice <b>", "Expected calibration error"):
        assert part in page
    for step in found.step_effects:
        assert f"<td>{step.name}</td>" in page
        assert step.sentence in page
    assert page.count("<tr class='bad'>") == (1 if volumes > 1 else 0)  # one volume does not tell


def test_bars_lead_to_the_pictures_that_are_there() -> None:
    found = judged(3, {"kind": "threshold"})
    shown = {"case0": b"", "case2": b""}
    page = distribution_section(found, shown)
    targets = re.findall(r'<a href="#([^"]*)">', page)
    assert sorted(targets) == ["slices-1", "slices-3"]
    pictures = slices_section(found, shown)
    for target in targets:
        assert f"id='{target}'" in pictures


def test_hysteresis_has_no_threshold_on_the_curve_and_says_so() -> None:
    page = distribution_section(judged(2, {"kind": "hysteresis", "low": 0.3, "high": 0.7}), ())
    assert "decided by hysteresis" in page
    assert "in use <b>" not in page
    assert "best Dice <b>" in page


def test_masks_from_elsewhere_have_shares_and_nothing_more() -> None:
    found = evaluation(pipeline({"kind": "threshold"}), 2)
    bare = Evaluation(tuple(replace(case, probability_counts=None, steps=()) for case in found.cases))
    page = distribution_section(bare, ())
    nested(page)
    assert re.findall(r'<figure class="chart"><h3>(.*?)</h3>', page) == [HEADINGS[0], *HEADINGS[3:]]
    assert "Operating point" not in page
    assert settings_line(bare) == ""


def test_settings_say_the_steps_as_everywhere_else() -> None:
    found = evaluation(pipeline({"kind": "threshold", "level": 0.4}, {"kind": "close"}), 1)
    assert settings_line(found) == "mask: probability above 0.4, close (radius voxels 1 1 1)"


def test_everything_is_drawn_inside_of_its_chart() -> None:
    names = ("a" * 40, "<b>", "c")
    bars = bars_chart("bars", [Bar(name, value) for name, value in zip(names, (-40.0, 0.0, 3.0), strict=True)],
                      unit="pp", least=2.0, note="")  # fmt: skip
    nested(bars)
    assert "&lt;b&gt;" in bars
    assert "a" * 16 not in bars.replace("a" * 40, "")  # the whole name on hovering only
    for x, width in re.findall(r'<rect x="([\d.]+)" [^>]*width="([\d.]+)"', bars):
        assert float(x) >= 118
        assert float(x) + float(width) <= WIDTH
    dots = scatter_chart("s", [Point("a", 5.0, 99.0)], x_name="x", y_name="y", bands=[(10.0, 20.0)], note="")
    assert dots.count("<circle") == 1
    assert all(0 <= float(y) <= 340 for y in re.findall(r'cy="([\d.-]+)"', dots))
    assert scatter_chart("s", [], x_name="x", y_name="y", bands=(), note="") == ""
    assert bars_chart("b", [], unit="pp", least=2.0, note="") == ""
    assert reliability_chart((), 0.0) == ""


def test_a_small_difference_does_not_fill_the_chart_and_many_cases_are_cut_to_the_extremes() -> None:
    one = bars_chart("b", [Bar("a", -0.2)], unit="pp", least=2.0, note="")
    (width,) = re.findall(r'<rect [^>]*width="([\d.]+)"', one)
    assert float(width) < 0.1 * WIDTH
    many = bars_chart("b", [Bar(str(n), n - 50.0) for n in range(100)], unit="pp", least=2.0, note="over")
    assert many.count("<rect") == 24
    assert "the 24 extremes of 100 cases" in many
    assert ">+49.00<" in many
    assert ">-50.00<" in many


def test_nothing_predicted_at_all_still_has_a_curve() -> None:
    counts = ProbabilityCounts((100, *[0] * 99), (20, *[0] * 99))
    chart = precision_recall_chart(counts.curve, counts.best_dice, counts.at(0.5))
    nested(chart)
    assert "in use, finds nothing" in chart
    assert counts.at(0.0) == counts.curve[0]
    assert counts.at(1.0) == counts.curve[99]


@pytest.mark.parametrize("width", [70, None])
def test_the_terminal_says_it_all_without_losing_a_digit(tmp_path: Path, width) -> None:
    found = judged(3, {"kind": "threshold"}, {"kind": "close"}, HARMFUL)
    with (tmp_path / "out.txt").open("w") as stream:
        console = console_for(stream)
        console.width = width or console.width
        print_evaluation(found, console)
    text = (tmp_path / "out.txt").read_text()
    assert "…" not in text
    for part in (
        "threshold in use 0.50: precision",
        "threshold of best Dice",
        "calibration error",
        "verdict: dice >= 0.6",
        "warning: the step open lowers the leaderboard score by",
        "leave it out",
    ):
        assert part in text, part
    if width is None:
        close = found.step_effects[1]
        assert f"{close.score_before:.4f} -> {close.score_after:.4f}" in text
        tables = [line for line in text.splitlines() if not re.match("verdict|warning|threshold|calibration", line)]
        assert max(map(len, tables)) <= 120
