"""`volumen compare` on runs that were really trained: scored once, kept, gone on with, and silent where none wins."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.experiments import comparing_scores
from volumen.experiments.comparing import compare_runs
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN
from volumen.experiments.comparing_scores import KEPT
from volumen.experiments.evaluate import evaluate_run
from volumen.files import PARTIAL
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.training.loop import run_training


def train(folder: Path, prepared: Path, *overrides: str) -> None:
    """A run of one epoch, without an audit."""
    settings = {
        "data.dataset": prepared, "data.patch": "[16, 16, 16]", "data.sampling.patches_per_epoch": 4,
        "data.workers": 0, "model.filters": 2, "model.depth": 2, "training.epochs": 1,
    }  # fmt: skip
    given = [*(f"{key}={value}" for key, value in settings.items()), *overrides]
    run_training(load_config("preset:default", given).config, folder, SilentDisplay())


def prepare(folder: Path, volumes: int, seed: int) -> Path:
    """Phantoms, prepared, in two folds."""
    write_phantom_dataset(folder / "raw", volumes=volumes, shape=(32, 32, 32), scrolls=1, seed=seed)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2"]) == 0
    return folder / "prepared"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    prepared = prepare(folder, 4, 3)
    train(folder / "a", prepared)
    train(folder / "b", prepared, "loss.terms.soft_dice.weight=3")
    train(folder / "other-fold", prepared, "data.fold=1")
    return folder


@pytest.fixture
def runs(trained, tmp_path) -> list[Path]:
    """Copies of two of the runs, without scores."""
    return [Path(shutil.copytree(trained / name, tmp_path / name)) for name in ("a", "b")]


def forbidden(*told: object) -> None:
    raise AssertionError("predicted again")


def test_scores_are_those_of_an_evaluation_and_are_found_once(runs, monkeypatch):
    first = compare_runs(runs)
    evaluation = evaluate_run(runs[0], keep=False, steps=False)
    for case in evaluation.cases:
        for name, value in case.values.items():
            assert first.entries[0].scores["a"].own[case.id][name] == pytest.approx(value, nan_ok=True)
    monkeypatch.setattr(comparing_scores._Work, "_logits", forbidden)
    again = compare_runs(runs[::-1], reference=str(runs[0]))
    for one, other in zip(first.rankings, again.rankings, strict=True):
        assert one.verdict == other.verdict
        assert [(each.label, each.mean) for each in one.standings] == [
            (each.label, each.mean) for each in other.standings
        ]
    assert not list(runs[0].glob(f"{PARTIAL}*"))
    assert not list(runs[0].glob(".lock-*"))


def test_at_the_matched_share_the_predicted_one_is_the_true_one(runs):
    found = compare_runs(runs)
    for one in found.scored:
        for scores in one.scores.values():
            assert scores.point is not None
            if scores.point.threshold is not None:
                predicted = [scores.at_matched[case]["predicted_share"] for case in scores.own]
                true = [scores.own[case]["true_share"] for case in scores.own]
                assert np.mean(predicted) == pytest.approx(np.mean(true), rel=0.2)
                assert scores.at_matched
    assert [one.point for one in found.rankings] == [OWN, AT_MATCHED]


def test_what_was_broken_off_goes_on_and_damage_is_found_anew(runs, monkeypatch):
    whole = compare_runs([shutil.copytree(run, run.with_name(f"{run.name}-whole")) for run in runs])
    scored, original = 0, comparing_scores._scored

    def break_off(*given):
        nonlocal scored
        scored += 1
        if scored == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(comparing_scores, "_scored", break_off)
    with pytest.raises(KeyboardInterrupt):
        compare_runs(runs)
    assert not list(runs[0].glob(f"{PARTIAL}*"))
    lines = (runs[0] / KEPT).read_text().splitlines(keepends=True)
    assert lines
    (runs[0] / KEPT).write_text(lines[0].replace('"case"', '"cASe"', 1) + "".join(lines[1:]))
    said: list[str] = []
    again = compare_runs(runs, warn=said.append)
    assert any("found anew" in sentence for sentence in said)
    for one, other in zip(whole.scored, again.scored, strict=True):
        for left, right in zip(one.scores.values(), other.scores.values(), strict=True):
            np.testing.assert_equal(dict(left.own), dict(right.own))
            np.testing.assert_equal(dict(left.at_matched), dict(right.at_matched))
            np.testing.assert_equal(dict(left.terms), dict(right.terms))


def test_the_command_writes_every_format_and_says_what_it_cannot_tell(trained, runs, tmp_path, capsys):
    out = [tmp_path / name for name in ("page.html", "table.csv", "table.tex")]
    shutil.rmtree(runs[1] / "checkpoints")
    command = ["compare", *map(str, runs), str(trained / "other-fold"), "--html", str(out[0]), "--csv", str(out[1])]
    assert volumen([*command, "--latex", str(out[2]), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert all(path.stat().st_size for path in out)
    lines = {line["name"]: line["cells"] for line in record["tables"][0]["lines"]}
    assert {name: cells["scored"]["text"] for name, cells in lines.items()} == {
        "a": "yes",
        "b": "no",
        "other-fold": "yes",
    }
    assert lines["a"]["row"]["text"] == lines["other-fold"]["row"]["text"]
    assert any("b: " in note and "checkpoint" in note for note in record["tables"][0]["notes"])
    assert all(one["winner"] is None for one in record["rankings"])
    assert volumen(["compare", str(runs[0]), str(trained / "other-fold"), "--each"]) == 0
    assert "different volumes" in capsys.readouterr().out


def test_runs_of_other_data_are_refused(runs, tmp_path, capsys):
    train(tmp_path / "c", prepare(tmp_path, 2, 9))
    assert volumen(["compare", str(runs[0]), str(tmp_path / "c")]) == 2
    assert "different data sets" in capsys.readouterr().err
    assert not (runs[0] / KEPT).exists()
