"""Folds side by side: which are meant, where they run, what happened to them, and means that say over how many."""

import contextlib
import math
import statistics
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.run_folders import log, new_run, status, status_record, validation_record

from volumen.config.load import load_config
from volumen.data.folds import Fold
from volumen.errors import UserError
from volumen.experiments.fold_cluster import parse_options
from volumen.experiments.fold_jobs import criteria_met, parse_folds, slots_of
from volumen.experiments.fold_records import (
    ATTEMPTS,
    FoldsRecord,
    fold_identity,
    note_attempt,
    read_attempts,
    refuse_others,
)
from volumen.experiments.fold_summary import Spread, story_of, summarise_folds
from volumen.reporting.fold_page import fold_page
from volumen.reporting.folds_display import FoldsDisplay
from volumen.system.attempts import Attempt
from volumen.system.processes import processors
from volumen.system.supervising import Situation

ids = st.text("abcxyz0123", min_size=1, max_size=4)


def pieces(chosen: list[int]) -> str:
    """Some numbers as a list with ranges, in the order given."""
    parts, at = [], 0
    while at < len(chosen):
        end = at
        while end + 1 < len(chosen) and chosen[end + 1] == chosen[end] + 1:
            end += 1
        parts.append(str(chosen[at]) if end == at else f"{chosen[at]}-{chosen[end]}")
        at = end + 1
    return ",".join(parts)


@given(st.data(), st.integers(1, 40))
def test_numbers_and_ranges_name_exactly_their_folds(data: st.DataObject, count: int) -> None:
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    expected = tuple(sorted(set(chosen)))
    assert parse_folds(",".join(map(str, chosen)), count) == expected
    assert parse_folds(pieces(chosen), count) == expected
    assert parse_folds("all", count) == tuple(range(count))
    with pytest.raises(UserError, match=f"fold {count} does not exist"):
        parse_folds(f"{pieces(chosen)},{count}", count)


@given(st.text(max_size=12))
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    chosen: tuple[int, ...] = ()
    with contextlib.suppress(UserError):
        chosen = parse_folds(text, 5)
    assert set(chosen) <= set(range(5))
    if not chosen:
        with pytest.raises(UserError, match="--folds"):
            parse_folds(text, 5)


CPU = load_config("preset:default", ["data.dataset=somewhere", "device=cpu"]).config
AUTO = CPU.model_copy(update={"device": "auto"})


@given(st.integers(1, 8), st.integers(0, 8), st.none() | st.integers(1, 10))
def test_a_gpu_is_one_slots_or_the_command_is_refused(visible: int, named: int, jobs: int | None) -> None:
    gpus = [str(number) for number in range(named)]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if named and (named > visible or (jobs or 1) > named):
            with pytest.raises(UserError):
                slots_of(AUTO, jobs, gpus, visible)
            return
        slots, _ = slots_of(AUTO, jobs, gpus, visible)
        assert len(slots) == (jobs or named or 1)
        if named:
            devices = [(one.environment or {})["CUDA_VISIBLE_DEVICES"] for one in slots]
            assert devices == gpus[: len(slots)]
            with pytest.raises(UserError, match="the configuration's device is cpu"):
                slots_of(CPU, jobs, gpus, visible)


def test_gpus_are_numbers_among_those_that_the_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-0a1b")
    slots, _ = slots_of(AUTO, None, ["1", "0"], 2)
    assert [(one.environment or {})["CUDA_VISIBLE_DEVICES"] for one in slots] == ["GPU-0a1b", "5"]
    with pytest.raises(UserError, match="there are 2"):
        slots_of(AUTO, None, ["2"], 2)
    with pytest.raises(UserError, match="sees no CUDA device"):
        slots_of(AUTO, None, ["0"], 0)


