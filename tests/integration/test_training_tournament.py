"""Repair within a training: what nobody won leaves no trace, a kill changes nothing, what helps stays."""

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.intervention import read_intervention
from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.monitors.sign import Sign
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.report import write_report
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_metrics, read_run_logs, read_status
from volumen.runs.requests import ask
from volumen.training.listener import Outcome
from volumen.training.loop import run_training
from volumen.training.step import NonFiniteError

TIMES = {"seconds", "loader_seconds", "memory_gb", "run", "trusted", "config"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=2, shape=(32, 32, 32), scrolls=1, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2", "--by", "volume"]) == 0
    return folder / "prepared"


def configuration(prepared: Path, *overrides: str) -> Config:
    small = [
        f"data.dataset={prepared}", "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=6", "data.workers=0",
        "model.filters=4", "model.depth=2", "training.epochs=3", "training.validate_every_epochs=1", "data.batch=2",
        "postprocessing.steps=[{kind: threshold, level: 0.165}]", "precision=fp32", "device=cpu", "inference.overlap=0",
    ]  # fmt: skip
    return load_config("preset:default", [*small, *overrides]).config


def sees(name: str, after_epoch: int = 1, **numbers: float) -> Any:
    """A monitor that sees one thing, after so many epochs."""

    def signs(session: Any) -> Sequence[Sign]:
        cursor = session.state.cursor
        if cursor.epoch != after_epoch:
            return ()
        return (Sign("R4", name, "warn", f"{name} was seen", cursor.epoch - 1, cursor.step, numbers=numbers),)

    return signs


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_run_logs(run).events if event["kind"] == kind]


def last(run: Path) -> dict[str, Any]:
    return open_run(run).checkpoints.load_latest(pytest.fail)


def same(left: Any, right: Any, path: str = "") -> None:
    """Equal to the last bit, but for times."""
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left.keys() - TIMES:
            if key == "repairs":
                same(json.loads(left[key]), json.loads(right[key]), path)
            else:
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
    "training.swa={start_epoch: 1}",
    "training.weight_noise={start_epoch: 1, every_epochs: 1}",
    "schedule={kind: plateau, patience: 0}",
)
PATIENT = "training.intervention={kind: tournament, steps: 4, maximum_share: 10, cool_off_epochs: 9"


def test_a_tournament_that_nobody_won_leaves_no_trace(prepared, tmp_path):
    run_training(configuration(prepared, *EVERYTHING), tmp_path / "without", SilentDisplay())
    config = configuration(prepared, *EVERYTHING, f"{PATIENT}, minimum_sigma: 10}}")
    outcome = run_training(config, tmp_path / "with", SilentDisplay(), signs_of=sees("plateau"))
    assert outcome.state == "finished"
    (tournament,) = events(tmp_path / "with", "tournament")
    assert tournament["winner"] == "control"
    assert len(set(tournament["metrics"].values())) == 3, "the branches are alike: the test tests nothing"
    without, held = last(tmp_path / "without"), last(tmp_path / "with")
    repairs = json.loads(held.pop("repairs"))
    assert (repairs["held"], repairs["kept"], repairs["cost_steps"], len(repairs["tried"])) == (1, 0, 12, 2)
    same(without, held)
    same(read_metrics(tmp_path / "without"), read_metrics(tmp_path / "with"))
    status = read_status(tmp_path / "with")
    assert status is not None
    assert status["repairs"]["cost_steps"] == 12
    write_report(tmp_path / "with")


SLOW = (
    "optimiser={kind: adamw, learning_rate: 3e-5}",  # a thousandth of what learns here
    "schedule={kind: constant}",
    "training.average=null",
    "training.monitoring=null",
    "model.depth=1",
    f"{PATIENT}, minimum_sigma: 1e-4}}".replace("steps: 4", "steps: 3"),
)
TOO_SLOW = sees("update_too_small")


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    run_training(configuration(prepared, *SLOW), run, SilentDisplay(), signs_of=TOO_SLOW)
    return run


def test_what_beats_the_control_stays(prepared, undisturbed, tmp_path):
    (tournament,) = events(undisturbed, "tournament")
    (act,) = events(undisturbed, "intervention")
    assert tournament["winner"] == "rate_scale factor 30"
    assert tournament["gain"] > 2 * tournament["sigma"] > 0
    assert (act["what"], act["factor"], act["by"]) == ("rate_scale", 30.0, "tournament")
    assert last(undisturbed)["rate"]["value"] == pytest.approx(30 * 3e-5)
    left_alone = run_training(
        configuration(prepared, *SLOW[:-1], "training.intervention=null"), tmp_path / "run", SilentDisplay()
    )
    repaired = read_status(undisturbed)
    assert repaired is not None
    assert repaired["best"]["value"] > left_alone.best_metric + 2 * tournament["sigma"]
    # The winner's steps are made once more as the run's own: no epoch is missing or written twice, and the validation
    # after them says what the trial said, to the last digit.
    validations = [one["metrics"]["dice"] for one in read_metrics(undisturbed) if one["kind"] == "validation"]
    assert validations[1] == tournament["metrics"]["rate_scale factor 30"]
    assert [one["step"] for one in read_metrics(undisturbed) if one["kind"] == "train"] == [3, 6, 9]


