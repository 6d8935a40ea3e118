"""`volumen tune` and its neighbours on bad days: killed, interrupted, started twice, out of room, files damaged."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.dump import canonical
from volumen.experiments import out_of_fold
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.system.locks import hold, is_held
from volumen.system.records import read_log, read_record

TRIALS = 14
COMMAND = """
import sys
from volumen.cli.main import run
from volumen.system.stopping import InterruptedBySignal, interruptible
try:
    with interruptible():
        code = run(sys.argv[1:])
except InterruptedBySignal:
    code = 75
sys.exit(code)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are counted in /proc")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the commands below: the last bit of a prediction depends on how many threads made it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that held two volumes out."""
    folder = tmp_path_factory.mktemp("place")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(32, 32, 32), scrolls=1, seed=3)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    settings = {
        "data.dataset": folder / "prepared", "data.patch": "[16, 16, 16]", "data.sampling.patches_per_epoch": 2,
        "data.workers": 0, "model.filters": 2, "model.depth": 2, "training.epochs": 2, "precision": "fp32",
    }  # fmt: skip
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    assert volumen(["train", "preset:default", "--out", str(folder / "run"), "--quiet", *options]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory) -> Path:
    """What a search leaves that nothing happened to."""
    out = tmp_path_factory.mktemp("whole") / "tuned"
    assert volumen(tuning(run, out)) == 0
    return out


def tuning(run: Path, out: Path, workers: int = 1, trials: int = TRIALS) -> list[str]:
    return ["tune", str(run), "--out", str(out), "--trials", str(trials), "--workers", str(workers)]


def found(out: Path) -> dict[str, object]:
    """All that a search found: its result, its trials (in whichever order they were done), its predictions."""
    texts = {path.name: path.read_bytes() for path in (out / "tuning.json", out / "postprocessing.yaml")}
    arrays = {path.name: path.read_bytes() for path in sorted((out / "predictions").rglob("*.npy"))}
    origin = canonical(read_record(out / "origin.json", dict, ""))
    trials = {
        path.name: sorted(read_log(path, owner=origin).records, key=lambda trial: trial["number"])
        for path in sorted((out / "searches").glob("*"))
    }
    return {**texts, **arrays, **trials}


