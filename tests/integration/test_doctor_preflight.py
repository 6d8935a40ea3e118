"""A new run is audited first: what stops it is refused, what is accepted is recorded, and losses can be read as r."""

from dataclasses import replace
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.doctor import preflight
from volumen.doctor.audit import AuditReport, open_context
from volumen.doctor.context import Budget
from volumen.doctor.cost.budget import check_budget, within_budget
from volumen.doctor.findings import Severity
from volumen.doctor.preflight import RefusedRunError, audit_first
from volumen.doctor.settings.check import check_settings
from volumen.doctor.settings.laws import never_acting
from volumen.errors import UserError
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runs.folder import run_owner
from volumen.runs.records import read_run_logs
from volumen.runs.scales import ProgressScales, Scale
from volumen.system.stopping import OutOfTime

SMALL = [
    "data.patch=[32, 32, 32]", "data.sampling.patches_per_epoch=4", "model.filters=4", "model.depth=2",
    "training.epochs=2", "data.workers=0", "training.validate_every_epochs=1",
]  # fmt: skip
FAULT = ["loss.class_weights.enabled=true", "loss.class_weights.surface=5", "experiment.intent=less_surface"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(48, 48, 48), scrolls=2, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared")]) == 0
    return folder / "prepared"


def train(prepared: Path, out: Path, *overrides: str, arguments: tuple[str, ...] = ()) -> int:
    given = [text for one in (f"data.dataset={prepared}", *SMALL, *overrides) for text in ("-o", one)]
    return volumen(["train", "preset:default", "--out", str(out), *given, *arguments])


def test_a_healthy_run_starts_and_its_losses_have_a_scale(prepared, tmp_path) -> None:
    out = tmp_path / "run"
    assert train(prepared, out) == 0
    assert (out / "findings.jsonl").read_text() == ""
    assert [one["kind"] for one in read_run_logs(out).events[:2]] == ["parent", "audit"]
    scales = ProgressScales.load(out, run_owner(out)).scales["start"]
    for record in (one for one in read_run_logs(out).metrics if one["kind"] not in ("steps", "probe")):
        scale = scales["train" if record["kind"] == "train" else "validation"]["total"]
        assert record["progress"]["total"] == pytest.approx(scale.progress(record["total"]))
        assert set(record["progress"]) == {"total", *record["terms"]}
        assert 0.3 < record["progress"]["total"] < 3  # after two steps a network is about a constant
    assert volumen(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "Progress r" in page
    assert "Nothing was found." in page


def test_what_stops_a_run_is_refused_before_its_folder_is_made(prepared, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert train(prepared, out, *FAULT) == 2
    assert not out.exists()
    message = capsys.readouterr().err
    assert "the audit refuses this run" in message
    assert "start it all the same with --accept P3" in message


def test_an_accepted_code_starts_the_run_and_is_recorded(prepared, tmp_path, capsys) -> None:
    out = tmp_path / "run"
    assert train(prepared, out, *FAULT, arguments=("--accept", "P3")) == 0
    (first, *_) = read_run_logs(out).findings or ()
    assert (first["code"], first["severity"], first["accepted"]) == ("P3", "stop", True)
    (event,) = [one for one in read_run_logs(out).events if one["kind"] == "audit"]
    assert event["accepted"] == ["P3"]
    assert volumen(["report", str(out)]) == 0
    assert "stop, accepted" in (out / "report.html").read_text()
    capsys.readouterr()
    assert train(prepared, tmp_path / "other", *FAULT, arguments=("--accept", "P5")) == 2
    assert train(prepared, tmp_path / "other", arguments=("--accept", "X9")) == 2
    assert "there is no check X9" in capsys.readouterr().err


def test_a_place_that_is_taken_is_said_before_anything_is_audited(prepared, tmp_path, capsys) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").write_text("")
    assert train(prepared, tmp_path / "run", *FAULT) == 2
    assert "exists already" in capsys.readouterr().err


def test_scales_survive_their_file(tmp_path) -> None:
    scales = ProgressScales({"start": {"train": {"total": Scale(0.2, 0.7)}}})
    scales.save(tmp_path, "run")
    assert ProgressScales.load(tmp_path, "run") == scales
    assert scales.read("start", "train", 0.45, {"soft_dice": 0.3}) == {"total": pytest.approx(0.5)}
    assert scales.read("later", "train", 0.45, {}) == {}
    assert ProgressScales.load(tmp_path / "nowhere", "run") == ProgressScales({})
    text = (tmp_path / "progress_scale.json").read_text()
    (tmp_path / "progress_scale.json").write_text(text.replace("0.2", "0.3"))
    with pytest.raises(UserError, match=r"progress_scale\.json is damaged"):
        ProgressScales.load(tmp_path, "run")


def test_the_audit_knows_the_time_budget_and_keeps_to_a_share_of_it(prepared) -> None:
    """What has no room for a model is refused beforehand, whatever checks there was time for."""
    loaded = load_config("preset:default", [f"data.dataset={prepared}", *SMALL])
    told: list[AuditReport] = []
    with pytest.raises(RefusedRunError, match=r"P11 a time budget of 0 s has room for 0 steps"):
        audit_first(loaded, [], budget_seconds=0.01, report=told.append)
    assert any("the audit had no time for" in finding.title for finding in told[0].findings)
    assert told[0].seconds == {}


def test_what_a_time_budget_cuts_off_is_seen_by_every_check(prepared) -> None:
    late = [*SMALL, "training.epochs=100000", "training.swa={start_epoch: 99000}", "schedule.warmup_epochs=90000"]
    whole = open_context(load_config("preset:default", [f"data.dataset={prepared}", *late]))
    assert list(never_acting(whole.config)) == []
    cut = within_budget(whole, 60.0)
    assert cut.budget is not None
    assert 30 <= cut.budget.steps < 100_000
    assert cut.config.training.epochs == -(-cut.budget.steps // 2)
    assert {dead.key for dead in never_acting(cut.config)} == {"training.swa.start_epoch", "schedule.warmup_epochs"}
    assert list(check_budget(cut)) == []
    assert within_budget(whole, 1e9).config.training.epochs == 100_000


def test_a_budget_of_one_epoch_calls_no_setting_dead_but_what_it_leaves_out(prepared) -> None:
    written = [*SMALL, "training.epochs=100", "training.validate_every_epochs=3", "training.swa={start_epoch: 50}"]
    whole = open_context(load_config("preset:default", [f"data.dataset={prepared}", *written]))
    short = whole.config.model_copy(update={"training": whole.config.training.model_copy(update={"epochs": 1})})
    cut = replace(whole, config=short, budget=Budget(60.0, 1.0, 1.0, 40, whole.config))
    found = {finding.title.split()[0] for finding in check_settings(cut) if finding.severity is not Severity.note}
    assert found == {"training.swa.start_epoch"}


def test_a_budget_is_not_blamed_for_a_run_that_was_written_short(prepared) -> None:
    whole = open_context(load_config("preset:default", [f"data.dataset={prepared}", *SMALL]))  # 4 steps
    assert list(check_budget(replace(whole, budget=Budget(400.0, 0.1, 0.1, 4, whole.config)))) == []
    assert [one.code for one in check_budget(replace(whole, budget=Budget(0.2, 0.1, 0.1, 1, whole.config)))] == ["P11"]


def test_a_scale_that_compiling_had_no_time_for_is_measured_after_the_audit(prepared, monkeypatch) -> None:
    calls = []

    def slow_at_first(context):
        calls.append(context)
        if len(calls) == 1:
            raise OutOfTime
        return ProgressScales({"start": {}})

    monkeypatch.setattr(preflight, "measure_scales", slow_at_first)
    loaded = load_config("preset:default", [f"data.dataset={prepared}", *SMALL])
    assert audit_first(loaded, [], budget_seconds=400.0).scales == ProgressScales({"start": {}})
    assert len(calls) == 2
