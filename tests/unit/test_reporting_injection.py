"""Whatever a record says, sealed or not, a page has the elements of a page, and a refusal is one line.

Every field of every record of a run takes hostile values in turn, with the right check on the record, as somebody would
give it who knows how the checks are made.
"""

import copy
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.run_folders import leave_evaluation, log, new_run, status, status_record, train_record, validation_record
from tests.scored_sheets import HARMFUL, evaluation, pipeline

from volumen.cli.main import run as volumen
from volumen.config.stamp import read_stamp
from volumen.doctor.objective.autopsy import Autopsy, Optimum, Range
from volumen.doctor.objective.operating_point import OperatingPoint, population_of
from volumen.errors import UserError
from volumen.experiments import evaluation_file
from volumen.experiments.distribution import Judgement, judge_share
from volumen.reporting import records as run_records
from volumen.reporting.autopsy_page import autopsy_page
from volumen.reporting.console import console_for
from volumen.reporting.records import read_run
from volumen.reporting.report import build_report, write_report
from volumen.reporting.score_tables import print_evaluation
from volumen.reporting.terminal import SilentDisplay
from volumen.runs import folder as run_folder
from volumen.runs import records as records_of_runs
from volumen.runs.folder import run_owner
from volumen.system.names import printable
from volumen.system.records import append_record, read_log, read_record, write_record

MARKUP = "<script>x</script>\"><img src=x onerror=x>'</style></title></svg><script>&amp;<!--"
DRIVING = "\x1b[31m\x00\x07\r\x9b2J\u202egnp\u2066 v[red]1[/] [/nothing] :smile: {0} {x!r}"
TEXTS = (MARKUP, DRIVING)
HOSTILE = (
    *TEXTS, "", "\ud800", "x" * 100_001, 10**400, -(10**18), 10**18, -1, 1e300, -1e300, 0.5, 7, True, None, [], {},
    ["a"], {"a": {"b": {"c": {"d": {"e": 1}}}}}, [[[[[1]]]]],
)  # fmt: skip
LOGS = ("metrics.jsonl", "events.jsonl", "findings.jsonl")
RECORDS = (*LOGS, "status.json", "evaluation.json")
Path_ = tuple[str | int, ...]


class Elements(HTMLParser):
    """What a browser would make of a page: elements with the names of their attributes, and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}
        self.leads += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_comment(self, data: str) -> None:
        self.found.add(("comment", ""))


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    parser.close()
    return parser


def sane(page: str, allowed: set[tuple[str, str]]) -> None:
    """The page has no element or attribute but these, and nothing in it leads out, is unseen or is no number."""
    found = elements(page)
    assert found.found <= allowed
    assert all(lead.startswith(("#", "data:image/png;base64,")) for lead in found.leads)
    page.encode("utf-8")
    assert printable(page) == page
    assert not re.search(r'(?:[xy][12]?|c[xy]|width|height|points|d)="[^"]*(?:nan|inf|e[+-]?\d)', page)


def trained_run(folder: Path) -> Path:
    """A run with everything that a training leaves and a report shows."""
    run = new_run(folder)
    for epoch in range(2):
        progress = {"progress": {"total": 0.5}}
        log(run, "metrics.jsonl", train_record(epoch, **progress, total=None if epoch else 1.0))
        log(run, "metrics.jsonl", validation_record(epoch, **progress))
    swa = validation_record(1, metrics={"dice": 0.5}, terms={"soft_dice": 0.5}, weights_of="swa")
    log(run, "metrics.jsonl", {**swa, "kind": "validation_swa"})
    when = {"step": 10, "epoch": 1, "time": 1e9}
    log(run, "events.jsonl", {**when, "kind": "audit", "findings": 1, "accepted": ["P3"]})
    for number in range(2):
        log(run, "events.jsonl", {**when, "kind": "planned_steps", "before": 30 + number, "planned": 40})
    log(run, "events.jsonl", {**when, "kind": "phase", "name": "late", "weights": {"soft_dice": 1.0}})
    log(run, "events.jsonl", {**when, "kind": "warning", "message": "a checkpoint is damaged", "list": ["P3"]})
    finding = {"moment": "audit", "accepted": True, "code": "P3", "severity": "stop", "title": "t", "evidence": "e",
               "causes": ["c"], "remedies": ["r"], "where": "loss"}  # fmt: skip
    log(run, "findings.jsonl", finding)
    status(run, status_record(state="running", reason="so", seconds_left=60.0))
    return run


def rich_run(folder: Path) -> Path:
    """A run with all that there can be, an evaluation too."""
    run = trained_run(folder)
    found = evaluation(pipeline({"kind": "threshold"}, {"kind": "close"}, HARMFUL), 2)
    shares = {case.id: case.values["predicted_share"] for case in found.cases}
    settings = {**found.settings, "run": "r", "which": "best", "fold": 0, "dataset": "d", "dataset_identity": "i",
                "tile": [8, 8, 8], "overlap": 0.5, "mirror": True, "rotate": False, "engine": "e", "precision": "fp32",
                "slices": {"case0": [1, 2, 3]}}  # fmt: skip
    verdicts = (Judgement("dice", ">= 0.6", 0.5, False), Judgement("loss.x", "<= 1", None, None))
    judged = (*verdicts, *judge_share(shares, [0.1, 0.2]))
    whole = replace(found, settings=settings, notes=("a note",), verdicts=judged, label_range=(0.1, 0.2))
    leave_evaluation(run, whole, ("case0",))
    return run


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return rich_run(tmp_path_factory.mktemp("clean") / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return trained_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def allowed(clean, tmp_path_factory) -> set[tuple[str, str]]:
    """The elements of clean pages: of a whole run, and of one that has just begun."""
    begun = new_run(tmp_path_factory.mktemp("begun") / "run")
    return {pair for run in (clean, begun) for pair in elements(build_report(read_run(run))).found}


def read_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read the configuration of a run once, and not for every one of the many values; the owner of its records."""
    config, owner, stamp = run_folder.run_config(run), run_owner(run), read_stamp(run / "config.yaml")
    monkeypatch.setattr(run_records, "run_config", lambda run: config)
    monkeypatch.setattr(run_records, "read_stamp", lambda path: stamp)
    for room in (run_folder, records_of_runs, evaluation_file):
        monkeypatch.setattr(room, "run_owner", lambda run: owner)
    return owner


