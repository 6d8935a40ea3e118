"""What people ask a training for: in order, whole, and only where somebody trains."""

import inspect
import threading
from pathlib import Path

import pytest

from volumen.cli import intervene
from volumen.config.intervention import KINDS, described, read_intervention
from volumen.config.load import load_config
from volumen.errors import UserError
from volumen.runs.folder import EVENTS, WORK, RunFolder
from volumen.runs.requests import ask, next_request, wait_for_answer
from volumen.system.locks import hold

SCALE = read_intervention("rate_scale", ["factor=3"])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.claim(tmp_path / "run")
    folder.write_config(load_config("preset:default", ["data.dataset=nowhere"]).config)
    return folder


def test_requests_come_back_in_order_as_they_were_asked(run):
    wanted = [SCALE, read_intervention("optimiser", ["to={kind: adamw, learning_rate: 0.5, betas: [0.8, 0.9]}"])]
    with hold(run.path, WORK):
        assert next_request(run.path, run.owner, 0) is None
        numbers = [ask(run.path, one, now=one is SCALE).number for one in wanted]
    assert numbers == [1, 2]
    found = [next_request(run.path, run.owner, done) for done in (0, 1)]
    assert [one.intervention for one in found if one] == wanted
    assert [one.now for one in found if one] == [True, False]
    assert next_request(run.path, run.owner, 2) is None


def test_two_that_ask_at_once_get_two_numbers(run):
    with hold(run.path, WORK):
        threads = [threading.Thread(target=ask, args=(run.path, SCALE), kwargs={"now": True}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(next_request(run.path, run.owner, done) for done in range(4))


def test_nobody_is_asked_where_nobody_trains(run):
    with pytest.raises(UserError, match="is not being trained now"):
        ask(run.path, SCALE, now=True)
    assert not (run.path / "requests").exists()
    with pytest.raises(UserError, match="is not a run folder"):
        ask(run.path / "requests", SCALE, now=True)


def test_a_damaged_request_or_one_of_another_run_is_said(run):
    with hold(run.path, WORK):
        ask(run.path, SCALE, now=True)
    with pytest.raises(UserError, match="or it is of another run"):
        next_request(run.path, "another", 0)
    (file,) = (run.path / "requests").glob("*.json")
    file.write_text(file.read_text().replace('"factor": 3.0', '"factor": 300.0'))
    with pytest.raises(UserError, match="is damaged"):
        next_request(run.path, run.owner, 0)


def test_a_new_run_in_the_folder_of_a_false_start_has_no_requests(run):
    with hold(run.path, WORK):
        ask(run.path, SCALE, now=True)
    again = RunFolder.claim(run.path)
    again.write_config(load_config("preset:default", ["data.dataset=nowhere"]).config)
    assert next_request(again.path, again.owner, 0) is None


def test_the_answer_is_found_among_the_events_or_will_not_come(run):
    with pytest.raises(UserError, match="ended before it came to request 1"):
        wait_for_answer(run.path, 1)
    numbers = {"gain": 0.1, "sigma": 0.01}
    run.event(4, 2, {"kind": "tournament", "request": 1, "winner": "rate_scale factor 3", **numbers})
    run.event(4, 2, {"kind": "tournament", "request": 2, "winner": "control", **numbers})
    run.event(4, 2, {"kind": "refused", "request": 3, "reason": "there is no such term"})
    run.event(4, 2, {"kind": "intervention", "request": 4, "what": "unfreeze"})
    found = [wait_for_answer(run.path, number) for number in (1, 2, 3, 4)]
    assert [one.text for one in found] == [
        "kept: +0.1000 over the control, noise 0.0100",
        "not kept, the run is as it was: +0.1000 over the control, noise 0.0100",
        "there is no such term",
        "done before step 5",
    ]
    assert [one.refused for one in found] == [False, False, True, False]
    assert (run.path / EVENTS).is_file()


def test_the_command_names_every_kind():
    help_text = str(inspect.signature(intervene.intervene).parameters["kind"].annotation.__metadata__[0].help)
    assert set(help_text.rstrip(".").replace(" or ", ", ").split(", ")) == set(KINDS)
    assert described([SCALE]) == "rate_scale factor 3"


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        ("rate_scales", [], "there is no intervention 'rate_scales': choose one of rate_scale"),
        ("rate_scale", [], "required and missing"),
        ("rate_scale", ["factor=-1"], "got -1"),
        ("rate_scale", ["factr=1", "factor=1"], "did you mean intervention.factor"),
        ("rate_scale", ["factor"], "there is no `=`"),
    ],
)
def test_mistakes_are_told(kind, parameters, reason):
    with pytest.raises(UserError, match=reason.replace("?", ".")):
        read_intervention(kind, parameters)
