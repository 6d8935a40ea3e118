"""Runs with trackers: read back by each library, the same weights, nothing left behind, nothing stopped."""

import errno
import importlib.util
import json
import os
import socket
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sent_to_trackers import CURVE, TEXT, run_in, send
from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.records import read_run_logs, read_status
from volumen.runs.run import Run
from volumen.trackers.choice import tracked
from volumen.trackers.to_mlflow import RUN_TAG, open_mlflow
from volumen.trackers.to_tensorboard import open_tensorboard
from volumen.training.loop import run_training

SENDING = Path(__file__).parents[1] / "sent_to_trackers.py"


def needs(*libraries):
    """Skip where a library is not installed."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: pip install 'volumen[{libraries[0]}]'")


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    """No variable of a tracker says anything."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_")):
            monkeypatch.delenv(name)


@pytest.fixture
def run(tmp_path):
    """A run without a training."""
    (tmp_path / "run").mkdir()
    return run_in(tmp_path / "run")


def sent_elsewhere(name, run):
    """What a process prints that sends everything, a line each."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SENDING), name, str(run.folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_tensorboard_reads_what_was_sent(run):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    send("tensorboard", run)
    found = accumulators.EventAccumulator(str(run.folder / "tensorboard"))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss/total")] == CURVE
    assert [each.step for each in found.Images("slices/case")] == [8]
    assert found.Tensors("signs/R6")[0].tensor_proto.string_val == [TEXT.encode()]


def wandb_records(path):
    """The records of an offline run: blocks of frames (check, length, type, data), parsed by the library's messages."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, []
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def test_wandb_holds_what_was_sent_and_its_service_ends(run):
    needs("wandb", "PIL")
    said = sent_elsewhere("wandb", run)
    (folder,) = (run.folder / "wandb").glob("offline-run-*")
    assert said == [f"send it with: wandb sync {folder}"]  # and nothing else is printed
    records = list(wandb_records(next(folder.glob("*.wandb"))))
    rows = [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.history.item}
            for each in records if each.WhichOneof("record_type") == "history"]  # fmt: skip
    assert [(row["step"], row["loss/total"]) for row in rows if "loss/total" in row] == CURVE
    assert len(list(folder.rglob("files/media/images/slices/*.png"))) == 1
    begun = next(each.run for each in records if each.WhichOneof("record_type") == "run")
    assert (begun.run_id, begun.project, begun.display_name) == (run.owner, "project", run.name)
    assert any(TEXT in str(each) for each in records)
    alive = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(run.folder) not in alive


