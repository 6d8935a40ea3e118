"""Resume equals never having stopped, bit for bit, whatever the number of workers and wherever the stop came."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.small_datasets import MEANINGS, write_dataset

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.errors import UserError
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run, run_config
from volumen.runs.records import read_metrics
from volumen.runs.run import load_for_inference
from volumen.system.stopping import raise_if_wanted
from volumen.training import loop
from volumen.training.listener import Outcome
from volumen.training.loop import run_training

TIMES = {"seconds", "loader_seconds", "memory_gb", "run", "trusted"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    from volumen.cli.main import run

    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=3, shape=(32, 32, 40), scrolls=1, seed=1)
    assert run(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert run(["folds", str(folder / "prepared"), "--folds", "3"]) == 0
    return folder / "prepared"


def configuration(prepared: Path, *overrides: str) -> Config:
    return load_config(
        "preset:default",
        [
            f"data.dataset={prepared}",
            "data.patch=[16, 16, 16]",
            "data.sampling.patches_per_epoch=6",
            "data.workers=0",
            "model.filters=2",
            "model.depth=2",
            "training.epochs=3",
            "training.validate_every_epochs=1",
            "postprocessing.steps=[{kind: threshold}]",
            *overrides,
        ],
    ).config


class Told(Exception):
    """What a run says before its first step."""


class Asks(SilentDisplay):
    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        raise Told(facts["notes"])


def test_a_training_is_told_that_its_voxels_are_no_cubes(tmp_path: Path) -> None:
    source = write_dataset(
        tmp_path / "source", {"a": "s", "b": "s"}, meanings=MEANINGS + "spacing_um: [80, 7.6, 7.6]\n"
    )
    dataset = prepare(source, tmp_path / "prepared")
    save_folds(make_folds(dataset, 2, "volume", 0)[0], tmp_path / "prepared" / "folds.json")
    with pytest.raises(Told, match=r"the voxels of b, a are no cubes \(80 x 7\.6 x 7\.6 um, z x y x x\)"):
        run_training(
            configuration(tmp_path / "prepared", "data.folds=" + str(tmp_path / "prepared" / "folds.json")),
            tmp_path / "run",
            Asks(),
        )


class StopAt(SilentDisplay):
    """Sends the process the signal that a scheduler would, after a given number of steps of this sitting."""

    def __init__(self, steps: int, number: int = signal.SIGTERM) -> None:
        self.left, self.number = steps, number

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


def weights(run: Path) -> dict[str, Any]:
    return open_run(run).checkpoints.load_latest(lambda text: pytest.fail(text))


def same(left: Any, right: Any, path: str = "") -> None:
    """Equal to the last bit, but for times."""
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            if key not in TIMES:
                same(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            same(a, b, f"{path}[{index}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right or (left != left and right != right), path


EVERYTHING = (
    "optimiser.learning_rate=1e-2",
    "training.swa={start_epoch: 1, learning_rate: 1e-3}",
    "training.weight_noise={start_epoch: 1, every_epochs: 1}",
    "training.degradation={epochs: 1, catastrophic_share: 1e-6, rollback: true}",
    "training.intervention={kind: plan, formula: aggressive}",
    "schedule={kind: plateau, patience: 0}",
)


@pytest.mark.parametrize(("workers", "stops"), [(0, (2,)), (0, (3, 1)), (0, (4, 3)), (1, (4, 3)), (2, (4, 3))], ids=str)
def test_resume_equals_never_having_stopped(prepared, tmp_path, workers, stops):
    whole = configuration(prepared, *EVERYTHING)
    run_training(whole, tmp_path / "whole", SilentDisplay())
    config = configuration(prepared, *EVERYTHING, f"data.workers={workers}")
    outcome = run_training(config, tmp_path / "parts", StopAt(stops[0]))
    assert outcome.state == "stopped"
    for steps in stops[1:]:
        assert run_training(config, tmp_path / "parts", StopAt(steps), resume=True).state == "stopped"
    assert run_training(config, tmp_path / "parts", SilentDisplay(), resume=True).state == "finished"
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    left.pop("config"), right.pop("config")  # they differ in data.workers
    same(left, right)
    same(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts"))


class StopAtStart(SilentDisplay):
    """Asks to stop before the first step of a sitting, while what makes patches is still being started."""

    def started(self, run: Path, config: Config, facts: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_is_stopped_before_a_step_goes_on_from_there(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "wait_for_workers", lambda workers: raise_if_wanted())
    config = configuration(prepared, *EVERYTHING)
    run_training(config, tmp_path / "whole", SilentDisplay())
    assert run_training(config, tmp_path / "parts", StopAtStart()).state == "stopped"
    assert run_training(config, tmp_path / "parts", StopAt(3), resume=True).state == "stopped"
    assert run_training(config, tmp_path / "parts", StopAtStart(), resume=True).state == "stopped"
    assert run_training(config, tmp_path / "parts", SilentDisplay(), resume=True).state == "finished"
    same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    same(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts"))


class StopWhileValidating(SilentDisplay):
    """Asks to stop during the second validation."""

    def validating(self, state: Any, done: int, of: int) -> None:
        if state.cursor.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_validation_that_was_stopped_is_done_again_under_the_objective_of_its_epoch(prepared, tmp_path):
    first = "{name: first, start_epoch: 0, weights: {soft_dice: 1.0}}"
    second = "{name: second, start_epoch: 1, weights: {cross_entropy: 1.0}}"
    terms = "loss.terms={soft_dice: {weight: 1.0}, cross_entropy: {weight: 1.0}}"
    config = configuration(prepared, terms, f"loss.curriculum=[{first}, {second}]", "training.epochs=2")
    run_training(config, tmp_path / "whole", SilentDisplay())
    assert run_training(config, tmp_path / "parts", StopWhileValidating()).state == "stopped"
    assert weights(tmp_path / "parts")["ended_epoch"]
    assert run_training(config, tmp_path / "parts", SilentDisplay(), resume=True).state == "finished"
    same(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts"))


def test_the_run_folder_tells_the_story(prepared, tmp_path):
    config = configuration(prepared, *EVERYTHING)
    outcome = run_training(config, tmp_path / "run", SilentDisplay())
    assert outcome.state == "finished"
    records = read_metrics(tmp_path / "run")
    train = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in train] == [3, 6, 9]
    for record in (record for record in records if record["kind"] in ("train", "validation", "validation_swa")):
        assert record["total"] == pytest.approx(sum(record["weighted"].values()), rel=1e-6)
        assert 0 <= record["predicted_share"] <= 1
    assert [record["kind"] for record in records].count("validation") == 3
    assert [record["kind"] for record in records].count("validation_swa") == 1
    events = [json.loads(line)["kind"] for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert "weight_noise" in events
    assert events[-1] == "finished"
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["epoch"]) == ("finished", 3)
    for which in ("best", "last", "plain", "average", "swa"):
        model, read = load_for_inference(tmp_path / "run", which)
        assert read == config
        assert not model.training


DIVERGING = (
    "training.epochs=6",
    "training.average=null",
    "optimiser={kind: sgd, learning_rate: 3.0, nesterov: false, momentum: 0.0}",
    "schedule={kind: constant}",
    "training.gradient_clip=null",
    "training.degradation={epochs: 1, catastrophic_share: 1e-9, rollback: true}",
)


class StopAtRollback(SilentDisplay):
    """Asks the run to stop as soon as it has gone back, before another step changes what was restored."""

    def event(self, event: dict[str, Any]) -> None:
        if event["kind"] == "rollback":
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_rollback_restores_the_best_state_whole_and_is_an_event(prepared, tmp_path):
    outcome = run_training(configuration(prepared, *DIVERGING), tmp_path / "run", StopAtRollback())
    assert outcome.state == "stopped", "a rate of 3 never made the loss worse: the test tests nothing"
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    (rollback,) = [event for event in events if event["kind"] == "rollback"]
    assert rollback["cause"] == "catastrophic_degradation"
    store = open_run(tmp_path / "run").checkpoints
    best, last = store.load_best(pytest.fail), store.load_latest(pytest.fail)
    assert last["cursor"]["step"] > best["cursor"]["step"]
    for part in ("model", "optimiser", "rate"):
        same(best[part], last[part])


def test_nothing_is_rolled_back_after_the_last_step(prepared, tmp_path):
    """It would lead nowhere, and take the averages of the last epochs with it."""
    run_training(configuration(prepared, *DIVERGING), tmp_path / "long", SilentDisplay())
    events = [json.loads(line) for line in (tmp_path / "long" / "events.jsonl").read_text().splitlines()]
    bad = next(event["step"] for event in events if event["kind"] == "rollback")
    # The same run, planned to end at the very validation that made the longer one go back.
    short = configuration(prepared, *DIVERGING, f"training.epochs={bad // 3}")
    run_training(short, tmp_path / "short", SilentDisplay())
    lines = (tmp_path / "short" / "events.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert [kind for kind in kinds if kind not in ("sign", "diagnosis")] == ["finished"]


def test_the_mistakes_of_starting_and_resuming(prepared, tmp_path):
    config = configuration(prepared, "training.epochs=1")
    run_training(config, tmp_path / "run", SilentDisplay())
    with pytest.raises(UserError, match="exists already: go on with it by --resume"):
        run_training(config, tmp_path / "run", SilentDisplay())
    with pytest.raises(UserError, match=r"another configuration \(seed 0 -> 2\)"):
        run_training(
            configuration(prepared, "training.epochs=1", "seed=2"), tmp_path / "run", SilentDisplay(), resume=True
        )
    with pytest.raises(UserError, match="is not a run folder"):
        run_training(config, tmp_path / "elsewhere", SilentDisplay(), resume=True)
    with pytest.raises(UserError, match="fold 7 does not exist"):
        run_training(configuration(prepared, "data.fold=7"), tmp_path / "new", SilentDisplay())
    assert not (tmp_path / "new").exists()


def test_a_time_budget_plans_the_epochs_and_the_schedule_ends_with_them(prepared, tmp_path):
    config = configuration(prepared, "training.epochs=500")
    outcome: Outcome = run_training(config, tmp_path / "run", SilentDisplay(), time_budget_seconds=3.0)
    assert outcome.state == "out_of_time"
    assert 1 <= outcome.epochs < 500
    last = [record for record in read_metrics(tmp_path / "run") if record["kind"] == "train"][-1]
    assert last["learning_rate"] < config.optimiser.learning_rate


def events_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["kind"] == kind]


CHANGES = {
    "training.epochs=5": True,
    "training.early_stopping={patience: 3}": True,
    "device=cpu": True,
    "precision=fp32": True,
    "data.workers=1": True,
    "name=other": True,
    "experiment.hypothesis=longer is better": True,
    "inference.engine=torch": True,
    "inference.batch=2": True,
    "seed=5": False,
    "training.selection_metric=voi": False,
    "optimiser.learning_rate=2e-3": False,
    "schedule={kind: constant}": False,
    "data.batch=1": False,
    "postprocessing.steps=[{kind: threshold, level: 0.4}]": False,
    "training.gradient_clip=3.0": False,
}


def test_what_changes_on_resume_is_applied_and_said_or_refused_by_name(prepared, tmp_path):
    """Drawn: several changes at once are refused if one of them is, and that one is named."""
    run, left = tmp_path / "run", dict(CHANGES)
    run_training(configuration(prepared), run, StopAt(2))
    random = np.random.default_rng(3)
    while left:
        drawn = [str(one) for one in random.choice(list(left), size=min(2, len(left)), replace=False)]
        config = configuration(prepared, *drawn)
        refused = [one.partition("=")[0].split(".steps")[0] for one in drawn if not CHANGES[one]]
        if refused:
            with pytest.raises(UserError, match=r"another configuration .* may change") as error:
                run_training(config, run, SilentDisplay(), resume=True)
            assert all(key in str(error.value) for key in refused)
        else:
            again = tmp_path / f"copy {len(left)}"
            shutil.copytree(run, again)
            assert run_training(config, again, SilentDisplay(), resume=True).state == "finished"
            (said,) = events_of(again, "changed")
            assert all(one.partition("=")[0].split(".early")[0] in str(said) for one in drawn)
            assert run_config(again) == config
        for one in drawn if all(CHANGES[one] for one in drawn) else [one for one in drawn if not CHANGES[one]]:
            left.pop(one)


def test_a_finished_run_goes_on_with_more_epochs_or_a_larger_budget(prepared, tmp_path):
    run = tmp_path / "run"
    run_training(configuration(prepared, "training.epochs=1"), run, SilentDisplay())
    with pytest.raises(UserError, match="leaves room for no step"):
        run_training(configuration(prepared, "training.epochs=3"), run, SilentDisplay(), resume=True,
                     time_budget_seconds=1e-3)  # fmt: skip
    longer = configuration(prepared, "training.epochs=3")
    assert run_training(longer, run, SilentDisplay(), resume=True).epochs == 3
    rates = [record["learning_rate"] for record in read_metrics(run) if record["kind"] == "train"]
    assert len(rates) == 3
    assert rates[1] > rates[2]
    assert [event["planned"] for event in events_of(run, "planned_steps")] == [9]
    with pytest.raises(UserError, match=r"has done 3 epochs, training\.epochs is 2"):
        run_training(configuration(prepared, "training.epochs=2"), run, SilentDisplay(), resume=True)
    endless = configuration(prepared, "training.epochs=500")
    outcome = run_training(
        endless, run, SilentDisplay(), resume=True, time_budget_seconds=2 * weights(run)["seconds"] + 5
    )
    assert outcome.state == "out_of_time"
    assert 3 < outcome.epochs < 500
    assert weights(run)["budget_seconds"] is not None
    more = run_training(endless, run, SilentDisplay(), resume=True, time_budget_seconds=2 * weights(run)["seconds"] + 5)
    assert more.epochs > outcome.epochs
    assert run_config(run) == endless
