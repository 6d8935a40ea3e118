"""A few runs of the proof of repair, small: an arm has its steps, the fault comes once, what is done is kept."""

import contextlib
import io
import json
from dataclasses import replace
from itertools import count

import pytest

from volumen.cli.main import run
from volumen.doctor.benchmark.arm_running import read_arms, run_repair
from volumen.doctor.benchmark.arms import MAXIMUM_SHARE, ArmDraw, healthy_beside, plan_repair
from volumen.runs.records import read_metrics, read_run_logs

pytestmark = pytest.mark.timeout(900)  # a busy machine takes several times as long
EPOCHS, STEPS = 4, 6
SHORT = {"training.epochs": EPOCHS, "steps_per_epoch": STEPS, "training.monitoring": {"probe_every_steps": STEPS}}
BUDGET = round(EPOCHS * (1 + MAXIMUM_SHARE)) * STEPS
DRAW = replace(  # on a set-up that is learned soon
    next(one.draw for one in plan_repair(only="rate_too_low") if one.draw.group == "fault"), setup="noisy"
)
ARMS = [
    ArmDraw("healthy", healthy_beside(DRAW)),
    *(ArmDraw(arm, DRAW) for arm in ("nothing", "tournament", "random", "restart")),
]


@pytest.fixture(scope="module")
def repair(tmp_path_factory):
    """A folder with the arms of one draw, and their results by arm."""
    out = tmp_path_factory.mktemp("repair")
    results, failures = run_repair(out, ARMS, values=SHORT)
    assert not failures
    return out, {one.arm: one for one in results.values()}


def test_every_arm_keeps_to_the_budget(repair):
    _, by_arm = repair
    for arm in ("healthy", "nothing", "random", "restart"):
        assert by_arm[arm].steps == BUDGET, arm
    tournament = by_arm["tournament"]
    assert tournament.steps == EPOCHS * STEPS + tournament.trial_steps <= BUDGET


def test_arms_are_the_same_run_until_something_is_done(repair):
    out, by_arm = repair
    losses = {arm: _losses(out / "runs" / ArmDraw(arm, DRAW).name) for arm in ("nothing", "random")}
    done = by_arm["random"].diagnosed_step
    same = [one == other for one, other in zip(losses["nothing"], losses["random"], strict=True)]
    assert all(same[: None if done is None else done // STEPS])
    if by_arm["random"].done:
        assert not all(same)


def _losses(folder):
    return [one["total"] for one in read_metrics(folder) if one["kind"] == "train"]


def test_the_fault_costs_something_and_a_random_remedy_is_an_intervention(repair):
    out, by_arm = repair
    assert by_arm["nothing"].dice < by_arm["healthy"].dice - 0.05
    events = read_run_logs(out / "runs" / ArmDraw("random", DRAW).name).events
    asked = [one for one in events if one["kind"] == "intervention"]
    assert len(asked) == len(by_arm["random"].done)
    assert not [one for one in events if one["kind"] == "refused"]


def test_what_is_done_is_not_done_again_and_the_command_reports_it(repair):
    out, by_arm = repair
    seen = count()
    again, _ = run_repair(out, ARMS, values=SHORT, progress=lambda name, done, of: next(seen))
    assert next(seen) == 0
    assert again == read_arms(out)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run(["doctor-bench", "--repair", "--out", str(out), "--seconds", "0", "--json"]) == 0
    found = json.loads(said.getvalue())
    assert found == json.loads((out / "repair.json").read_text())
    planned = {one.name for one in plan_repair()} & set(again)  # the faulty ones are on another set-up than there
    assert found["runs"] == len(planned) > 0
    assert [one["dice"] for one in found["results"]] == [by_arm["healthy"].dice]
    assert "| tournament |" in (out / "repair.md").read_text()


def test_a_fault_beyond_repair_is_refused(tmp_path, capsys):
    assert run(["doctor-bench", "--repair", "--out", str(tmp_path), "--only", "label_flip"]) == 2
    assert "of the data" in capsys.readouterr().err
