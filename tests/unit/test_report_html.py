"""The report: whole, self-contained, well-formed, and honest about what is missing or not finite."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests.run_folders import fill, log, new_run, status, status_record, train_record, validation_record

from volumen.errors import UserError
from volumen.experiments.scoring import LabelledCase, score_case
from volumen.reporting.curves import Axes, Mark, Series, histogram_chart, line_chart, nice_ticks, thin
from volumen.reporting.evaluation_section import pick
from volumen.reporting.html import build_report, verdict, write_report
from volumen.reporting.records import read_run
from volumen.reporting.tables import print_evaluation
from volumen.reporting.training_section import _marks, curves_section, events_section
from volumen.reporting.words import words
from volumen.system.locks import hold
from volumen.system.output import duration


class Checker(HTMLParser):
    """Collects tags and checks that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):  # SVG elements without content end in /> and come to handle_startendtag
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return new_run(tmp_path / "run")


def test_a_whole_run_makes_one_page_that_needs_nothing_else(run):
    fill(run)
    path, faults = write_report(run)
    assert faults == ()
    assert path == run / "report.html"
    page = path.read_text(encoding="utf-8")
    checker = checked(page)
    for tag, attributes in checker.tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert not re.search(r"https?://|url\(|@import", page)
    said = ("tale-1", "Finished after 5 of 5 epochs", "Best validation surface Dice 0.500 in epoch 4",
            "On 2 held-out volumes", "Learning rate", "Gradient norm", "Term: soft Dice", "Surface share", "rollback",
            "12 min 05 s", "prefers-color-scheme", "every voxel was predicted", "torch 2")  # fmt: skip
    for text in said:
        assert text in page, text
    assert sum(tag == "img" for tag, _ in checker.tags) == 1  # one of the two cases has slices
    assert "&lt;b&gt;loss&lt;/b&gt; &amp; more" in page
    assert "c&lt;1&gt;" in page
    assert "c<1>" not in page


def test_every_curve_that_was_recorded_is_there(run):
    fill(run)
    headings = re.findall(r"<figure class=\"chart\"><h3>(.*?)</h3>", build_report(read_run(run)))
    assert headings == [
        "Loss, total", "Loss, what each term adds", "Term: cross entropy", "Term: soft Dice", "Learning rate",
        "Gradient norm", "Scores, validation", "Overlap, validation", "Surface share", "Seconds an epoch",
        "Predicted against true share", "Surface share over the cases", "Over- and underestimation",
    ]  # fmt: skip


def test_swa_has_curves_of_its_own(run):
    fill(run)
    log(run, "metrics.jsonl", validation_record(4, kind="validation_swa", weights_of="swa"))
    page = build_report(read_run(run))
    assert "Scores, validation, SWA" in page
    assert "Scores, validation, moving average" in page


def test_a_run_that_has_just_begun_has_a_report_too(run):
    page = build_report(read_run(run))
    checked(page)
    for text in ("may not have begun", "No epoch has been recorded", "Not evaluated yet: run <code>volumen evaluate"):
        assert text in page


def test_a_run_whose_process_is_gone_is_not_called_running(run):
    status(run, status_record(state="running", seconds_left=60.0))
    with hold(run, "train"):
        assert "Still running when this report was made" in verdict(read_run(run))
    assert "Broken off (its process is gone without a word; it can be resumed)" in verdict(read_run(run))


def test_a_failed_run_says_why(run):
    status(run, status_record(state="failed", epoch=1, planned_epochs=9, reason="the loss is nan"))
    page = build_report(read_run(run))
    assert "Failed after 1 of 9 epochs. the loss is nan." in page
    assert "chip bad" in page


def test_what_was_not_finite_is_marked_and_breaks_the_line(run):
    for epoch in range(6):
        log(run, "metrics.jsonl", train_record(epoch, total=float("nan") if epoch == 3 else 1.0 + epoch))
    chart = next(c for c in build_report(read_run(run)).split("<figure") if "Loss, total" in c)
    assert chart.count('class="lost"') == 1
    assert "train at 4: not finite" in chart
    assert chart.count("<polyline") == 2


def test_a_curve_of_nothing_finite_says_so(run):
    for epoch in range(3):
        log(run, "metrics.jsonl", train_record(epoch, total=float("nan")))
    page = build_report(read_run(run))
    checked(page)
    assert "No value of this curve was finite" in page


def test_no_run_folder_and_damaged_files_are_errors_with_a_fix(tmp_path, run):
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path / "nowhere")
    (run / "status.json").write_text("{")
    with pytest.raises(UserError, match=r"status.json is damaged"):
        write_report(run)


def test_a_report_can_go_elsewhere(run, tmp_path):
    target = tmp_path / "deep" / "page.html"
    assert write_report(run, target) == (target, ())
    assert target.is_file()
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (-3, 12), (1e-9, 2e-9), (0.5, 0.50001), (1e5, 3e8)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_axes_map_the_range_onto_the_frame_and_powers_of_ten_evenly():
    axes = Axes((0, 10), (0.01, 100), True)
    ys = [axes.y(value) for value in (0.01, 0.1, 1, 10, 100)]
    assert np.allclose(np.diff(ys), np.diff(ys)[0])
    assert axes.x(0) < axes.x(10)


def test_long_curves_are_thinned_and_lost_points_survive():
    points = tuple((float(x), None if x == 777 else float(x)) for x in range(5000))
    short = thin(points, 400)
    assert len(short) <= 402
    assert (777.0, None) in short
    finite = [y for _, y in short if y is not None]
    assert finite == sorted(finite)
    assert abs(np.mean(finite) - 2499.5) < 15