class Killed(BaseException):
    """Nobody catches it, as nobody catches a SIGKILL."""


class At(SilentDisplay):
    """Does something at a step of a branch."""

    def __init__(self, phase: str, step: int, act: Any) -> None:
        self.phase, self.step, self.act = phase, step, act

    def trying(self, state: Any, branch: str, done: int, of: int) -> None:
        if branch == self.phase and done == self.step:
            self.act()


def die() -> None:
    raise Killed


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("phase", "step"),
    [("control", 2), ("rate_scale factor 10", 3), ("rate_scale factor 30", 0), ("judging", 3)],
)
def test_a_kill_in_the_middle_of_a_tournament_changes_nothing(prepared, undisturbed, tmp_path, phase, step):
    config = configuration(prepared, *SLOW)
    with pytest.raises(Killed):
        run_training(config, tmp_path / "run", At(phase, step, die), signs_of=TOO_SLOW)
    assert last(tmp_path / "run")["repairs"]
    outcome = run_training(config, tmp_path / "run", SilentDisplay(), resume=True, signs_of=TOO_SLOW)
    assert outcome.state == "finished"
    same(last(undisturbed), last(tmp_path / "run"))
    same(read_metrics(undisturbed), read_metrics(tmp_path / "run"))


def test_a_branch_that_is_asked_to_stop_goes_on_where_it_was(prepared, undisturbed, tmp_path):
    config = configuration(prepared, *SLOW)
    stopping = At("rate_scale factor 10", 2, ask_to_stop)
    assert run_training(config, tmp_path / "run", stopping, signs_of=TOO_SLOW).state == "stopped"
    left = last(tmp_path / "run")
    assert (left["cursor"]["step"], left["branch"]["cursor"]["step"]) == (3, 5)
    assert left["rate"]["scale"] == 1.0  # the run's own state is not the branch's
    steps: list[int] = []

    class Counts(SilentDisplay):
        def trying(self, state: Any, branch: str, done: int, of: int) -> None:
            steps.extend([done] if branch == "rate_scale factor 10" and done else [])

    run_training(config, tmp_path / "run", Counts(), resume=True, signs_of=TOO_SLOW)
    assert steps == [3]
    same(last(undisturbed), last(tmp_path / "run"))


def test_a_fault_of_the_data_ends_the_run_unless_it_is_to_keep_going(prepared, tmp_path):
    config = configuration(prepared, f"{PATIENT}}}")
    outcome = run_training(config, tmp_path / "run", SilentDisplay(), signs_of=sees("half_range"))
    assert (outcome.state, outcome.epochs) == ("sick", 1)
    assert "half_range was seen" in outcome.reason
    status = read_status(tmp_path / "run")
    assert status is not None
    assert (status["state"], status["reason"]) == ("sick", outcome.reason)
    write_report(tmp_path / "run")
    assert "half_range was seen" in (tmp_path / "run" / "report.html").read_text()
    going = configuration(prepared, f"{PATIENT}}}", "training.keep_going=true")
    gone_on = run_training(going, tmp_path / "run", SilentDisplay(), resume=True, signs_of=sees("half_range", 2))
    assert (gone_on.state, gone_on.epochs) == ("finished", 3)
    assert not events(tmp_path / "run", "tournament")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [("steps: 3", "too little of it is left"), ("steps: 9", "does not fit into the 6 that are left")],
)
def test_a_tournament_that_costs_too_much_is_not_held(prepared, tmp_path, settings, reason):
    config = configuration(prepared, *SLOW[:-1], f"training.intervention={{kind: tournament, {settings}}}")
    assert run_training(config, tmp_path / "run", SilentDisplay(), signs_of=TOO_SLOW).state == "finished"
    (event,) = events(tmp_path / "run", "no_tournament")
    assert reason in event["reason"]
    assert not events(tmp_path / "run", "tournament")