@given(st.integers(1, 200), st.none() | st.integers(1, 64))
def test_threads_are_shared_and_never_more_than_asked_for(jobs: int, asked: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        if asked is not None:
            patch.setenv("OMP_NUM_THREADS", str(asked))
        slots, said = slots_of(CPU, jobs, [], 0)
    threads = {int(value) for one in slots for value in (one.environment or {}).values()}
    (each,) = threads
    assert len(slots) == jobs
    assert each == 1 or each * jobs <= processors()
    assert each <= (asked or each)
    assert f"{each} thread" in said


@given(st.lists(st.floats(-1, 1) | st.just(math.nan), max_size=8))
def test_means_are_of_what_has_a_value(values: list[float]) -> None:
    known = [value for value in values if not math.isnan(value)]
    spread = Spread.of(values)
    assert spread.count == len(known)
    assert math.isnan(spread.mean) == (not known)
    assert math.isnan(spread.deviation) == (len(known) < 2)
    if len(known) > 1:
        assert spread.mean == pytest.approx(statistics.mean(known), abs=1e-12)
        assert spread.deviation == pytest.approx(statistics.stdev(known), abs=1e-12)


@given(st.lists(ids, min_size=2, max_size=6, unique=True), st.randoms())
def test_a_fold_is_its_cases_in_any_order_and_no_others(cases: list[str], random: Random) -> None:
    fold = Fold(tuple(cases[1:]), (cases[0],))
    mixed = random.sample(cases[1:], len(cases) - 1)
    assert fold_identity(fold) == fold_identity(Fold(tuple(mixed), (cases[0],)))
    assert fold_identity(fold) != fold_identity(Fold((cases[0], *cases[2:]), (cases[1],)))
    assert fold_identity(fold) != fold_identity(Fold((*cases[1:], "new"), (cases[0],)))


def record_of(name: str = "five", dataset: str = "d" * 40) -> FoldsRecord:
    folds = [Fold(("b", "c"), ("a",)), Fold(("a", "c"), ("b",)), Fold(("a", "b"), ("c",))]
    config = CPU.model_copy(update={"name": name})
    return FoldsRecord.of(config, "config.yaml", dataset, folds)


def test_folds_of_other_data_or_another_division_are_refused(tmp_path: Path) -> None:
    before = record_of()
    before.write(tmp_path)
    assert FoldsRecord.read(tmp_path) == before
    refuse_others(tmp_path, before, before, {})
    with pytest.raises(UserError, match="another data set"):
        refuse_others(tmp_path, before, record_of(dataset="e" * 40), {})
    with pytest.raises(UserError, match="held out in fold 1"):
        refuse_others(tmp_path, before, replace(before, folds=(before.folds[0], "0" * 32, before.folds[2])), {})
    with pytest.raises(UserError, match="more or fewer"):
        refuse_others(tmp_path, before, replace(before, folds=before.folds[:2]), {})
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thing").touch()
    with pytest.raises(UserError, match="thing"):
        refuse_others(tmp_path / "strange", None, before, {})


codes = st.sampled_from([0, 1, 2, 75, -9, -11, 139, None])


@given(st.lists(codes, max_size=6), st.booleans())
def test_the_log_of_processes_gives_back_what_happened(
    tmp_path_factory: pytest.TempPathFactory, endings: list[int | None], is_given_up: bool
) -> None:
    folder, expected = tmp_path_factory.mktemp("folder"), []
    for number, code in enumerate(endings):
        begun = Attempt("fold1", "train", 100.0 + number, "CPU", 7)
        note_attempt(folder, "fold1", "began", begun)
        if code is not None:
            begun = replace(begun, code=code, seconds=3.0, said="so")
            note_attempt(folder, "fold1", "ended", begun)
        expected.append(begun)
    if is_given_up:
        note_attempt(folder, "fold1", "given_up", why="enough")
    found, given_up, faults = read_attempts(folder)
    assert found.get("fold1", []) == expected
    assert given_up == ({"fold1": "enough"} if is_given_up else {})
    assert faults == ()
    story = story_of(expected, given_up.get("fold1", ""))
    assert story.count("train") == len(expected)
    assert ("enough" in story) == is_given_up


def test_a_line_of_the_log_that_was_changed_is_said_and_not_believed(tmp_path: Path) -> None:
    record_of().with_wanted([0, 1]).write(tmp_path)
    for fold in ("fold0", "fold1"):
        note_attempt(tmp_path, fold, "ended", Attempt(fold, "train", 1.0, code=-9, seconds=2.0))
    path = tmp_path / ATTEMPTS
    path.write_text(path.read_text().replace('"fold":"fold1"', '"fold":"fold0"'))
    summary = summarise_folds(tmp_path)
    assert [one.state for one in summary.folds] == ["failed", "not begun"]
    assert any("damaged" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("criterion", "met"),
    [
        ("val.dice >= 0.15 at epoch 3", True),
        ("val.dice >= 0.25 at epoch 3", False),
        ("val.dice <= 0.25 at epoch 3", True),
        ("score > 0.1", False),
    ],
)
def test_criteria_are_held_against_what_the_run_recorded(tmp_path: Path, criterion: str, met: bool) -> None:
    run = new_run(tmp_path / "run", f"experiment.criteria=['{criterion}']")
    for epoch in range(4):
        log(run, "metrics.jsonl", validation_record(epoch))
    status(run, status_record(best={"metric": "dice", "value": 0.2, "epoch": 2}))
    found, said = criteria_met(run)
    assert (found, criterion in said) == (met, True)
    with pytest.raises(UserError, match=r"experiment\.criteria"):
        criteria_met(run, CPU)


def test_the_page_takes_names_and_reasons_for_text(tmp_path: Path) -> None:
    record_of("<b>bold</b>").with_wanted([0]).write(tmp_path)
    note_attempt(tmp_path, "fold0", "given_up", why="<script>alert(1)</script>")
    page = fold_page(summarise_folds(tmp_path))
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_display_shows_what_the_run_has_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path / "fold1")
    for epoch in range(2):
        log(run, "metrics.jsonl", validation_record(epoch) | {"kind": "train"})
        log(run, "metrics.jsonl", validation_record(epoch))
    status(run, status_record(state="running", epoch=2, planned_epochs=9, seconds_left=70.0))
    with FoldsDisplay(tmp_path, [0, 1]) as display:
        display.began(Attempt("fold1", "train", 1.0, "GPU 3"))
        display.looked({"fold1": Situation("running", "train", "GPU 3", 1)})
        assert display.cells("fold1")[:5] == ("fold1", "train", "running (1)", "2/9", "surface Dice 0.5000")
        assert display.cells("fold1")[7:] == ("1 min 10 s", "GPU 3")
        assert display.cells("fold0")[:3] == ("fold0", "", "waits")
        assert display.table().row_count == 2
    assert "fold1: train begins on GPU 3" in capsys.readouterr().out
    with FoldsDisplay(tmp_path, [1], quiet=True) as silent:
        silent.began(Attempt("fold1", "train", 1.0, "GPU 3"))
        silent.note("nothing")
    assert capsys.readouterr().out == ""


def test_options_of_sbatch_are_keys_and_values() -> None:
    given_ = ["partition=gpu", "--gpus-per-node=2", "constraint=a=b"]
    assert parse_options(given_) == {"partition": "gpu", "gpus_per_node": 2, "constraint": "a=b"}
    for wrong in ("partition", "=gpu", "time=3", "two words=1"):
        with pytest.raises(UserError, match="--slurm-option"):
            parse_options([wrong])
