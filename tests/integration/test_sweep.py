"""`volumen sweep` on a phantom: stopped, killed and started again, it is what it would have been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.experiments.sweep_training import value_at
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.records import read_metrics
from volumen.system.records import read_record
from volumen.training.loop import run_training

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals are sent, processes looked up")
COMMAND = "import sys; from volumen.cli.main import run; sys.exit(run(sys.argv[1:]))"
SPACE = """
optimiser.learning_rate: {from: 2e-2, to: 2e-1, log: true}
loss.terms:
  choices:
    dice: {soft_dice: {weight: 1}, cross_entropy: {weight: 0}}
    both: {soft_dice: {weight: 1}, cross_entropy: {weight: 1}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(32, 32, 32), scrolls=1, seed=3)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    (folder / "space.yaml").write_text(SPACE)
    (folder / "tiny.yaml").write_text(
        f"base: preset:default\nname: tiny\nprecision: fp32\nmodel: {{filters: 4, depth: 1}}\ndata: {{dataset: "
        f"{folder / 'prepared'}, patch: [16, 16, 16], batch: 1, workers: 0, sampling: {{patches_per_epoch: 10}}}}\n"
    )
    return folder


def arguments(place, out, *more):
    options = ["--trials", "4", "--epochs", "3", "--out", str(out)]
    return ["sweep", str(place / "tiny.yaml"), str(place / "space.yaml"), *options, *more]


def start(command):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_for(reached, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := reached()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def workers_of(process):
    """Processes below another one that are spawned workers."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def found(out):
    """What came of a sweep, times apart."""
    record = read_record(out / "sweep.json", dict, "")
    for one in record["entries"]:
        one.pop("seconds")
    return record


def losses(run):
    """Of every validation."""
    return [one["total"] for one in read_metrics(run) if one["kind"] == "validation"]


@pytest.mark.timeout(900)  # on a machine with other work
def test_stopped_and_killed_it_finds_the_same_and_its_trials_are_ordinary_runs(place, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of processes to come: last bits depend on it
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    first = start(arguments(place, torn))
    wait_for(lambda: any(torn.glob("trials/0000/checkpoints/*.pt")), first)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 75, said
    assert "the same command goes on" in said
    second = start(arguments(place, torn))
    wait_for(lambda: any(torn.glob("trials/0001/checkpoints/*.pt")), second)
    for worker in workers_of(second):
        os.kill(worker, signal.SIGKILL)
    out, said = second.communicate(timeout=600)
    assert second.returncode == 0, said
    assert "another one takes its place" in said
    assert "report.html" in out

    assert volumen(arguments(place, whole)) == 0
    assert found(whole) == found(torn)
    for one in range(4):
        assert losses(whole / f"trials/{one:04d}") == losses(torn / f"trials/{one:04d}")
    record = found(whole)
    assert record["is_over"]
    ends = [len(one["values"]) for one in record["entries"]]
    assert ends.count(2) == 2  # trial 0, and the best third of the others
    for one in record["entries"]:
        assert (torn / f"trials/{one['number']:04d}/checkpoints").exists() == (len(one["values"]) == 2)

    best = max(record["entries"][1:], key=lambda one: len(one["values"]))
    config = load_config(torn / f"trials/{best['number']:04d}/config.yaml").config
    run_training(config, tmp_path / "straight", SilentDisplay())  # without rungs, the same run to the bit
    assert value_at(tmp_path / "straight", "dice", 3) == best["values"][-1]
    if best["values"][-1] > record["entries"][0]["values"][-1]:
        changed = load_config(torn / "best.yaml").config
        assert changed.optimiser.learning_rate == best["parameters"]["optimiser.learning_rate"]
    assert "polyline" in (torn / "report.html").read_text()


def test_what_cannot_be_done_is_told_before_anything_runs(place, tmp_path, capsys):
    out = tmp_path / "out"
    for more, said in (
        (("--metric", "validation_loss"), "no measure for a sweep"),
        (("--sampler", "grid"), "needs a `step`"),
        (("--trials", "1"), "from 2"),
        (("--confirm", "9"), "--confirm must be"),
        (("--first-rung", "7"), "first rung"),
        (("--steps", "7"), "not by both"),
        (("--fold", "9"), "fold 9"),
    ):
        assert volumen(arguments(place, out, *more)) == 2
        assert said in capsys.readouterr().err
    assert not out.exists()
