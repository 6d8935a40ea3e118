"""A training on the machine's bad days: nothing changed in silence, nothing lost, nobody left behind."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.errors import UserError
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_run_logs, read_status
from volumen.runs.run import Run
from volumen.training.listener import Outcome
from volumen.training.loop import run_training

MARK = "VOLUMEN_TEST_MARK"
SMALL = [
    "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=6", "data.workers=0", "model.filters=2",
    "model.depth=2", "training.epochs=3", "training.validate_every_epochs=1",
    "postprocessing.steps=[{kind: threshold}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(32, 32, 40), scrolls=2, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2", "--by", "volume"]) == 0
    return folder


@pytest.fixture
def prepared(phantom: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantom / "prepared", tmp_path / "prepared")
    return tmp_path / "prepared"


def configuration(prepared: Path, *overrides: str) -> Config:
    return load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]).config


def train(prepared: Path, out: Path, *overrides: str) -> Outcome:
    return run_training(configuration(prepared, *overrides), out, SilentDisplay())


@pytest.fixture(scope="module")
def undisturbed(phantom: Path) -> Path:
    assert train(phantom / "prepared", phantom / "run").state == "finished"
    return phantom / "run"


class StopAfterAnEpoch(SilentDisplay):
    def epoch_ended(self, state: Any, record: Any, validation: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def first_epoch(phantom: Path) -> Path:
    """A long run that was stopped after its first epoch."""
    config = configuration(phantom / "prepared", "training.epochs=400")
    assert run_training(config, phantom / "long", StopAfterAnEpoch()).state == "stopped"
    return phantom / "long"


@pytest.fixture
def begun(first_epoch: Path, prepared: Path, tmp_path: Path) -> Path:
    """A copy of it; a command that goes on with it trains at once, without another audit."""
    shutil.copytree(first_epoch, tmp_path / "run")
    return tmp_path / "run"


def going_on(run: Path, *overrides: str) -> list[str]:
    given = [text for one in (f"data.dataset={run.parent / 'prepared'}", *overrides) for text in ("-o", one)]
    return ["train", str(run), "--resume", "--quiet", *given]


def state_of(run: Path) -> dict[str, Any]:
    return open_run(run).checkpoints.load_latest(lambda text: pytest.fail(text))


def assert_same_weights(left: Path, right: Path) -> None:
    ours, theirs = state_of(left), state_of(right)
    assert ours["cursor"] == theirs["cursor"]
    for name, tensor in ours["model"].items():
        assert torch.equal(tensor, theirs["model"][name]), name
    for name, tensor in ours["average"]["weights"].items():
        assert torch.equal(tensor, theirs["average"]["weights"][name]), name
    assert ours["watch"] == theirs["watch"]


class Command:
    """The real command in a process of its own, whose descendants can be found."""

    def __init__(self, given: list[str]) -> None:
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        code = "import sys; from volumen.cli.main import main; sys.argv[0] = 'volumen'; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *given],
            env={**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)

    def end(self, number: int, seconds: float = 60) -> tuple[int, str]:
        os.kill(self.process.pid, number)
        _, error = self.process.communicate(timeout=seconds)
        return self.process.returncode, error

    def alive(self) -> list[int]:
        """Processes that this one has started and that are still there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in environment.split(b"\0") and state != "Z":
                found.append(int(folder.name))
        return found


@pytest.fixture
def start() -> Iterator[Callable[[list[str]], Command]]:
    begun: list[Command] = []

    def begin(given: list[str]) -> Command:
        begun.append(Command(given))
        return begun[-1]

    yield begin
    for command in begun:
        for pid in command.alive():
            os.kill(pid, signal.SIGKILL)
        command.process.communicate()


def steps_done(run: Path) -> int:
    try:
        return len(read_run_logs(run).metrics)
    except Exception:  # nothing there yet
        return 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_signal_saves_and_can_be_gone_on_with(begun, start, number) -> None:
    command = start(going_on(begun))
    command.wait_for(lambda: steps_done(begun) > 4)
    code, error = command.end(number)
    assert (code, error) == (75, "")
    status = read_status(begun)
    assert status is not None
    assert status["state"] == "stopped"
    assert read_run_logs(begun).events[-1]["signal"] == signal.Signals(number).name
    assert command.alive() == []
    assert [path.name for path in begun.glob(".*")] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_training_leaves_no_worker_and_no_lock(begun, start, workers) -> None:
    command = start(going_on(begun, f"data.workers={workers}"))
    command.wait_for(lambda: steps_done(begun) > 4)
    assert len(command.alive()) > workers
    command.end(signal.SIGKILL)
    end = time.monotonic() + 10
    while command.alive() and time.monotonic() < end:
        time.sleep(0.1)
    assert command.alive() == []
    again = start(going_on(begun))
    lines = steps_done(begun)
    again.wait_for(lambda: steps_done(begun) > lines + 2)
    assert again.end(signal.SIGTERM)[0] == 75


