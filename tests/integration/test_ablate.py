"""`volumen ablate` on a phantom: what was killed in the middle and started again finds what it would have found."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.system.locks import hold
from volumen.system.records import read_record

REMEDIES = """
calm:
  why: smaller steps
  optimiser.learning_rate: 1e-4
never:
  training.weight_noise: {start_epoch: 1000}
"""
COMMAND = "import sys; from volumen.cli.main import run; sys.exit(run(sys.argv[1:]))"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent")


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


def test_killed_in_the_middle_and_started_again_it_finds_the_same(place, tmp_path, capsys):
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
