"""The main job, by the commands a person types: on a phantom scroll, and on real volumes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from volumen.cli.main import run
from volumen.runs.records import read_metrics

SMALL = [
    "-o", "data.patch=[32, 32, 32]",
    "-o", "data.sampling.patches_per_epoch=8",
    "-o", "data.workers=0",
    "-o", "model.filters=2",
    "-o", "model.depth=2",
    "-o", "postprocessing.steps=[{kind: threshold}]",
    "-o", "training.epochs=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    options = ["--volumes", "3", "--size", "40", "--scrolls", "1", "--seed", "2"]
    assert run(["phantom", str(folder / "raw"), *options]) == 0
    assert run(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert run(["folds", str(folder / "prepared"), "--folds", "3"]) == 0
    return folder / "prepared"


def train(prepared: Path, out: Path, *arguments: str) -> int:
    return run(["train", "preset:default", "--quiet", "--out", str(out), "-o", f"data.dataset={prepared}", *arguments])


def test_from_volumes_to_masks_and_a_page(prepared, tmp_path):
    assert train(prepared, tmp_path / "run", *SMALL) == 0
    assert run(["evaluate", str(tmp_path / "run")]) == 0
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert set(evaluation["mean"]) >= {"leaderboard", "topo", "surface_dice", "voi", "dice", "precision", "recall"}
    bare = ["evaluate", str(tmp_path / "run"), "-o", "postprocessing.steps=[{kind: threshold}]"]
    assert run([*bare, "-o", "inference.mirror=true"]) == 0
    assert run([*bare, "-o", "model.filters=4"]) == 2
    images = prepared.parent / "raw" / "train_images"
    assert run(["predict", str(tmp_path / "run"), str(images), str(tmp_path / "masks")]) == 0
    for path in images.iterdir():
        mask = tifffile.imread(tmp_path / "masks" / path.name)
        assert mask.shape == tifffile.imread(path).shape
        assert set(np.unique(mask)) <= {0, 1}
    assert run(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    for part in ("<svg", "Class distribution", "Calibration", "What each step of the post-processing does"):
        assert part in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_sigterm_saves_ends_with_75_and_resumes(prepared, tmp_path):
    command = [sys.executable, "-c", "from volumen.cli.main import main; main()", "train", "preset:default"]
    command += ["--out", str(tmp_path / "run"), "-o", f"data.dataset={prepared}", *SMALL, "-o", "training.epochs=2000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while not (tmp_path / "run" / "checkpoints" / "manifest.json").exists():
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "--resume" in output
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "stopped"
    epochs = len([record for record in read_metrics(tmp_path / "run") if record["kind"] == "train"])
    assert epochs >= 1


@pytest.mark.parametrize(
    "model",
    ["{kind: resenc, size: S}", "{kind: monai, name: SegResNet, arguments: {init_filters: 8}, divisor: 8}"],
    ids=["resenc with deep supervision", "monai"],
)
def test_the_other_networks_train_too(prepared, tmp_path, model):
    arguments = [f"data.dataset={prepared}", "data.patch=[32, 32, 32]", "data.sampling.patches_per_epoch=4"]
    arguments += ["data.workers=0", "training.epochs=1", f"model={model}", "inference.tile=[32, 32, 32]"]
    overrides = [part for argument in arguments for part in ("-o", argument)]
    assert run(["train", "preset:default", "--quiet", "--out", str(tmp_path / "run"), *overrides]) == 0
    assert run(["evaluate", str(tmp_path / "run")]) == 0


def test_a_run_that_would_be_overwritten_and_masks_too(prepared, tmp_path, capsys):
    assert train(prepared, tmp_path / "run", *SMALL, "-o", "training.epochs=1") == 0
    assert train(prepared, tmp_path / "run", *SMALL) == 2
    assert "--resume" in capsys.readouterr().err
    image = next((prepared.parent / "raw" / "train_images").iterdir())
    assert run(["predict", str(tmp_path / "run"), str(image), str(tmp_path / "masks")]) == 0
    assert run(["predict", str(tmp_path / "run"), str(image), str(tmp_path / "masks")]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.real_data
def test_real_volumes_of_every_kind(ovules, scrollct, tmp_path):
    assert run(["prepare", str(ovules), "--out", str(tmp_path / "prepared"), "--accept-proposal"]) == 0
    assert run(["folds", str(tmp_path / "prepared"), "--folds", "3"]) == 0
    assert train(tmp_path / "prepared", tmp_path / "run", *SMALL, "-o", "training.epochs=1") == 0
    assert run(["evaluate", str(tmp_path / "run")]) == 0
    assert run(["predict", str(tmp_path / "run"), str(scrollct / "images"), str(tmp_path / "masks")]) == 0
    assert tifffile.imread(tmp_path / "masks" / "mush_0000.tif").shape == (100, 100, 100)