def test_the_second_in_a_folder_is_told_who_holds_it(begun, start, capsys) -> None:
    command = start(going_on(begun))
    command.wait_for(lambda: steps_done(begun) > 4)
    assert volumen(going_on(begun)) == 2
    message = capsys.readouterr().err
    assert f"is in use by `volumen train` (process {command.process.pid}, since " in message
    assert command.end(signal.SIGTERM)[0] == 75


def test_a_stop_in_the_middle_of_a_validation_ends_as_if_it_had_not_been(prepared, tmp_path, undisturbed) -> None:
    class StopWhileValidating(SilentDisplay):
        def __init__(self, at: int) -> None:
            self.left = at

        def validating(self, state: Any, done: int, of: int) -> None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    config, run = configuration(prepared), tmp_path / "run"
    outcome = run_training(config, run, StopWhileValidating(1))
    stops = 1
    while outcome.state == "stopped":  # in each epoch at the first volume, at the second, and behind them
        listener = (StopWhileValidating(1), StopWhileValidating(2), StopAfterAnEpoch())[stops % 3]
        outcome = run_training(config, run, listener, resume=True)
        stops += 1
    assert stops == 9
    assert outcome.state == "finished"
    assert_same_weights(run, undisturbed)
    ours, theirs = read_run_logs(run), read_run_logs(undisturbed)
    assert [record["metrics"] for record in ours.metrics if record["kind"] == "validation"] == [
        record["metrics"] for record in theirs.metrics if record["kind"] == "validation"
    ]
    assert ours.faults == ()


DAMAGES = {
    "flipped": lambda content: content[:-7] + bytes([content[-7] ^ 4]) + content[-6:],
    "truncated": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", ["images", "labels", "surface"])
def test_damaged_data_end_a_run_before_a_checkpoint_is_trusted(prepared, tmp_path, capsys, part, damage) -> None:
    case = PreparedDataset.open(prepared).labelled[0].id
    path = prepared / part / f"{case}.npy"
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content))
    with pytest.raises(UserError, match=f"{part}/{case}.npy"):
        train(prepared, tmp_path / "run")
    assert not list((tmp_path / "run").glob("checkpoints/*.pt"))
    path.write_bytes(content)
    assert train(prepared, tmp_path / "run").state == "finished"  # what never came to a checkpoint is in nobody's way


def test_a_file_that_is_damaged_under_a_running_training_ends_it(begun, prepared, start) -> None:
    command = start(going_on(begun))
    command.wait_for(lambda: steps_done(begun) > 4)
    case = PreparedDataset.open(prepared).labelled[0].id
    os.truncate(prepared / "images" / f"{case}.npy", 5000)
    _, error = command.process.communicate(timeout=60)
    assert command.process.returncode == 2
    assert f"images/{case}.npy" in error
    assert error.count("\n") == 1
    status = read_status(begun)
    assert status is not None
    assert status["state"] == "failed"
    assert f"images/{case}.npy" in status["reason"]


@pytest.mark.parametrize("gone", ["data set", "run folder"])
def test_a_folder_that_is_removed_under_a_training_is_said_in_a_line(begun, prepared, start, gone) -> None:
    command = start(going_on(begun))
    command.wait_for(lambda: steps_done(begun) > 4)
    shutil.rmtree(prepared if gone == "data set" else begun, ignore_errors=True)
    _, error = command.process.communicate(timeout=60)
    assert command.process.returncode == 2
    assert error.count("\n") == 1
    assert ("cannot be read" if gone == "data set" else "was removed while it was trained into") in error


def resumed(run: Path, *more: str) -> int:
    return volumen(["train", str(run), "--resume", "--quiet", *more])


