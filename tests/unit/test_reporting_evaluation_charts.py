"""The class distribution on the page and on the terminal: whole, marked, and readable with one case or with many."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape
from tests.scored_sheets import HARMFUL, evaluation, pipeline

from volumen.experiments.distribution import Judgement, ProbabilityCounts, judge_share
from volumen.experiments.scoring import Evaluation
from volumen.reporting.console import console_for
from volumen.reporting.evaluation_charts import evaluation_values, precision_recall_chart, settings_line
from volumen.reporting.page import templates
from volumen.reporting.score_tables import print_evaluation

HEADINGS = [
    "Predicted against true share", "Precision and recall over thresholds", "Calibration",
    "Surface share over the cases", "Over- and underestimation",
]  # fmt: skip


def judged(volumes: int, *steps: dict[str, object]) -> Evaluation:
    found = evaluation(pipeline(*steps), volumes)
    shares = {case.id: case.values["predicted_share"] for case in found.cases}
    verdicts = (Judgement("dice", ">= 0.6", 0.5, False), Judgement("loss.x", "<= 1", None, None))
    return replace(found, verdicts=(*verdicts, *judge_share(shares, [0.1, 0.2])), label_range=(0.1, 0.2))


def page_of(evaluation: Evaluation, pictures: Mapping[str, bytes] | None = None) -> str:
    """An evaluation as it stands on the page."""
    values = evaluation_values(evaluation, pictures or {})
    return templates().get_template("evaluation.html").render(evaluation=evaluation, **values)


def nested(page: str) -> None:
    """Every tag is closed in its turn."""
    open_tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: open_tags.append(tag) if tag != "img" else None  # type: ignore[method-assign]
    parser.handle_startendtag = lambda tag, attrs: None  # type: ignore[method-assign]

    def close(tag: str) -> None:
        assert open_tags.pop() == tag

    parser.handle_endtag = close  # type: ignore[method-assign]
    parser.feed(page)
    assert open_tags == []


@pytest.mark.parametrize("volumes", [1, 3])
def test_the_section_has_every_chart_verdict_and_step(volumes) -> None:
    found = judged(volumes, {"kind": "threshold"}, {"kind": "close"}, HARMFUL)
    page = page_of(found)
    nested(page)
    assert re.findall(r'<figure class="chart"><h3>(.*?)</h3>', page) == HEADINGS
    assert "nan" not in page
    for verdict in found.verdicts:
        assert escape(verdict.sentence) in page
    for part in (">missed</span>", ">open</span>", "in use <b>0.50</b>", "best Dice <b>", "Expected calibration error"):
        assert part in page
    for step in found.step_effects:
        assert f"<td>{step.name}</td>" in page
        assert step.sentence in page
    assert page.count('<tr class="bad">') == (1 if volumes > 1 else 0)  # one volume does not tell


def test_bars_lead_to_the_pictures_that_are_there() -> None:
    found = judged(3, {"kind": "threshold"})
    shown = {"case0": b"", "case2": b""}
    page = page_of(found, shown)
    targets = re.findall(r'<a href="#([^"]*)">', page)
    assert sorted(targets) == ["slices-1", "slices-3"]
    for target in targets:
        assert f'id="{target}"' in page


def test_hysteresis_has_no_threshold_on_the_curve_and_says_so() -> None:
    page = page_of(judged(2, {"kind": "hysteresis", "low": 0.3, "high": 0.7}))
    assert "decided by hysteresis" in page
    assert "in use <b>" not in page
    assert "best Dice <b>" in page


def test_masks_from_elsewhere_have_shares_and_nothing_more() -> None:
    found = evaluation(pipeline({"kind": "threshold"}), 2)
    bare = Evaluation(tuple(replace(case, probability_counts=None, steps=()) for case in found.cases))
    page = page_of(bare)
    nested(page)
    assert re.findall(r'<figure class="chart"><h3>(.*?)</h3>', page) == [HEADINGS[0], *HEADINGS[3:]]
    assert "Operating point" not in page
    assert settings_line(bare) == ""


def test_settings_say_the_steps_as_everywhere_else() -> None:
    found = evaluation(pipeline({"kind": "threshold", "level": 0.4}, {"kind": "close"}), 1)
    assert settings_line(found) == "mask: probability above 0.4, close (radius voxels 1 1 1)"


def test_nothing_predicted_at_all_still_has_a_curve() -> None:
    counts = ProbabilityCounts((100, *[0] * 99), (20, *[0] * 99))
    chart = precision_recall_chart(counts, counts.at(0.5))
    assert chart is not None
    assert "in use, finds nothing" in [key.text for key in chart.keys]
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