def test_mlflow_gives_back_what_was_sent_and_goes_on_with_a_run(run):
    needs("mlflow", "sqlalchemy", "alembic")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hint = send("mlflow", run).hint
        send("mlflow", run)  # resumed
        from mlflow.tracking import MlflowClient

        client = MlflowClient(hint.rpartition(" ")[2])
        experiment = client.get_experiment_by_name("project")
        (found,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(found.info.run_id, "loss/total")
        kept = [client.list_artifacts(found.info.run_id, folder) for folder in ("slices", "signs")]
    assert {(each.step, each.value) for each in history} == set(CURVE)
    assert (found.info.run_name, found.info.status) == (run.name, "FINISHED")
    assert found.data.params == {"seed": "7", "data.fold": "1"}
    assert found.data.tags[RUN_TAG] == run.owner
    assert [each.path for (each,) in kept] == ["slices/case-00000008.png", "signs/R6-00000008.md"]
    assert (run.folder / "mlflow" / "mlflow.db").is_file()


def test_trackio_gives_back_what_was_sent(run, monkeypatch):
    needs("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(run.folder / "trackio"))
    hint, kept = sent_elsewhere("trackio", run)  # and nothing else is printed
    assert hint == "see it with: trackio show --project project"
    name, rows, settings = json.loads(kept)
    assert name == run.name
    assert [(row["step"], row["loss/total"]) for row in rows if "loss/total" in row] == CURVE
    assert settings["data.fold"] == 1
    assert any(TEXT in str(row) for row in rows)
    assert any("slices/case" in row for row in rows)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small data set."""
    place = tmp_path_factory.mktemp("data")
    write_phantom_dataset(place / "raw", volumes=4, shape=(32, 32, 32), scrolls=2, seed=1)
    prepare(place / "raw", place / "prepared")
    save_folds(make_folds(PreparedDataset.open(place / "prepared"), 2, "volume")[0], place / "prepared" / "folds.json")
    return place / "prepared"


def trained(prepared, out, trackers, *overrides, resume=False, told=None):
    """A short training with trackers; its weights."""
    config = load_config("preset:default", [
        f"data.dataset={prepared}", "data.patch=[16, 16, 16]", "data.workers=0", "model={filters: 4, depth: 2}",
        "data.sampling.patches_per_epoch=4", "training.epochs=2", "training.validate_every_epochs=1", "precision=fp32",
        "inference={tile: [32, 32, 32], engine: torch}", "device=cpu", "training.monitoring=null", *overrides,
    ]).config  # fmt: skip
    with tracked(trackers, SilentDisplay(), ([] if told is None else told).append) as listener:
        outcome = run_training(config, out, listener, resume=resume)
    assert outcome.state == "finished"
    return dict(Run(out).trained("plain").model.state_dict())


def same(one, other):
    """Whether weights are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_no_tracker_changes_a_bit_and_a_longer_run_goes_on_in_its_curves(prepared, tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plain = trained(prepared, tmp_path / "plain", {}, "training.epochs=3")
    weights = trained(prepared, tmp_path / "run", {"tensorboard": open_tensorboard}, "training.epochs=3")
    assert same(plain, weights)
    assert not (tmp_path / "plain" / "tensorboard").exists()
    names = {path.name for path in (tmp_path / "run").iterdir()} - {
        path.name for path in (tmp_path / "plain").iterdir()
    }
    assert names == {"tensorboard"}
    trained(prepared, tmp_path / "run", {"tensorboard": open_tensorboard}, "training.epochs=4", resume=True)
    found = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert [each.step for each in found.Scalars("loss/total")] == list(range(1, 9))
    assert [each.step for each in found.Scalars("val/dice")] == [2, 4, 6, 8]
    assert len(found.Images("slices/" + found.Tags()["images"][0].partition("/")[2])) == 4
    recorded = [
        each["terms"]["soft_dice"] for each in read_run_logs(tmp_path / "run").metrics if each["kind"] == "train"
    ]
    points = [each.value for each in found.Scalars("term_raw/soft_dice")]
    assert np.mean(np.reshape(points, (4, 2)), axis=1) == pytest.approx(recorded)


def test_a_run_that_never_came_to_a_checkpoint_makes_way_with_its_curves(prepared, tmp_path):
    run = tmp_path / "run"
    trained(prepared, run, {"tensorboard": open_tensorboard})
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "checkpoints").rmdir()
    trained(prepared, run, {"tensorboard": open_tensorboard})
    assert len(list((run / "tensorboard").iterdir())) == 1


class Broken:
    """A tracker that fails as its disk or server does."""

    hint = ""

    def __init__(self, failure):
        self._failure = failure

    def __getattr__(self, name):
        def fail(*arguments):
            raise self._failure

        return fail


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), ConnectionResetError("gone"), MemoryError()]
)
def test_a_run_with_a_broken_tracker_is_the_run_with_one_warning_more(prepared, tmp_path, failure):
    told, plain = [], trained(prepared, tmp_path / "plain", {})
    assert same(plain, trained(prepared, tmp_path / "run", {"broken": lambda run: Broken(failure)}, told=told))
    warned = [each["message"] for each in read_run_logs(tmp_path / "run").events if each["kind"] == "warning"]
    assert len([line for line in [*warned, *told] if "broken" in line and type(failure).__name__ in line]) in (1, 2)
    assert len(warned) <= 1
    assert not read_run_logs(tmp_path / "run").faults


def test_a_server_that_is_down_stops_nothing(prepared, tmp_path, monkeypatch):
    needs("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # where nobody listens from now on
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(prepared, tmp_path / "run", {"mlflow": open_mlflow, "tensorboard": open_tensorboard}, told=told)
    assert any(line.startswith("mlflow: ") and "not sent" in line and str(port) in line for line in told)
    assert not [line for line in told if line.startswith("tensorboard")]
    assert read_status(tmp_path / "run")["state"] == "finished"
