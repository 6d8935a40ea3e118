"""All folds of a small phantom: one killed, one with a corrupt volume, and the rest none the worse for it."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import volumen as package
from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.experiments.fold_cluster import parse_options, refuse_submitted, submit_folds
from volumen.experiments.fold_jobs import FoldJob, plan_folds
from volumen.experiments.fold_records import HELD_OUT, is_scored, read_attempts
from volumen.experiments.fold_records import WORK as FOLDS_WORK
from volumen.experiments.fold_scoring import score_held_out
from volumen.experiments.fold_summary import summarise_folds
from volumen.experiments.held_out import RECORD
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import WORK
from volumen.system.locks import is_held
from volumen.system.supervising import Step
from volumen.training.loop import run_training

pytestmark = pytest.mark.timeout(900)  # a busy machine takes several times as long

FOLDS = 5
CONFIG = """
base: preset:default
name: five
data: {{dataset: "{dataset}", patch: [16, 16, 16], sampling: {{patches_per_epoch: 4}}, workers: 0}}
model: {{kind: unet, filters: 2, depth: 2}}
training: {{epochs: 3, validate_every_epochs: 1, monitoring: null}}
postprocessing: {{steps: [{{kind: threshold}}]}}
experiment: {{criteria: [epoch_time < 100000 s]}}
device: cpu
"""


class StopAfterAnEpoch(SilentDisplay):
    def epoch_ended(self, state: Any, record: Any, validation: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared phantom, its configuration, and folds: 0 scored, 2 and 4 trained, 1 and 3 stopped after an epoch."""
    place = tmp_path_factory.mktemp("folds")
    write_phantom_dataset(place / "raw", volumes=FOLDS, shape=(32, 32, 32), scrolls=FOLDS, seed=1)
    assert volumen(["prepare", str(place / "raw"), "--out", str(place / "prepared")]) == 0
    assert volumen(["folds", str(place / "prepared")]) == 0
    (place / "config.yaml").write_text(CONFIG.format(dataset=place / "prepared"))
    out = place / "out"
    out.mkdir()
    plan = plan_folds(str(place / "config.yaml"), [], folder=out)
    plan.record.write(out)
    for fold in range(FOLDS - 1):
        config = load_config(place / "config.yaml", [f"data.fold={fold}"]).config
        run_training(config, out / f"fold{fold}", StopAfterAnEpoch() if fold % 2 else SilentDisplay())
    step = FoldJob(plan, 4).next()
    assert step is not None
    assert step.name == "train"
    assert volumen(step.words[1:]) == 0  # what a process of its own would do, with its audit
    score_held_out(out / "fold0", out)
    return place


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    source = str(Path(package.__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))


def damaged_copy(prepared: Path, copy: Path) -> str:
    """A copy of a data set in which one volume is not what `prepare` wrote; its id."""
    shutil.copytree(prepared, copy)
    case = PreparedDataset.open(copy).labelled[0].id
    packed = next(
        path for path in sorted(copy.rglob("*")) if path.is_file() and case in str(path) and "image" in str(path)
    )
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 255
    packed.write_bytes(content)
    return case


