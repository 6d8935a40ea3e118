"""How an experiment stands: its runs, the difference from its parent, verdicts, the next step; and the commands."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tests.run_folders import log, new_run, status, status_record, train_record, validation_record

from volumen.cli.main import run as volumen
from volumen.ledger.entry import read_entry, read_ledger
from volumen.ledger.picture import picture_of

CONFIG = "base: preset:default\nname: one\ndata: {dataset: somewhere}\nexperiment:\n  hypothesis: It learns.\n"


@pytest.fixture(scope="module")
def pattern(tmp_path_factory) -> Path:
    """A working folder with a configuration, runs of it, and one of another configuration of that name."""
    folder = tmp_path_factory.mktemp("pattern")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("one.yaml").write_text(CONFIG)
        trained("one-fold0", 0.1)
        trained("one-fold1", 0.1, "data.fold=1", "seed=5", "training.epochs=7")
        trained("one-faster", 0.1, "optimiser.learning_rate=0.02")
    return folder


@pytest.fixture
def work(pattern, tmp_path, monkeypatch) -> Path:
    """A copy to work in."""
    monkeypatch.chdir(shutil.copytree(pattern, tmp_path / "work"))
    return Path()


def trained(name: str, slope: float, *overrides: str, how: str = "finished") -> Path:
    """A run of six epochs whose Dice rises by so much an epoch."""
    run = new_run(Path("runs") / name, "name=one", *overrides)
    for epoch in range(6):
        metrics = validation_record(epoch)["metrics"] | {"dice": 0.1 + slope * epoch}
        log(run, "metrics.jsonl", train_record(epoch))
        log(run, "metrics.jsonl", validation_record(epoch, metrics=metrics))
    status(run, status_record(state=how, epoch=6, planned_epochs=200))
    return run


def shown(capsys, *arguments: str) -> dict:
    capsys.readouterr()
    assert volumen(["experiment", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def made(*arguments: str) -> None:
    assert volumen(["experiment", "new", *arguments]) == 0


def test_runs_are_found_by_their_configuration_folds_and_seeds_apart(work, capsys):
    made("first", "--config", "one.yaml", "--criterion", "val.dice > 0.5")
    found = shown(capsys, "show", "first")
    assert [run["run"] for run in found["judged_runs"]] == ["runs/one-fold0", "runs/one-fold1"]
    assert (found["state"], found["hypothesis"]) == ("met", "It learns.")
    made("faster", "--config", "one.yaml", "-o", "optimiser.learning_rate=0.02", "--parent", "first")
    assert [run["run"] for run in shown(capsys, "show", "faster")["judged_runs"]] == ["runs/one-faster"]
    made("named", "--config", "one.yaml", "--run", "runs/one-faster", "--criterion", "val.dice > 0.9")
    named = shown(capsys, "show", "named")
    assert ([run["run"] for run in named["judged_runs"]], named["state"]) == (["runs/one-faster"], "failed")


def test_the_difference_is_computed_and_more_than_one_factor_is_called_out(work, capsys):
    made("first", "--config", "one.yaml")
    made("one", "--config", "one.yaml", "--parent", "first", "-o", "data.batch=4")
    made("two", "--config", "one.yaml", "--parent", "first", "-o", "data.batch=4", "-o", "optimiser.learning_rate=0.1")
    made("none", "--config", "one.yaml", "--parent", "first", "-o", "name=other")
    made("open", "--parent", "first")
    found = {name: shown(capsys, "show", name) for name in ("first", "one", "two", "none", "open")}
    assert list(found["one"]["factors"]) == ["batch size"]
    assert found["one"]["warning"] == ""
    assert list(found["two"]["factors"]) == ["learning rate", "batch size"] or len(found["two"]["factors"]) == 2
    assert "2 factors differ" in found["two"]["warning"]
    assert found["none"]["factors"] == {}
    assert found["first"]["factors"] is None
    assert found["open"]["factors"] is None
    for path in Path("experiments").glob("*.yaml"):
        assert "batch size" not in path.read_text()
    assert volumen(["experiment", "show", "two"]) == 0
    said = capsys.readouterr().out
    assert "data.batch 2 -> 4" in said
    assert "cannot be credited to one of them" in said


def test_a_hypothesis_that_a_base_hands_down_is_not_the_childs(work, capsys):
    made("first", "--config", "one.yaml")
    Path("child.yaml").write_text("base: one.yaml\nname: child\ndata: {batch: 4}\n")
    made("child", "--config", "child.yaml", "--parent", "first")
    Path("other.yaml").write_text("base: one.yaml\nexperiment: {hypothesis: It is faster.}\n")
    made("other", "--config", "other.yaml", "--parent", "first")
    found = {name: shown(capsys, "show", name)["hypothesis"] for name in ("first", "child", "other")}
    assert found == {"first": "It learns.", "child": "", "other": "It is faster."}


def test_a_child_is_held_against_its_parents_run(work, capsys):
    trained("two-fold0", 0.15, "data.batch=4")
    made("first", "--config", "one.yaml")
    for delta, state in (("0.2", "met"), ("0.3", "failed")):
        made(f"child-{state}", "--config", "one.yaml", "-o", "data.batch=4", "--parent", "first",
             "--criterion", f"val.dice > parent + {delta}")  # fmt: skip
        assert shown(capsys, "show", f"child-{state}")["state"] == state


def test_where_it_fails_the_fallback_is_the_next_step(work, capsys):
    made("first", "--config", "one.yaml", "--criterion", "val.dice > 0.9", "--fallback", "drop the term",
         "--outcome", "it rises: 70% if val.dice > 0.3", "--outcome", "it stays: 20%")  # fmt: skip
    found = shown(capsys, "show", "first")
    assert "drop the term" in found["next"]
    assert found["judged_runs"][0]["outcomes"][0]["state"] == "met"
    assert volumen(["experiment", "close", "first"]) == 2
    assert "say with --outcome which came true" in capsys.readouterr().err
    assert volumen(["experiment", "close", "first", "--outcome", "3"]) == 2
    assert volumen(["experiment", "close", "first", "--outcome", "1", "--conclusion", "It rose."]) == 0
    assert volumen(["experiment", "note", "first", "and stayed there"]) == 0
    entry = read_entry(Path("experiments/first.yaml"))
    assert (entry.status, entry.came_true, entry.conclusion) == ("closed", 1, "It rose.")
    assert entry.notes[0].text == "and stayed there"
    calibration = shown(capsys, "list")["calibration"]
    assert (calibration["experiments"], calibration["forecasts"]) == (1, 2)
    assert calibration["brier"] == pytest.approx(0.3**2 + 0.2**2 + 0.1**2)


def test_a_run_that_goes_on_is_not_judged_to_the_end(work, capsys):
    trained("one-fold2", 0.1, "data.fold=2", how="running")
    made("first", "--config", "one.yaml", "--run", "runs/one-fold2", "--criterion", "val.dice > 0.9 by epoch 20",
         "--criterion", "val.dice > 0.3 by epoch 20")  # fmt: skip
    (run,) = shown(capsys, "show", "first")["judged_runs"]
    assert [one["state"] for one in run["verdicts"]] == ["not yet", "met"]


def test_a_log_of_another_program_is_a_run_too(work, capsys):
    rows = [f"{epoch},{0.6 - 0.02 * epoch:.3f},{0.65 - 0.02 * epoch:.3f}" for epoch in range(8)]
    Path("log.csv").write_text("epoch,train_loss,val_loss\n" + "\n".join(rows) + "\n")
    made("old", "--run", "log.csv", "--criterion", "val.loss < 0.6 by epoch 8", "--criterion", "val.loss < 0.4")
    (run,) = shown(capsys, "show", "old")["judged_runs"]
    assert [one["state"] for one in run["verdicts"]] == ["met", "failed"]


def test_a_run_that_cannot_be_read_is_said_and_the_others_are_judged(work, capsys):
    made("first", "--config", "one.yaml", "--run", "runs/gone", "--run", "runs/one-fold0", "--criterion", "r < 9",
         "--criterion", "val.dice > 0.5")  # fmt: skip
    found = shown(capsys, "show", "first")
    assert ["cannot be read" in run["fault"] or bool(run["fault"]) for run in found["judged_runs"]] == [True, False]
    for command in ("show", "list", "tree"):
        assert volumen(["experiment", command, *(["first"] if command == "show" else [])]) == 0
    assert "[" in capsys.readouterr().out


def test_a_run_that_is_named_and_not_there_yet_is_to_be_trained(work, capsys):
    made("first", "--config", "one.yaml", "--criterion", "val.dice > 0.5", "--run", "runs/later")
    found = shown(capsys, "show", "first")
    assert (found["state"], found["next"]) == ("no run", "volumen train one.yaml --out runs/later")
    assert volumen(["experiment", "tree"]) == 0
    assert "first  [no run]" in capsys.readouterr().out
    trained("later", 0.1)
    assert shown(capsys, "show", "first")["state"] == "met"


def test_a_tree_shows_each_once_below_its_parent(work, capsys):
    made("a", "--hypothesis", "x")
    made("b", "--hypothesis", "x", "--parent", "a")
    made("c", "--hypothesis", "x", "--parent", "b")
    made("d", "--hypothesis", "x", "--parent", "a")
    capsys.readouterr()
    assert volumen(["experiment", "tree"]) == 0
    lines = [line.split("  [")[0] for line in capsys.readouterr().out.splitlines() if "  [" in line]
    assert lines == ["a", "|- b", "|  `- c", "`- d"]


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["show", "x"], "volumen experiment new"),
        (["tree"], "volumen experiment new"),
        (["note", "x", "text"], "volumen experiment new x"),
        (["new", "x", "--parent", "nobody"], "make the parent first"),
        (["new", "x", "--criterion", "val.los < 1"], "did you mean val.loss"),
        (["new", "x", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["new", "x", "--outcome", "a: 150%"], "at most 1"),
    ],
)
def test_mistakes_say_their_fix_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, fix):
    monkeypatch.chdir(tmp_path)
    assert volumen(["experiment", *arguments]) == 2
    assert fix in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_what_people_write_drives_no_terminal(work, capsys):
    made("first", "--config", "one.yaml", "--hypothesis", "a\x1b[31mb [bold]c[/bold]")
    assert volumen(["experiment", "show", "first"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "[bold]c[/bold]" in said
    assert picture_of("first", read_ledger(Path("experiments"))).entry.hypothesis.startswith("a\x1b")