def lines(out: Path) -> int:
    """How far the searches are."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("s*/*.jsonl"))


def group_of(process: int) -> list[int]:
    """Living processes of a group."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = path.read_text().partition(" (")
        except OSError:
            continue
        state, _, group = rest.rpartition(") ")[2].split()[:3]
        if int(group) == process and state not in "ZX":
            alive.append(int(number))
    return alive


def wait_until(reached, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize(
    ("workers", "signals"),
    [(1, ("SIGTERM", "SIGKILL")), (2, ("SIGKILL", "SIGINT", "SIGHUP"))],
)
def test_stopped_anywhere_and_started_again_it_finds_what_it_would_have_found(run, whole, tmp_path, workers, signals):
    """A terminal sends to the whole group; a scheduler and a killer to the command alone. Nobody stays behind."""
    out, rnd = tmp_path / "tuned", random.Random(workers)
    points = sorted(rnd.randrange(lines(whole) * 3 // 4) for _ in signals)
    for name, point in zip(signals, points, strict=True):
        further = max(point, lines(out))
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *tuning(run, out, workers)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert wait_until(lambda further=further: lines(out) > further, 120), "it does not begin"
        time.sleep(rnd.random() / 20)
        assert command.poll() is None
        (os.killpg if name in ("SIGINT", "SIGHUP") else os.kill)(command.pid, getattr(signal, name))
        _, error = command.communicate(timeout=10)
        assert command.returncode != 0
        assert b"Traceback" not in error
        assert wait_until(lambda group=command.pid: not group_of(group), 10), f"{name} left {group_of(command.pid)}"
        assert not is_held(out, "tune")
        assert not (out / "tuning.json").exists()
    assert volumen(tuning(run, out, workers)) == 0
    assert found(out) == found(whole)
    assert not list(out.rglob(".partial-*"))


def test_the_second_in_a_folder_is_told_who_works_there(run, whole, tmp_path, capsys):
    out, work = tmp_path / "tuned", tmp_path / "work"
    with hold(out, "tune"), hold(work, "ensemble"):
        assert volumen(tuning(run, out)) == 2
        error = capsys.readouterr().err
        assert f"{out} is in use by `volumen tune` (process {os.getpid()}" in error
        command = ["ensemble", str(run), "--out", str(tmp_path / "model.volumen"), "--work", str(work)]
        assert volumen(command) == 2
        assert f"{work} is in use by `volumen ensemble`" in capsys.readouterr().err
    assert not (out / "predictions").exists()


def test_what_cannot_be_done_is_refused_before_anything_is_predicted(run, tmp_path, capsys, monkeypatch):
    def predicted(*arguments, **named):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(out_of_fold, "open_sources", predicted)
    (tmp_path / "file").write_text("mine")
    bundle = str(tmp_path / "model.volumen")
    link = tmp_path / "x" / run.name
    link.parent.mkdir()
    shutil.copytree(run, link, ignore=shutil.ignore_patterns("checkpoints"))
    for arguments, said in (
        (tuning(run, tmp_path / "tuned", trials=3), "--trials must be at least 4"),
        (tuning(run, tmp_path / "file"), "cannot be written to"),
        (tuning(run, tmp_path / "file" / "tuned"), "cannot be written to"),
        (tuning(tmp_path, tmp_path / "tuned"), "is not a run folder"),
        ([*tuning(run, tmp_path / "tuned"), "--which", "worst"], "there is no checkpoint 'worst'"),
        (["tune", str(run), str(link), "--out", str(tmp_path / "tuned")], "two runs have one name"),
        (["ensemble", str(run), "--out", str(tmp_path / "file" / "model.volumen")], "cannot be written to"),
        (["ensemble", str(run), "--out", bundle, "--work", str(tmp_path / "file")], "cannot be written to"),
        (["select", str(run), "--out", str(tmp_path / "file" / "selection.json")], "cannot be written to"),
        (["select", str(tmp_path / "none")], "is not a run folder"),
    ):
        assert volumen(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert said in error, said
        assert error.count("\n") == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert volumen(tuning(run, tmp_path / "tuned")) == 2
    assert "needs Optuna" in capsys.readouterr().err
    assert not list((tmp_path / "tuned").glob("*"))
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_damage_is_said_and_mended_and_changes_nothing(run, whole, tmp_path, capsys):
    """Each file of the folder in turn."""
    out, rnd = tmp_path / "tuned", random.Random(5)
    shutil.copytree(whole, out)
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "postprocessing.yaml"]
    assert {path.name for path in files} >= {"origin.json", "tuning.json", "predictions.json"}
    for path in files:
        content = bytearray(path.read_bytes())
        content[rnd.randrange(len(content) // 4, len(content) * 3 // 4)] ^= 4
        path.write_bytes(content)
    assert volumen(tuning(run, out)) == 0
    said = capsys.readouterr().err
    for path in files:
        if path.suffix != ".npy" and path.name != "tuning.json":  # arrays go with their record, results are results
            assert str(path) in said, path
    assert found(out) == found(whole)
    assert volumen(tuning(run, out)) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "whatever the score says" not in line]
    assert said == []
    (array,) = list(out.rglob("*.npy"))[:1]
    array.write_bytes(array.read_bytes()[:-7])
    (out / "origin.json").unlink()
    assert volumen(tuning(run, out)) == 0
    assert "predicted again" in capsys.readouterr().err
    assert found(out) == found(whole)


def test_searches_over_something_else_are_neither_continued_nor_lost(run, whole, tmp_path, capsys):
    out = tmp_path / "tuned"
    shutil.copytree(whole, out)
    before = found(out)
    assert volumen([*tuning(run, out), "--seed", "1"]) == 2
    assert "(seed 0, now 1): choose another --out" in capsys.readouterr().err
    (out / "origin.json").unlink()
    assert volumen([*tuning(run, out), "--seed", "1"]) == 2
    assert "no origin.json tells what they looked at" in capsys.readouterr().err
    shutil.copy(whole / "origin.json", out)
    assert found(out) == before


def test_a_full_disk_is_told_and_the_search_goes_on_after_room_is_made(run, whole, tmp_path, capsys):
    out = tmp_path / "disk"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        told = 0
        for kilobytes in (8, 60, 144, 164, 176, 184, 192, 200, 208, 400):
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(out)], check=True)
            code = volumen(tuning(run, out))
            error = capsys.readouterr().err
            assert (code, "the disk is full" in error) in ((1, True), (0, False)), error
            assert "damaged" not in error
            told += code
        assert told > 3
        assert code == 0
        assert found(out) == found(whole)
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_an_ensemble_predicts_each_kind_of_weights_into_a_folder_of_its_own(run, tmp_path):
    out = tmp_path / "model.volumen"
    assert volumen(["ensemble", str(run), f"{run}:plain", "--out", str(out)]) == 0
    folders = sorted(path.name for path in (tmp_path / "model.predictions").iterdir())
    assert folders == ["run", "run-plain"]


def test_results_are_records(run, whole, tmp_path):
    result = read_record(whole / "tuning.json", dict, "")
    assert [one["trials"] for one in result["searches"]] == [TRIALS] * 3
    out = tmp_path / "selection.json"
    assert volumen(["select", str(run), "--out", str(out)]) == 0
    assert read_record(out, dict, "")["chosen"] == json.loads(out.read_text())["chosen"]
