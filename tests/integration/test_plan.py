"""`volumen plan` as a newcomer uses it: a configuration, another batch, a run folder, mistakes."""

import json

import pytest

from volumen.cli.main import run as volumen
from volumen.phantoms.scrolls import write_phantom_dataset

SMALL = (
    "data.patch=[16, 16, 16]", "model.filters=2", "model.depth=1", "data.sampling.patches_per_epoch=6",
    "training.epochs=4", "data.workers=0", "training.swa={start_epoch: 9}",
    "loss.curriculum=[{name: late, start_epoch: 2, weights: {soft_dice: 1}}]",
)  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("plan")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(32, 32, 32), scrolls=2, seed=5)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared")]) == 0
    overrides = [part for value in SMALL for part in ("-o", value)]
    return ["--dataset", str(folder / "prepared"), *overrides]


def test_a_plan_measures_each_phase_and_batch_and_leaves_nothing(settings, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert volumen(["plan", "preset:default", *settings, "--batch", "3", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    own, other = plan["own"], plan["others"][0]
    assert (own["batch"], other["batch"]) == (2, 3)
    assert set(own["run"]["pace"]["steps"]) == {"start", "late"}
    assert own["run"]["steps"] == 12
    assert other["run"]["steps"] == 8
    assert all(one["peak_bytes"] > 0 and one["run"]["total"]["middle"] > 0 for one in (own, other))
    assert any("SWA never starts" in note for note in own["run"]["notes"])
    assert own["run"]["disk"]["checkpoint"] > 0
    assert not [left for left in tmp_path.iterdir() if left.name.startswith("volumen-plan")]


def test_a_batch_that_cannot_fit_is_not_run(settings, capsys, monkeypatch) -> None:
    monkeypatch.setattr("volumen.doctor.forecast_batches.available_bytes", lambda config: 10**6)
    assert volumen(["plan", "preset:default", *settings, "--batch", "3"]) == 0
    said = capsys.readouterr().out
    assert "does not fit" in said
    assert "would not fit" in said


def test_a_run_says_what_is_left_of_it(settings, capsys, tmp_path) -> None:
    run = tmp_path / "run"
    assert volumen(["train", "preset:default", *settings, "--out", str(run), "--quiet", "--accept", "P11"]) == 0
    capsys.readouterr()
    assert volumen(["plan", str(run)]) == 0
    assert "nothing is left" in capsys.readouterr().out
    assert volumen(["plan", str(run), "-o", "training.epochs=8", "--json"]) == 0
    left = json.loads(capsys.readouterr().out)["run"]
    assert (left["done"], left["steps"]) == (12, 24)
    step, validation = left["pace"]["steps"]["late"]["middle"], left["pace"]["validation"]["middle"]
    assert left["total"]["middle"] == pytest.approx(12 * step + 2 * validation)  # epochs 6 and 8
    for mistake in (["-o", "data.batch=1"], ["--batch", "4"]):
        assert volumen(["plan", str(run), *mistake]) == 2
    assert "config.yaml" in capsys.readouterr().err


def test_mistakes_are_told_before_anything_is_measured(settings, capsys) -> None:
    for batch in ("", "0", "2,x", "99"):
        assert volumen(["plan", "preset:default", *settings, "--batch", batch]) == 2
    assert volumen(["plan", "preset:default", *settings, "--time-budget", "soon"]) == 2
    assert "such as 1,2,4,8" in capsys.readouterr().err