def test_a_term_that_a_phase_does_not_have_is_not_called_lost(run):
    for epoch in range(6):
        terms = {"soft_dice": 0.5} if epoch < 3 else {"soft_dice": 0.5, "cross_entropy": 0.4}
        changes = {"terms": terms, "weighted": terms, "gradient_norm": float("nan") if epoch == 5 else 1.0}
        log(run, "metrics.jsonl", train_record(epoch, **changes))
    charts = {c.split("</h3>")[0].split("<h3>")[-1]: c for c in build_report(read_run(run)).split("<figure")[1:]}
    assert "lost" not in charts["Term: cross entropy"]
    assert charts["Term: cross entropy"].count("<circle") == 3
    assert charts["Gradient norm"].count('class="lost"') == 1


def test_events_stand_where_their_step_is(run):
    for epoch in range(5):
        log(run, "metrics.jsonl", train_record(epoch))
    for step, epoch in ((20, 2), (25, 2)):  # after the second epoch, whose cursor has moved on, and in the third
        log(run, "events.jsonl", {"step": step, "epoch": epoch, "time": 0.0, "kind": "rollback"})
    page = build_report(read_run(run))
    assert "<td class='n'>2</td><td class='n'>20</td>" in page
    assert "<td class='n'>3</td><td class='n'>25</td>" in page
    axes = Axes((1, 5), (0, 1), False)
    marks = re.findall(r'class="mark" x1="([\d.]+)"', page.split("<figure")[1])
    assert marks == [f"{axes.x(2):.1f}", f"{axes.x(2.5):.1f}"]


def test_charts_survive_one_point_equal_values_and_nothing():
    one = line_chart("one", [Series("a", ((7.0, 3.25),), 1)])
    assert "one record, epoch 7" in one
    assert "<b>3.25</b>" in one
    assert "<svg" not in one
    marked = line_chart("m", [Series("a", ((1.0, 0.29), (4.0, 0.44)), 1)], logarithmic=True,
                        marks=[Mark(2.0, "x"), Mark(99.0, "outside")])  # fmt: skip
    assert marked.count('class="mark"') == 1
    assert all(len(text) <= 5 for text in re.findall(r">([\d.e-]+)</text>", marked))
    flat = line_chart("flat", [Series("a", ((1.0, 0.0), (2.0, 0.0)), 1)], logarithmic=True)
    assert "nan" not in flat
    assert line_chart("none", [Series("a", (), 1)]) == ""
    assert histogram_chart("none", [("a", [], 1)], unit="%") == ""
    bars = histogram_chart("h", [("a", [0.0, 5.0, 10.0], 1), ("b", [10.0], 2)], unit="%")
    assert bars.count("<rect") == 4


def test_pictures_are_of_the_worst_the_middle_and_the_best():
    label = np.zeros((4, 4, 4), dtype=np.uint8)
    ranked = [score_case(LabelledCase(str(n), "s", label), label) for n in range(20)]
    assert [case.id for case in pick(ranked, 9)] == ["0", "1", "2", "8", "9", "10", "17", "18", "19"]
    assert pick(ranked[:5], 9) == ranked[:5]


def test_tables_are_whole_in_a_pipe(run, tmp_path):
    evaluation = fill(run)
    with (tmp_path / "out.txt").open("w") as stream:
        from volumen.reporting.console import console_for

        print_evaluation(evaluation, console_for(stream))
    text = (tmp_path / "out.txt").read_text()
    assert "\x1b" not in text
    assert "…" not in text
    for part in ("c<1>", "surface Dice", "surface - true", "mean of 2", "std", "warning: c2: every voxel"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120


def test_tables_fit_a_terminal_without_losing_a_digit(run):
    evaluation = fill(run)
    console = Console(width=70, force_terminal=False, record=True, file=(run / "x").open("w"))
    print_evaluation(evaluation, console)
    console.file.close()
    assert "…" not in console.export_text()


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (0.5, "0.5 s"), (41.6, "42 s"), (425, "7 min 05 s"), (12000, "3 h 20 min")]
)
def test_durations_are_said_for_people(seconds, said):
    assert duration(seconds) == said
    assert words("surface_dice") == "surface Dice"
    assert words("iou") == "IoU"


def test_a_row_of_new_plans_is_one_event_and_no_mark():
    plans = [
        {"kind": "planned_steps", "step": n, "epoch": n, "time": 0.0, "before": 100 + n, "planned": 101 + n}
        for n in range(30)
    ]
    events = [*plans, {"kind": "rollback", "step": 30, "epoch": 30, "time": 0.0}, plans[0]]
    table = events_section(events, [])
    assert table.count("<tr>") == 1 + 3
    assert "before 100, planned 130, times 30" in table
    assert [mark.text.split()[0] for mark in _marks(events, [])] == ["rollback"]


def test_what_was_recorded_once_is_one_table(tmp_path) -> None:
    run = new_run(tmp_path / "run")
    log(run, "metrics.jsonl", train_record(0))
    log(run, "metrics.jsonl", validation_record(0))
    page = curves_section(read_run(run))
    assert "Recorded once" in page
    assert "<figure" not in page
    assert "0.0001" in page or "0.001" in page  # the learning rate
    log(run, "metrics.jsonl", train_record(1))
    assert "<figure" in curves_section(read_run(run))


def test_a_rate_that_never_left_its_warmup_is_said(tmp_path) -> None:
    run = new_run(tmp_path / "run")  # a warm-up of 100 steps
    log(run, "metrics.jsonl", train_record(0, step=16))
    assert "has not left its warm-up: 16 of 100 steps" in curves_section(read_run(run))
    log(run, "events.jsonl", {"step": 16, "epoch": 0, "time": 0.0, "kind": "planned_steps", "before": 9, "planned": 17})
    assert "warm-up" not in curves_section(read_run(run))  # it takes a third of a short plan