def contents(run: Path, name: str) -> list[dict[str, Any]]:
    """The records of a file."""
    if name in LOGS:
        return list(read_log(run / name, owner=run_owner(run)).records)
    return [read_record(run / name, dict[str, Any], "", owner=run_owner(run))]


def seal(run: Path, name: str, records: list[dict[str, Any]], owner: str) -> None:
    """Write the records with their checks."""
    (run / name).unlink(missing_ok=True)
    for record in records:
        (append_record if name in LOGS else write_record)(run / name, record, owner=owner)


def paths(value: Any, inside: Path_ = ()) -> Iterator[Path_]:
    """Ways to every value in a tree; of a list the first."""
    if inside:
        yield inside
    if isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, (*inside, key))
    elif isinstance(value, list):
        for place, item in enumerate(value[:1]):
            yield from paths(item, (*inside, place))


def changed(records: list[dict[str, Any]], path: Path_, value: Any, *, as_key: bool = False) -> list[dict[str, Any]]:
    """A copy in which the value at a path is another one, or stands under another key."""
    copied = copy.deepcopy(records)
    holder: Any = copied
    for part in path[:-1]:
        holder = holder[part]
    if as_key:
        holder[value] = holder.pop(path[-1])
    else:
        holder[path[-1]] = value
    return copied