def kill_once_it_trains(out: Path, fold: str) -> Callable[[], None]:
    """A thread that kills a fold's process as soon as that holds its run folder."""

    def kill() -> None:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            attempts = read_attempts(out)[0].get(fold, [])
            if attempts and is_held(out / fold, WORK):
                os.kill(attempts[-1].pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread.join


def test_five_folds_by_two_with_a_kill_and_a_corrupt_volume(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, command = (
        place / "out",
        ["folds", "train", str(place / "config.yaml"), "--out", str(place / "out"), "--jobs", "2"],
    )
    case = damaged_copy(place / "prepared", place / "damaged")
    before = (out / "fold0" / "evaluation.json").stat().st_mtime_ns
    original = FoldJob.next

    def on_a_bad_disk(job: FoldJob) -> Step | None:
        step = original(job)
        if step is None or job.fold != 3:
            return step
        return replace(step, words=(*step.words, "-o", f"data.dataset={json.dumps(str(place / 'damaged'))}"))

    killed = kill_once_it_trains(out, "fold1")
    with monkeypatch.context() as patch:
        patch.setattr(FoldJob, "next", on_a_bad_disk)
        assert volumen([*command, "--json"]) == 1
    killed()
    found = json.loads(capsys.readouterr().out)
    states = {one["fold"]: (one["state"], one["restarts"]) for one in found["folds"]}
    assert states == {0: ("scored", 0), 1: ("scored", 1), 2: ("scored", 0), 3: ("failed", 0), 4: ("scored", 0)}
    stories = [one["story"] for one in found["folds"]]
    assert "killed by SIGKILL" in stories[1]
    assert case in stories[3]
    assert stories[0] == ""  # nothing was done
    assert (out / "fold0" / "evaluation.json").stat().st_mtime_ns == before
    assert found["headline"].startswith("4 of 5 folds scored")
    assert not found["complete"]
    scores = [one["means"]["leaderboard"] for one in found["folds"] if one["means"]]
    spread = found["over_folds"]["leaderboard"]
    assert spread["count"] == 4
    assert spread["mean"] == pytest.approx(np.mean(scores))
    assert spread["deviation"] == pytest.approx(np.std(scores, ddof=1))
    assert any("without 3" in note for note in found["notes"])
    assert len(found["scrolls"]) == 4

    attempts = {fold: len(tried) for fold, tried in read_attempts(out)[0].items()}
    assert attempts == {"fold1": 3, "fold2": 1, "fold3": 1, "fold4": 1}
    assert volumen(command) == 0  # the disk is mended: only this fold has something left
    again = {fold: len(tried) for fold, tried in read_attempts(out)[0].items()}
    assert again == attempts | {"fold3": 3}
    summary = summarise_folds(out)
    assert summary.is_complete
    assert summary.over_cases["leaderboard"].count == FOLDS
    assert all((out / HELD_OUT / f"fold{fold}" / RECORD).is_file() for fold in range(FOLDS))
    assert all(is_scored(out, out / f"fold{fold}") for fold in range(FOLDS))
    last = read_attempts(out)[0]
    assert volumen([*command, "--first-must-meet"]) == 0
    assert read_attempts(out)[0] == last  # nothing is missing, nothing is done


@pytest.mark.parametrize(
    ("override", "says"),
    [("training.epochs=4", "training.epochs 3 -> 4"), ("loss.terms.soft_dice.weight=2", "soft_dice")],
)
def test_folds_of_another_configuration_are_refused_with_what_differs(
    place: Path, capsys: pytest.CaptureFixture[str], override: str, says: str
) -> None:
    command = ["folds", "train", str(place / "config.yaml"), "--out", str(place / "out"), "-o", override]
    assert volumen(command) == 2
    assert says in capsys.readouterr().err


def test_later_folds_wait_for_a_first_that_meets_its_criteria(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(place / "out" / "fold0", out / "fold0")
    shutil.copytree(place / "out" / HELD_OUT / "fold0", out / HELD_OUT / "fold0")
    high = tmp_path / "high.yaml"
    high.write_text((place / "config.yaml").read_text().replace("epoch_time < 100000 s", "val.dice >= 0.99"))
    plan_folds(str(place / "config.yaml"), [], folds="0", folder=place / "out").record.write(out)
    kept = out / "fold0" / "config.yaml"
    assert "epoch_time < 100000 s" in kept.read_text()
    command = ["folds", "train", str(high), "--out", str(out), "--first-must-meet"]
    assert volumen(command) == 75
    found = summarise_folds(out)
    assert [one.state for one in found.folds] == ["scored", *["held back"] * 4]
    assert all("misses its criteria: val.dice >= 0.99" in one.story for one in found.folds[1:])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_job_that_makes_way_is_queued_again_and_ends_its_work(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    out = tmp_path / "out"
    shutil.copytree(place / "out" / "fold0", out / "fold0", ignore=shutil.ignore_patterns("evaluation*"))
    plan = plan_folds(str(place / "config.yaml"), [], folds="0", folder=place / "out")
    replace(plan.record, wanted=(0,)).write(out)
    command = ["folds", "train", str(place / "config.yaml"), "--out", str(out), "--folds", "0", "--cluster", "local"]
    assert volumen(command) == 75
    first = wait_for(lambda: read_attempts(out)[0]["fold0"][0].pid)
    assert volumen(command) == 75  # nothing is submitted twice
    os.kill(parent_of(first), signal.SIGUSR2)  # as a scheduler does before a job's time is over
    wait_for(lambda: is_scored(out, out / "fold0") and not is_held(out, f"{FOLDS_WORK}-fold0"))
    attempts = read_attempts(out)[0]["fold0"]
    assert [one.step for one in attempts] == ["score", "score"]
    assert volumen(command) == 0
    assert len(read_attempts(out)[0]["fold0"]) == 2


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 200
    while time.monotonic() < until:
        with contextlib.suppress(KeyError, IndexError):
            if value := found():
                return value
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$FAKE_SLURM/submitted.sh"
echo Submitted batch job 42
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
echo "42|$(cat "$FAKE_SLURM/state")|"
"""


def test_slurm_is_asked_for_what_was_asked_for_and_never_twice(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    for name, text in (("sbatch", SBATCH), ("sacct", SACCT), ("srun", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    options = parse_options(["partition=gpu", "reservation=mine", "--gpus-per-node=1"])

    def submit() -> list[str]:
        plan, said = plan_folds(str(place / "config.yaml"), [], folds="2", folder=tmp_path / "out"), list[str]()
        submit_folds(plan, "slurm", minutes=720, options=options, warn=said.append)
        return said

    assert submit()[0] == "fold2: submitted as job 42"
    asked = (tmp_path / "submitted.sh").read_text()
    for flag in ("partition=gpu", "reservation=mine", "gpus-per-node=1", "time=720", "signal=USR2@120"):
        assert f"#SBATCH --{flag}\n" in asked
    for state in ("PENDING", "RUNNING"):
        (tmp_path / "state").write_text(state)
        submitit.SlurmJob.watcher.clear()
        assert submit() == [f"fold2: job 42 is {state.lower()}"]
        with pytest.raises(UserError, match="fold2 is job 42"):
            refuse_submitted(plan_folds(str(place / "config.yaml"), [], folder=tmp_path / "out"))
    (tmp_path / "state").write_text("NODE_FAIL")
    submitit.SlurmJob.watcher.clear()
    assert submit()[0] == "fold2: submitted as job 42"


def test_options_that_do_not_go_together_are_refused(place: Path, tmp_path: Path) -> None:
    command = ["folds", "train", str(place / "config.yaml"), "--out", str(tmp_path / "out")]
    assert volumen([*command, "--cluster", "local", "--jobs", "2"]) == 2
    assert volumen([*command, "--slurm-option", "partition=gpu"]) == 2
    assert not (tmp_path / "out").exists()
