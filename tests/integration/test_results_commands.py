"""The commands after training, on a run that was really trained: evaluate, predict, report, and their refusals."""

import json
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.data.volumes import read_volume
from volumen.phantoms.scrolls import write_phantom_dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(32, 32, 40), scrolls=1, seed=3, test_volumes=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    settings = {
        "data.dataset": folder / "prepared", "data.patch": "[16, 16, 16]", "data.sampling.patches_per_epoch": 4,
        "data.workers": 0, "model.filters": 2, "model.depth": 2, "training.epochs": 2,
    }  # fmt: skip
    overrides = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    assert volumen(["train", "preset:default", "--out", str(folder / "run"), "--quiet", *overrides]) == 0
    return folder


def test_evaluate_prints_tables_and_json_and_leaves_its_files(trained, capsys):
    assert volumen(["evaluate", str(trained / "run")]) == 0
    text = capsys.readouterr().out
    for part in (
        "Leaderboard",
        "Steps of the post-processing",
        "threshold in use 0.50",
        "calibration error",
        "verdict:",
    ):
        assert part in text
    assert "next: volumen report" in text
    assert volumen(["evaluate", str(trained / "run"), "--which", "last", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((trained / "run" / "evaluation.json").read_text())
    assert printed == {key: value for key, value in written.items() if key != "check"}
    assert printed["settings"]["which"] == "last"
    (case,) = printed["cases"]
    assert case["steps"][-1]["score"] == case["values"]["leaderboard"]
    assert printed["distribution"]["in_use"]["threshold"] == 0.5
    assert (trained / "run" / "evaluation" / "slices" / f"{case['id']}.png").is_file()


def test_evaluation_agrees_with_the_validation_that_chose_the_weights(trained):
    assert volumen(["evaluate", str(trained / "run"), "--which", "last"]) == 0
    evaluated = json.loads((trained / "run" / "evaluation.json").read_text())["mean"]
    lines = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if record["kind"] == "validation"][-1]["metrics"]
    for name in ("dice", "precision", "surface_dice", "voi", "predicted_share"):
        assert evaluated[name] == pytest.approx(last[name], abs=1e-3), name


def test_predict_writes_masks_and_refuses_to_lose_them(trained, tmp_path, capsys):
    source, out = trained / "raw" / "test_images", tmp_path / "masks"
    command = ["predict", str(trained / "run"), str(source), str(out)]
    assert volumen([*command, "--view", "--probabilities", "--tile", "16", "--overlap", "0.5", "--mirror"]) == 0
    (image,) = source.iterdir()
    assert read_volume(out / image.name).shape == read_volume(image).shape
    assert json.loads((out / "prediction.json").read_text())["settings"]["mirror"] is True
    assert volumen(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert volumen([*command, "--resume"]) == 2  # other tiles than before
    assert "made with other settings" in capsys.readouterr().err
    assert volumen([*command, "--overwrite"]) == 0


def test_report_is_written(trained, tmp_path):
    assert volumen(["evaluate", str(trained / "run")]) == 0
    assert volumen(["report", str(trained / "run"), "--out", str(tmp_path / "report.html")]) == 0
    assert "held-out volume" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate {}/raw", "is not a run folder"),
        ("report {}/raw", "is not a run folder"),
        ("predict {}/raw {}/raw/test_images {}/out", "is not a run folder"),
        ("predict {}/run {}/nowhere {}/out", "does not exist"),
        ("predict {}/run {}/raw/test_images {}/out --tile 8,8", "--tile must be"),
        ("predict {}/run {}/raw/test_images {}/out --tile 10", "must be a multiple of 4"),
        ("predict {}/run {}/raw/test_images {}/out --overlap 1", "inference.overlap: expected number"),
        ("evaluate {}/run --which newest", "no checkpoint 'newest'"),
        ("evaluate {}/run --threshold 0", "between 0 and 1"),
    ],
)
def test_mistakes_end_with_code_2_and_the_fix(trained, capsys, command, said):
    assert volumen(command.replace("{}", str(trained)).split()) == 2
    assert said in capsys.readouterr().err
