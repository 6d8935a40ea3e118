"""A training tells how its criteria stand, and is the same training as without them, resumed or not."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.monitors.criteria import judged, records_of_run
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.report import write_report
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_run_logs
from volumen.training.loop import run_training

CRITERIA = (
    "memory > 0 MB", "no val.loss rise > 0.9 in epochs 1..3", "val.dice > 1.5", "epoch_time < 0.001 s and val.dice < 0",
    "val.dice >= 0 at epoch 2", "score > 0.1",
)  # fmt: skip
TIMES = {"seconds", "loader_seconds", "memory_gb", "check", "line", "time"}


def configuration(prepared: Path, *overrides: str) -> Config:
    return load_config(
        "preset:default",
        [
            f"data.dataset={prepared}", "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=4",
            "data.workers=0", "model.filters=2", "model.depth=2", "training.epochs=3",
            "training.validate_every_epochs=1", "postprocessing.steps=[{kind: threshold}]", "device=cpu", *overrides,
        ],
    ).config  # fmt: skip


class StopAt(SilentDisplay):
    """Asks the process to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def lines(run: Path, kind: str = "") -> list[dict[str, Any]]:
    """Numbers of a run, or its events of a kind, without times."""
    logs = read_run_logs(run)
    chosen = [one for one in logs.events if one["kind"] == kind] if kind else logs.metrics
    return [{key: value for key, value in one.items() if key not in TIMES} for one in chosen]


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = open_run(run).checkpoints.load_latest(lambda text: None)
    return state["model"]


def test_criteria_are_told_and_change_nothing(tmp_path):
    write_phantom_dataset(tmp_path / "raw", volumes=3, shape=(32, 32, 40), scrolls=1, seed=1)
    prepared = tmp_path / "prepared"
    dataset = prepare(tmp_path / "raw", prepared)
    save_folds(make_folds(dataset, 3, "volume", 0)[0], prepared / "folds.json")
    asked = configuration(prepared, f"experiment.criteria={json.dumps(CRITERIA)}", "training.monitoring=null")
    plain, whole, stopped = tmp_path / "plain", tmp_path / "whole", tmp_path / "stopped"
    run_training(configuration(prepared, "training.monitoring=null"), plain, SilentDisplay())
    run_training(asked, whole, SilentDisplay())
    assert run_training(asked, stopped, StopAt(3)).state == "stopped"
    assert run_training(asked, stopped, SilentDisplay(), resume=True).state == "finished"

    assert lines(plain, "criterion") == []
    assert lines(plain) == lines(whole) == lines(stopped)
    for run in (whole, stopped):
        assert all(torch.equal(value, weights(plain)[name]) for name, value in weights(run).items())
    told = lines(whole, "criterion")
    brief = [[(one["epoch"], one["criterion"], one["state"]) for one in lines(run, "criterion")]
             for run in (whole, stopped)]  # fmt: skip
    assert brief[0] == brief[1]

    final = {one["criterion"]: one["state"] for one in told if one.get("final")}
    assert list(final) == list(CRITERIA)
    assert [final[text] for text in CRITERIA] == ["met", "met", "unreachable", "failed", "met", "not yet"]
    assert next(one["criterion"] for one in told if not one.get("final")) == "val.dice > 1.5"
    assert {text: str(one.state) for text, one in judged(CRITERIA, records_of_run(whole))} == final
    page = write_report(whole)[0].read_text(encoding="utf-8")
    assert page.count("no val.loss rise &gt; 0.9 in epochs 1..3") >= 1
    assert "unreachable" in page