@pytest.fixture
def stopped(phantom: Path, undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of the finished run beside a copy of its data."""
    shutil.copytree(undisturbed, tmp_path / "run")
    shutil.copytree(phantom / "prepared", tmp_path / "prepared")
    return tmp_path / "run"


@pytest.mark.parametrize(("old", "new"), [("batch: 2", "batch: 1"), ("seed: 0", "seed: 1"), ("depth: 2", "depth: 3")])
def test_a_changed_configuration_is_shown_as_a_difference(stopped, capsys, old, new) -> None:
    text = (stopped / "config.yaml").read_text()
    assert old in text
    (stopped / "config.yaml").write_text(text.replace(old, new))
    for command in (["train", str(stopped), "--resume"], ["report", str(stopped)]):
        assert volumen(command) == 2
        key, _, value = new.partition(": ")
        said = capsys.readouterr().err
        assert f".{key} " in said or f" {key} " in said
        assert f"the file now says {value}" in said


def test_a_run_goes_on_with_its_own_data_only(stopped, phantom, tmp_path, capsys) -> None:
    other = tmp_path / "other"
    write_phantom_dataset(tmp_path / "raw", volumes=4, shape=(32, 32, 40), scrolls=2, seed=2)
    assert volumen(["prepare", str(tmp_path / "raw"), "--out", str(other)]) == 0
    assert volumen(["folds", str(other), "--folds", "2", "--by", "volume"]) == 0
    assert resumed(stopped, "-o", f"data.dataset={other}") == 2
    assert "belongs to a run on the data set" in capsys.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(phantom / "prepared", moved)
    assert resumed(stopped, "-o", f"data.dataset={moved}") == 0
    codes = [volumen(["folds", str(moved), "--folds", "2", "--by", "volume", "--seed", str(k)]) for k in range(3, 9)]
    assert set(codes) <= {0, 2}
    assert 2 in codes
    assert "choose another file with --out" in capsys.readouterr().err
    assert (moved / "folds.json").read_bytes() == (phantom / "prepared" / "folds.json").read_bytes()
    for seed in range(3, 9):
        assert volumen(["folds", str(moved), "--folds", "2", "--by", "volume", "--seed", str(seed), "--overwrite"]) == 0
        now, before = (json.loads((folder / "folds.json").read_text()) for folder in (moved, phantom / "prepared"))
        if now["folds"][0] != before["folds"][0]:
            break
    assert resumed(stopped, "-o", f"data.dataset={moved}") == 2
    assert "belongs to a run that held out" in capsys.readouterr().err


def test_a_checkpoint_manifest_that_is_damaged_or_gone_is_made_anew(stopped, undisturbed) -> None:
    manifest = stopped / "checkpoints" / "manifest.json"
    whole = open_run(stopped).checkpoints.manifest()
    for content in (b"", b"{", b"[]", manifest.read_bytes()[:-40], None, b'{"latest": 1, "check": "x"}'):
        if content is None:
            manifest.unlink(missing_ok=True)
        else:
            manifest.write_bytes(content)
        assert open_run(stopped).checkpoints.manifest() == whole
        assert resumed(stopped) == 0
        manifest.unlink(missing_ok=True)
    open_run(stopped).checkpoints.save(state_of(stopped), step=9, epoch=3, best=False)
    assert open_run(stopped).checkpoints.manifest().files == whole.files


@pytest.mark.parametrize(
    "name", ["../../victim.txt", "/etc/passwd", "step-00000009.pt/../../../victim.txt", "victim.txt"]
)
def test_names_in_the_checkpoints_manifest_delete_nothing(stopped, tmp_path, name) -> None:
    from volumen.runs.folder import run_owner
    from volumen.system.records import open_record, write_record

    for victim in (tmp_path / "victim.txt", stopped / "victim.txt", stopped / "checkpoints" / "victim.txt"):
        victim.write_text("precious")
    manifest, owner = stopped / "checkpoints" / "manifest.json", run_owner(stopped)
    record = open_record(manifest.read_bytes(), manifest, "", owner)
    record["latest"].insert(0, {**record["latest"][0], "file": name})
    write_record(manifest, record, owner=owner)
    store, said = open_run(stopped).checkpoints, list[str]()
    state = store.load_latest(said.append)
    assert "manifest.json" in said[0]
    for step in (10, 11, 12):
        store.save(state, step=step, epoch=4, best=True)
    for victim in (tmp_path / "victim.txt", stopped / "victim.txt", stopped / "checkpoints" / "victim.txt"):
        assert victim.read_text() == "precious"


FORMATS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format 99": lambda state: {**state, "format": 99},
    "format 1": lambda state: {**state, "format": 1},
    "a list": lambda state: [1, 2],
    "a number": lambda state: 3,
    "without weights": lambda state: {key: value for key, value in state.items() if key != "model"},
    "without data": lambda state: {**state, "data": {}},
    "another configuration": lambda state: {**state, "config": state["config"].replace('"depth":2', '"depth":3')},
    "no configuration": lambda state: {**state, "config": "{}"},
    "text for a tensor": lambda state: {**state, "model": dict.fromkeys(state["model"], "x")},
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_strange_checkpoint_is_one_line(stopped, capsys, kind) -> None:
    state = state_of(stopped)
    open_run(stopped).checkpoints.save({**state, "strange": True}, step=9, epoch=3, best=True, best_loss=True)
    for path in (stopped / "checkpoints").glob("*.pt"):
        path.unlink()
    torch.save(FORMATS[kind](state), stopped / "checkpoints" / "step-00000009.pt")
    torch.save(FORMATS[kind](state), stopped / "checkpoints" / "best-00000009.pt")
    (stopped / "checkpoints" / "manifest.json").unlink()
    for command in (["train", str(stopped), "--resume"], ["evaluate", str(stopped)], ["select", str(stopped)]):
        capsys.readouterr()
        assert volumen(command) == 2, command
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1, said


def test_validation_predicts_as_evaluation_does_where_the_scan_is_empty(tmp_path) -> None:
    """Checkpoints are chosen on the very masks that are scored."""
    import tifffile

    write_phantom_dataset(tmp_path / "raw", volumes=2, shape=(32, 32, 40), scrolls=1, seed=3)
    for path in sorted((tmp_path / "raw" / "train_images").iterdir()):
        image = tifffile.imread(path)
        image[:, :, :14] = 250
        tifffile.imwrite(path, image, compression="zlib")
    with (tmp_path / "raw" / "dataset.yaml").open("a") as file:
        file.write("empty: 250\n")
    assert volumen(["prepare", str(tmp_path / "raw"), "--out", str(tmp_path / "prepared")]) == 0
    assert volumen(["folds", str(tmp_path / "prepared"), "--folds", "2"]) == 0
    run = tmp_path / "run"
    full = "training.selection_metric=leaderboard"
    # Surface nearly everywhere: what is empty would be surface, too, were it not masked.
    low = "postprocessing.steps=[{kind: threshold, level: 0.02}]"
    train(tmp_path / "prepared", run, full, "training.epochs=1", "training.average=null", low)
    validated = [record for record in read_run_logs(run).metrics if record["kind"] == "validation"][-1]
    assert volumen(["evaluate", str(run), "--which", "last", "--json"]) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    (case,) = evaluation["cases"]
    assert case["values"]["predicted_share"] > 0.2
    for name in ("leaderboard", "dice", "predicted_share"):
        assert validated["cases"][case["id"]][name] == pytest.approx(case["values"][name], abs=1e-12)
    assert case["appearance"]["empty_values"] == [250]
    assert math.isfinite(validated["total"])
    assert Run(run).trained("last").config.inference.declared_empty == (250,)  # what others' files are predicted with
    assert Run(run).trained("last").overridden(["inference.empty=found"], run).config.inference.declared_empty is None


def test_the_last_word_of_a_run_fits_on_a_full_disk(prepared, tmp_path) -> None:
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        run = disk / "run"
        (disk / "ballast").write_bytes(b"x" * 150_000)
        with pytest.raises(OSError, match="No space left"):
            train(prepared, run, "model.filters=4", "training.epochs=6")
        status = read_status(run)
        assert status is not None
        assert status["state"] == "failed"
        assert "No space left" in status["reason"]
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = configuration(prepared, "model.filters=4", "training.epochs=6")
        can_resume = any(run.glob("checkpoints/*.pt"))
        assert run_training(again, run, SilentDisplay(), resume=can_resume).state == "finished"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_numbers_of_records_are_the_ones_that_were_written(stopped) -> None:
    """Of the report's three logs and the status, no flipped bit becomes a number."""
    from volumen.runs.folder import EVENTS, METRICS, STATUS

    whole, status = read_run_logs(stopped), read_status(stopped)
    random = np.random.default_rng(0)
    for trial in range(150):
        path = stopped / (METRICS, EVENTS, STATUS)[trial % 3]
        content = path.read_bytes()
        changed = bytearray(content)
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
        path.write_bytes(changed if trial % 2 else changed[: int(random.integers(len(changed)))])
        found = read_run_logs(stopped)
        assert all(record in whole.metrics for record in found.metrics)
        assert all(record in whole.events for record in found.events)
        try:
            said = read_status(stopped)
        except UserError as error:
            said = str(error)
        same = (found.metrics, found.events, said) == (whole.metrics, whole.events, status)
        assert same or found.faults or said is None
        path.write_bytes(content)
