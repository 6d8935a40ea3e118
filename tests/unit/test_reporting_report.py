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
from volumen.reporting.console import console_for
from volumen.reporting.evaluation_charts import pick
from volumen.reporting.records import read_run
from volumen.reporting.report import build_report, verdict, write_report
from volumen.reporting.score_tables import print_evaluation
from volumen.reporting.training_curves import event_marks, event_rows
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


def test_every_number_that_was_recorded_stands_on_the_page(run):
    fill(run)
    for epoch in (5, 6):
        log(run, "metrics.jsonl", train_record(epoch, learning_rate=0.0004321, gradient_norm=7.654321))
    found = read_run(run)
    page = build_report(found)
    numbers = {f"{float(text):.3g}" for text in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", page)}
    for record in found.records:
        held = [record["total"], *record["terms"].values(), *record["weighted"].values(), record["seconds"]]
        held += [record.get("learning_rate"), record.get("gradient_norm"), record.get("gradient_norm_maximum")]
        held += [*record.get("metrics", {}).values()] if record["kind"] != "train" else [record["loader_seconds"]]
        held += [100 * record["predicted_share"], 100 * record["true_share"]]
        assert {f"{value:.3g}" for value in held if value is not None} <= numbers
    for case in found.evaluation.cases:
        for name in ("leaderboard", "topo", "surface_dice", "voi", "dice", "precision", "recall", "iou"):
            assert f"{case.values[name]:.3f}" in page


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
    assert "Broken off (its process ended without recording why; it can be resumed)" in verdict(read_run(run))


def test_a_failed_run_says_why(run):
    status(run, status_record(state="failed", epoch=1, planned_epochs=9, reason="the loss is nan"))
    page = build_report(read_run(run))
    assert "Failed after 1 of 9 epochs. the loss is nan." in page
    assert "chip bad" in page


def test_what_was_not_finite_is_marked_and_breaks_the_line(run):
    for epoch in range(6):
        log(run, "metrics.jsonl", train_record(epoch, total=float("nan") if epoch == 3 else 1.0 + epoch))
    chart = next(c for c in build_report(read_run(run)).split("<figure") if "Loss, total" in c)
    assert chart.count("not finite") == 1
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


def test_a_term_that_a_phase_does_not_have_is_not_called_lost(run):
    for epoch in range(6):
        terms = {"soft_dice": 0.5} if epoch < 3 else {"soft_dice": 0.5, "cross_entropy": 0.4}
        changes = {"terms": terms, "weighted": terms, "gradient_norm": float("nan") if epoch == 5 else 1.0}
        log(run, "metrics.jsonl", train_record(epoch, **changes))
    charts = {c.split("</h3>")[0].split("<h3>")[-1]: c for c in build_report(read_run(run)).split("<figure")[1:]}
    assert re.findall(r"train at (\d): [\d.]+<", charts["Term: cross entropy"]) == ["4", "5", "6"]
    assert "not finite" not in charts["Term: cross entropy"]
    assert "mean at 6: not finite" in charts["Gradient norm"]


def test_events_stand_where_their_step_is(run):
    for epoch in range(5):
        log(run, "metrics.jsonl", train_record(epoch))
    for step, epoch in ((20, 2), (25, 2)):  # after the second epoch, whose cursor has moved on, and in the third
        log(run, "events.jsonl", {"step": step, "epoch": epoch, "time": 0.0, "kind": "rollback"})
    found = read_run(run)
    rows, _ = event_rows(found.events, found.records)
    assert [row.cells[2:4] for row in rows] == [("2", "20"), ("3", "25")]
    assert [mark.x for mark in event_marks(found.events, found.records)] == [2, 2.5]


def test_pictures_are_of_the_worst_the_middle_and_the_best():
    label = np.zeros((4, 4, 4), dtype=np.uint8)
    ranked = [score_case(LabelledCase(str(n), "s", label), label) for n in range(20)]
    assert [case.id for case in pick(ranked, 9)] == ["0", "1", "2", "8", "9", "10", "17", "18", "19"]
    assert pick(ranked[:5], 9) == ranked[:5]


def test_tables_are_whole_in_a_pipe(run, tmp_path):
    evaluation = fill(run)
    with (tmp_path / "out.txt").open("w") as stream:
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
    ("seconds", "said"), [(3.21, "3.2 s"), (41.6, "42 s"), (425, "7 min 05 s"), (12000, "3 h 20 min")]
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
    rows, left_out = event_rows(events, [])
    assert (len(rows), left_out) == (3, 0)
    assert rows[0].cells[-1] == "before 100, planned 130, times 30"
    assert [mark.text.split()[0] for mark in event_marks(events, [])] == ["rollback"]


def test_what_was_recorded_once_is_one_table(run) -> None:
    log(run, "metrics.jsonl", train_record(0))
    log(run, "metrics.jsonl", validation_record(0))
    page = build_report(read_run(run))
    assert "Recorded once" in page
    assert "<figure" not in page
    assert ">0.001<" in page  # the learning rate
    log(run, "metrics.jsonl", train_record(1))
    assert "<figure" in build_report(read_run(run))


def test_a_rate_that_never_left_its_warmup_is_said(run) -> None:  # a warm-up of 100 steps
    log(run, "metrics.jsonl", train_record(0, step=16))
    assert "has not left its warm-up: 16 of 100 steps" in build_report(read_run(run))
    log(run, "events.jsonl", {"step": 16, "epoch": 0, "time": 0.0, "kind": "planned_steps", "before": 9, "planned": 17})
    assert "its warm-up" not in build_report(read_run(run))  # it takes a third of a short plan