def mutants(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Every field of every record with every hostile value, gone, and under a hostile key."""
    everywhere = [(place, *path) for place, record in enumerate(records) for path in paths(record)]
    for path in everywhere:
        yield from (changed(records, path, value) for value in HOSTILE)
        if isinstance(path[-1], str):
            yield from (changed(records, path, key, as_key=True) for key in TEXTS)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_of_a_record_ends_in_a_page_or_in_one_line(name, clean, trained, tmp_path, allowed, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(clean if name == "evaluation.json" else trained, run)
    records = contents(run, name)
    owner = read_once(run, monkeypatch)
    if name == "metrics.jsonl":
        records = [records[0], records[2], records[-1]]
    elif name == "evaluation.json":
        for derived in ("mean", "summary", "by_scroll", "distribution", "step_effects", "warnings", "non_finite"):
            records[0].pop(derived, None)  # which is not read
    pages: set[str] = set()
    refused = 0
    for mutant in mutants(records):
        seal(run, name, mutant, owner)
        try:
            found = read_run(run)
        except UserError as error:
            refused += 1
            one_line(str(error), name)
            continue
        for fault in found.faults:
            one_line(fault, ".jsonl")
        told = [fault for fault in found.faults if "script" in fault]
        seen = repr((found.records, found.events, found.findings, found.status, told, found.evaluation))
        if seen not in pages:  # the same page again says nothing new
            pages.add(seen)
            sane(build_report(found), allowed)
    assert len(pages) > 5
    assert refused > 20 or name in LOGS  # of a log the line is left out


def one_line(said: str, name: str) -> None:
    assert name in said
    assert printable(said) == said
    assert "\n" not in said
    assert len(said) < 900


@pytest.mark.parametrize("name", [*RECORDS, "evaluation/slices/case0.png"])
def test_damage_never_changes_what_is_read_in_silence(name, clean, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(clean, run)
    read_once(run, monkeypatch)
    whole, original = read_run(run), (run / name).read_bytes()
    random = np.random.default_rng(len(name))
    for number in range(60):
        damaged = bytearray(original)
        place = int(random.integers(len(original)))
        if number % 3 == 0:
            damaged[place] ^= 1 << int(random.integers(8))
        elif number % 3 == 1:
            damaged[place : place + 1] = str(int(random.integers(10))).encode()
        else:
            damaged[place : place + int(random.integers(1, 60))] = b""
        (run / name).write_bytes(damaged)
        try:
            found = read_run(run)
        except UserError as error:
            one_line(str(error), name)
            continue
        assert found == whole or found.faults


def test_findings_that_are_gone_altogether_are_missed(clean, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(clean, run)
    for lose in (lambda path: path.write_bytes(b""), lambda path: path.unlink()):
        lose(run / "findings.jsonl")
        assert "findings.jsonl: the audit found 1, 0 can be read" in read_run(run).faults


def test_the_free_texts_of_a_configuration_are_texts(tmp_path, allowed):
    outcomes = [{"what": MARKUP, "probability": 0.5}]
    values = {"hypothesis": MARKUP, "expected": MARKUP, "parent": MARKUP, "fallback": MARKUP, "outcomes": outcomes}
    values["criteria"] = ["val.loss < 0.4 by epoch 1"]
    given = [f"experiment.{key}={json.dumps(value)}" for key, value in values.items()]
    run = new_run(tmp_path / "<b>'\"run", *given, f"data.dataset={json.dumps(MARKUP)}")
    page, faults = write_report(run)
    assert faults == ()
    text = page.read_text(encoding="utf-8")
    sane(text, allowed)
    assert "&lt;script&gt;x" in text


def test_a_line_that_no_run_writes_is_left_out_and_said_on_the_page_and_the_terminal(clean, tmp_path, capsys):
    run = rich_run(tmp_path / "run")
    log(run, "metrics.jsonl", train_record(7, total="a lot"))
    log(run, "metrics.jsonl", train_record(8, predicted_share=3.0))
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text(lines[0] + lines[2].replace("31", "37") + "".join(lines[4:]))
    (run / "evaluation" / "slices" / "case0.png").unlink()
    assert volumen(["report", str(run)]) == 0
    said = capsys.readouterr().err.splitlines()
    page = (run / "report.html").read_text(encoding="utf-8")
    parts = ("events.jsonl: 1 line is damaged", "events.jsonl: 2 lines are missing", "total: Input should be a valid")
    for part in (*parts, "2 such lines", "case0 are missing"):
        assert sum(part in line for line in said) == 1
        assert part in page
    assert all(line.startswith("warning: ") for line in said)
    assert "at 9:" not in page  # epoch 8, counted from 1


def test_the_report_s_place_is_known_before_the_work(clean, tmp_path, monkeypatch):
    monkeypatch.setattr("volumen.reporting.report.read_run", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file" / "report.html", tmp_path / ("n" * 300)):
        with pytest.raises(UserError, match="--out"):
            write_report(clean, target)


def test_a_foreign_folder_is_not_written_to(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def term(name: str, *values: float) -> Range:
    return Range(name, *(values or (1.0, 0.0, 0.1, 0.7, 0.2, 0.9, 0.8, 0.7, 0.6)))


def autopsy_of(name: str, *values: float) -> str:
    labels = np.zeros((1, 6, 6, 6), np.uint8)
    labels[:, 3] = 1
    found = Autopsy((term(name, *values),), term("total", *values), Optimum(1.0, 0.1, 0.1, 1.0, labels), 1, (6, 6, 6))
    population = population_of(labels)
    point = OperatingPoint(population, population.probability, (name,))
    return autopsy_page(name, {name: found}, {name: point}, labels.astype(np.float32), labels)


@pytest.mark.parametrize("text", TEXTS)
def test_an_autopsy_s_names_are_texts(text):
    pure = elements(autopsy_of("plain")).found
    sane(autopsy_of(text), pure)


def test_an_autopsy_of_any_numbers_is_drawn_inside_of_its_bars():
    for values in ([float("nan")] * 9, [float("inf")] * 9, [-1e308] * 9, [1e308, -1e308, *[0.0] * 7]):
        page = autopsy_of("plain", *values)
        sane(page, elements(autopsy_of("plain")).found)
        assert all(0 <= float(x) <= 640 for x in re.findall(r'c?x="([\d.-]+)"', page))


def test_tables_on_a_terminal_say_text_as_it_is(tmp_path):
    found = evaluation(pipeline({"kind": "threshold"}), 2)
    first = replace(found.cases[0], id=DRIVING, scroll_id="[bold]s[/bold]")
    hostile = replace(found, cases=(first, replace(found.cases[1], scroll_id="[/]")), notes=(DRIVING,))
    with (tmp_path / "out.txt").open("w", encoding="utf-8") as stream:
        console = console_for(stream)
        console.width = 300
        print_evaluation(hostile, console)
    text = (tmp_path / "out.txt").read_text(encoding="utf-8")
    assert printable(text) == text
    for part in ("v[red]1[/] [/nothing] :smile:", "[bold]s[/bold]", r"\x1b[31m", r"\u202egnp"):
        assert part in text


def test_a_warning_while_training_says_text_as_it_is(capsys):
    SilentDisplay().event({"kind": "warning", "message": DRIVING})
    said = capsys.readouterr().err
    assert printable(said) == said
    assert "v[red]1[/] [/nothing] :smile:" in said


@given(st.text(st.characters(), max_size=40))
def test_what_is_printable_stays_and_what_is_said_by_number_is_ascii(text):
    said = printable(text)
    assert printable(said) == said
    said.encode("utf-8")
    if text.isprintable():
        assert said == text