def test_the_command_says_that_a_run_is_sick_and_takes_keep_going(prepared, tmp_path, monkeypatch, capsys):

    taken = []

    def ends_sick(config: Config, *arguments: Any, **options: Any) -> Outcome:
        taken.append(config.training.keep_going)
        return Outcome("sick", 2, 0.1, 0, "R6 half_range: all probabilities lie between 0.5 and 0.73")

    monkeypatch.setattr("volumen.api.starting.run_training", ends_sick)
    run_training(configuration(prepared, "training.epochs=1"), tmp_path / "run", SilentDisplay())
    assert volumen(["train", str(tmp_path / "run"), "--resume", "--quiet", "--keep-going"]) == 1
    assert taken == [True]
    said = " ".join(capsys.readouterr().out.split())
    assert "R6 half_range: all probabilities lie between 0.5 and 0.73" in said
    assert "--resume --keep-going" in said


def test_the_runs_own_monitors_are_answered(prepared, tmp_path):
    config = configuration(
        prepared, "optimiser={kind: adamw, learning_rate: 1e-7}", "schedule={kind: constant}", "training.epochs=6",
        "training.average=null", "training.monitoring.probe_every_steps=3", f"{PATIENT}, minimum_sigma: 1e-4}}",
    )  # fmt: skip
    assert run_training(config, tmp_path / "run", SilentDisplay()).state == "finished"
    (tournament,) = events(tmp_path / "run", "tournament")
    assert tournament["cause"] == "rate_too_low"
    assert any("a step changes the weights by" in text for text in tournament["signs"])
    assert list(tournament["metrics"]) == ["control", "rate_scale factor 10", "rate_scale factor 30"]


def test_a_number_that_is_not_finite_is_answered_from_the_last_checkpoint(prepared, tmp_path, monkeypatch):
    from volumen.training import advance

    real, broken = advance.training_step, []

    def breaks_once(*arguments: Any, **options: Any) -> Any:
        broken.append(None)
        if len(broken) == 5:  # in the second epoch
            raise NonFiniteError("the loss is not finite: term soft_dice")
        return real(*arguments, **options)

    monkeypatch.setattr(advance, "training_step", breaks_once)
    config = configuration(prepared, f"{PATIENT}}}", "training.average=null")
    assert run_training(config, tmp_path / "run", SilentDisplay()).state == "finished"
    assert [one["what"] for one in events(tmp_path / "run", "intervention")] == ["reload_best", "rate_scale"]
    assert last(tmp_path / "run")["rate"]["scale"] == 0.3
    assert last(tmp_path / "run")["cursor"]["step"] == 9
    broken.clear()
    with pytest.raises(NonFiniteError):
        run_training(configuration(prepared), tmp_path / "other", SilentDisplay())


class Asks(SilentDisplay):
    """People who ask for things after the first epoch, each from a thread of its own that waits for the answer."""

    def __init__(self, run: Path, *requests: Sequence[str]) -> None:
        self.run, self.requests = run, requests
        self.codes: list[int] = []
        self.threads: list[threading.Thread] = []

    def epoch_ended(self, state: Any, record: Any, validation: Any) -> None:
        if state.cursor.epoch != 1:
            return
        for number, request in enumerate(self.requests, start=1):
            self.threads.append(threading.Thread(target=self.ask, args=(request,)))
            self.threads[-1].start()
            while self.threads[-1].is_alive() and len(list((self.run / "requests").glob("*.json"))) < number:
                time.sleep(0.01)

    def ask(self, request: Sequence[str]) -> None:
        self.codes.append(volumen(["intervene", str(self.run), *request, "--wait"]))


def test_people_are_answered_in_order_between_two_epochs(prepared, tmp_path, capsys):
    run = tmp_path / "run"
    people = Asks(
        run,
        ["--kind", "rate_scale", "--factor", "2", "--now"],
        ["--kind", "gradient_clip", "--value", "100"],
        ["--kind", "drop_term", "--name", "fun"],
    )
    assert run_training(configuration(prepared), run, people).state == "finished"
    for thread in people.threads:
        thread.join()
    first, *_ = events(run, "intervention")
    assert (first["request"], first["what"], first["by"], first["step"]) == (1, "rate_scale", "person", 3)
    (tournament,) = events(run, "tournament")
    assert (tournament["request"], tournament["step"]) == (2, 3)
    assert list(tournament["metrics"]) == ["control", "gradient_clip value 100"]
    (refused,) = events(run, "refused")
    assert refused["request"] == 3
    assert sorted(people.codes) == [0, 0, 2]
    said = capsys.readouterr()
    assert "request 2: gradient_clip value 100, against a control" in said.out
    assert "done before step 4" in said.out
    assert "error: refused: the objective has no term 'fun'" in said.err
    assert last(run)["rate"]["scale"] == 2.0
    with pytest.raises(UserError, match="is not being trained now"):
        ask(run, read_intervention("unfreeze"), now=True)
