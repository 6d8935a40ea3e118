"""A training whose patches the device makes: the same run as the CPU's loader gives, and resumed as one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_metrics
from volumen.training.loop import run_training


class Watches(SilentDisplay):
    """Keeps what it is told, and asks to stop after some steps."""

    def __init__(self, stop_after: int = 0) -> None:
        self.left, self.notes = stop_after, ()

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        self.notes = facts["notes"]

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return open_run(run).checkpoints.load_latest(lambda text: pytest.fail(text))["model"]


def totals(run: Path) -> list[float]:
    return [record["total"] for record in read_metrics(run) if record["kind"] == "train"]


def test_a_training_is_the_same_whoever_makes_its_patches_and_resumes(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "raw", volumes=3, shape=(32, 32, 40), scrolls=1, seed=1)
    dataset = prepare(tmp_path / "raw", tmp_path / "prepared")
    save_folds(make_folds(dataset, 3, "volume", 0)[0], tmp_path / "prepared" / "folds.json")

    def train(name: str, listener: SilentDisplay, *overrides: str, resume: bool = False) -> str:
        config = load_config(
            "preset:default",
            [
                f"data.dataset={tmp_path / 'prepared'}", "data.patch=[16, 16, 16]", "device=cpu", "precision=fp32",
                "data.sampling.patches_per_epoch=6", "data.workers=0", "data.augmentation.affine_probability=0.5",
                "model.filters=2", "model.depth=2", "training.epochs=2", "training.validate_every_epochs=1",
                "postprocessing.steps=[{kind: threshold}]", *overrides,
            ],
        ).config  # fmt: skip
        return run_training(config, tmp_path / name, listener, resume=resume).state

    quiet, told = "data.augmentation.noise_probability=0", Watches()
    assert train("cpu", SilentDisplay(), "data.on_device=off", quiet) == "finished"
    assert train("device", told, "data.on_device=on", quiet) == "finished"
    assert "volumes in memory: 2 of 2, 0.0 GB" in told.notes
    assert totals(tmp_path / "device") == pytest.approx(totals(tmp_path / "cpu"), rel=1e-3)

    loud = "data.augmentation.noise_probability=1"
    assert train("whole", SilentDisplay(), "data.on_device=on", loud) == "finished"
    assert train("parts", Watches(4), "data.on_device=on", loud) == "stopped"
    assert train("parts", SilentDisplay(), "data.on_device=on", loud, resume=True) == "finished"
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert totals(tmp_path / "whole") == totals(tmp_path / "parts")
    assert train("cpu2", Watches(4), "data.on_device=off", loud) == "stopped"
    assert train("cpu2", SilentDisplay(), "data.on_device=on", loud, resume=True) == "finished"
