"""`volumen ablate` on a phantom: what was killed in the middle and started again finds what it would have found."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.errors import UserError
from volumen.experiments import ablation_runs
from volumen.experiments.ablation import plan_ablation
from volumen.experiments.ablation_plan import AblationPlan
from volumen.experiments.ablation_report import compare
from volumen.experiments.ablation_runs import run_job
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.records import read_run_logs
from volumen.system.locks import hold
from volumen.system.records import read_record
from volumen.training.loop import run_training
from volumen.training.step import NonFiniteError

REMEDIES = """
calm:
  why: smaller steps
  optimiser.learning_rate: 1e-4
never:
  training.weight_noise: {start_epoch: 1000}
"""
COMMAND = "import sys; from volumen.cli.main import run; sys.exit(run(sys.argv[1:]))"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")


@pytest.fixture(autouse=True)
def same_threads():
    """What runs in this process may set their number."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(32, 32, 32), scrolls=1, seed=3)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    (folder / "remedies.yaml").write_text(REMEDIES)
    return folder


def arguments(place: Path, out: Path, *more: str, steps: int = 8) -> list[str]:
    settings = {
        "data.dataset": place / "prepared", "data.patch": "[16, 16, 16]", "model.filters": 4, "model.depth": 2,
        "precision": "fp32",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    tried = ["--try", str(place / "remedies.yaml"), "--steps", str(steps), "--seeds", "2"]
    return ["ablate", "preset:default", *tried, "--out", str(out), *options, *more]


def table(out: Path) -> dict[str, object]:
    """What was found, times apart."""
    found: dict[str, object] = read_record(out / "ablation.json", dict, "")
    found.pop("check", None)
    for row in found["rows"]:
        row.pop("seconds")
    return found


def start(command: list[str]) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip


def wait_for(reached, process, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.timeout(900)  # on a machine with other work
def test_killed_in_the_middle_and_started_again_it_finds_the_same(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of processes to come: last bits depend on it
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    results = killed / "results.jsonl"
    first = start(arguments(place, killed))
    wait_for(results.exists, first)  # one run is done
    wait_for(lambda: any((killed / "runs").glob("c*-seed*/checkpoints/*.pt")), first)  # and another one half done
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = results.read_bytes()
    assert volumen(arguments(place, killed)) == 0
    said, aside = capsys.readouterr()
    assert results.read_bytes().startswith(before), "what was done is kept"
    assert "forecast" in aside
    assert "calm" in said
    assert volumen(arguments(place, whole, "--json")) == 0
    printed = capsys.readouterr().out
    assert table(killed) == table(whole)
    report = json.loads(printed)
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {"control", "calm", "never"}
    assert rows["never"]["verdict"] == "the same run"  # to the bit: first weights, patches and schedule are matched
    assert rows["never"]["differences"]["dice"]["mean"] == 0
    assert rows["calm"]["differences"]["loss"]["mean"] != 0
    assert rows["calm"]["differences"]["loss"]["pairs"] == 2
    assert report["recommended"] == ""
    assert "forecast" in aside
    assert "calm" in said
    assert "smaller steps" in (whole / "ablation.html").read_text()
    assert not list((whole / "runs").glob("*/checkpoints/*.pt")), "checkpoints of scored runs go"
    assert (whole / "remedies.yaml").read_text().count("learning_rate: 0.0001") == 1
    with hold(whole, "ablate"):
        assert volumen(arguments(place, whole)) == 2
    assert volumen(arguments(place, whole)) == 0, "all is done: nothing is trained again"
    assert table(whole) == table(killed)


def planned(place: Path, changes: str, **options) -> AblationPlan:
    file = place / "some.yaml"
    file.write_text(changes)
    config = load_config("preset:default", [
        f"data.dataset={place / 'prepared'}", "data.patch=[16, 16, 16]", "model.filters=4", "model.depth=2",
        "precision=fp32", "data.workers=0", "data.sampling.patches_per_epoch=4", "training.epochs=1",
    ]).config  # fmt: skip
    return plan_ablation(config, remedies=file, **{"steps": 2, "seeds": 2, **options})


def test_from_a_run_everything_begins_with_its_weights(place, tmp_path):
    fresh = planned(place, "wide: {model.filters: 8}\n")
    assert not fresh.candidates[1].left_out
    run_training(fresh.control, tmp_path / "run", SilentDisplay())
    changes = "wide: {model.filters: 8}\ncalm: {optimiser.learning_rate: 1e-4}\n"
    plan = planned(place, changes, source=tmp_path / "run", seeds=1)
    assert "without --from" in plan.candidates[1].left_out
    jobs = plan.jobs(tmp_path / "out")
    assert {job.candidate for job in jobs} == {"control", "calm"}
    ended = [run_job(job, plan.run_config(plan.candidates[0], 0), 1) for job in jobs]
    events = [read_run_logs(job.folder).events for job in jobs]
    begun = {event["sha256"] for found in events for event in found if event["kind"] == "initial_weights"}
    assert begun == {plan.origin["initial"]}
    assert [one.problem or one.result.failed for one in ended] == ["", ""]
    assert [event["step"] for found in events for event in found if event["kind"] == "finished"] == [2, 2]
    results = {job.key: one.result for job, one in zip(jobs, ended, strict=True)}
    report = compare(plan, jobs, results, {})
    assert {row.name: row.differences["loss"].pairs for row in report.rows if row.differences} == {"calm": 1}
    other = planned(place, "calm: {optimiser.learning_rate: 1e-4}\n")
    assert not {job.key for job in other.jobs(tmp_path)} & set(results)


@pytest.mark.parametrize(
    ("error", "failed", "problem"),
    [
        (NonFiniteError("the gradient is nan"), "diverged: the gradient is nan", ""),
        (UserError("a file is damaged: restore it"), None, "a file is damaged: restore it"),
        (MemoryError("no room"), None, "not enough memory: no room"),
    ],
)
def test_a_run_that_fails_says_why(place, tmp_path, monkeypatch, error, failed, problem):
    def fail(*given, **options):
        raise error

    monkeypatch.setattr(ablation_runs, "run_training", fail)
    plan = planned(place, "calm: {optimiser.learning_rate: 1e-4}\n")
    ended = run_job(plan.jobs(tmp_path)[0], plan.control, 1)
    assert (ended.result and ended.result.failed) == failed
    assert ended.problem.startswith(problem)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--plan"], "one of the two"),
        (["--steps", "0"], "--steps must be"),
        (["--seeds", "0"], "--seeds must be"),
        (["--fold", "7"], "fold 7 does not exist"),
        (["--from", "nowhere"], "there is no"),
        (["-o", "model.in_channels=x"], "in_channels"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(place, tmp_path, capsys, more, says):
    assert volumen(arguments(place, tmp_path / "out", *more)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
