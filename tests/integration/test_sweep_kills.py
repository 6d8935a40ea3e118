"""Workers of a sweep that are killed at random moments: no trial is lost, and none is counted twice."""

import multiprocessing
import os
import random
import signal
import sys
import time

import pytest

from sweep_stubs import Quick, plan_of, right
from volumen.experiments.sweep_desk import CONFIRM, TRIALS, Desk
from volumen.experiments.sweep_halving import BASELINE
from volumen.experiments.sweep_report import report_of
from volumen.experiments.sweep_workers import _work

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked and looked up")
KILLS = 20


def start(out, plan):
    """A worker; forked, since a new interpreter takes longer than the whole sweep."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(out, plan, Quick(out, 0.01), 2, there))
    process.start()
    there.close()
    return process, here


def finish(out, plan, workers):
    """Let workers end by themselves."""
    while any(process.is_alive() for process, _ in workers):
        time.sleep(0.01)
        assert not (out / "violations").exists(), (out / "violations").read_text()
    return [process.exitcode for process, _ in workers]


@pytest.mark.timeout(900)  # on a machine with other work
def test_two_workers_one_killed_twenty_times(tmp_path):
    seed = random.SystemRandom().randrange(2**32)  # another one each time
    print(f"seed {seed}")
    chance, plan = random.Random(seed), plan_of(trials=60, confirm=2, seed=seed)
    workers = [start(tmp_path, plan) for _ in range(2)]
    for _ in range(KILLS):
        victim = chance.randrange(2)
        process, said = workers[victim]
        assert said.poll(120), "it took no trial"  # from here on it takes, trains and reports
        time.sleep(chance.uniform(0.0, 0.15))
        assert process.is_alive(), "the sweep was over before the last kill: give it more trials"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        workers[victim] = start(tmp_path, plan)
    assert finish(tmp_path, plan, workers) == [0, 0]

    desk = Desk(tmp_path, plan)
    entries, again = desk.entries(), desk.entries(CONFIRM)
    assert [one.number for one in entries] == list(range(60))
    assert all(one.is_ended(plan.rungs) for one in entries)
    assert right(entries, plan.rungs)
    assert all(one.values or one.reason.startswith("the same configuration") for one in entries), "one was given up"
    assert len(entries[BASELINE].values) == len(plan.rungs)
    assert len(again) == len({(one.of, one.seed) for one in again}) == 9
    assert right(again, plan.rungs[-1:])
    states = [one.state.name for one in desk.storage.get_all_trials(desk._id(TRIALS))]
    report = report_of(plan, entries, again, 60)
    assert states.count("COMPLETE") == len(report.complete)
    assert states.count("PRUNED") == len(report.stopped) + len(report.refused) == 60 - len(report.complete)
    assert not (tmp_path / "violations").exists()
    claims = [log["user_attr"]["claim"] for log in desk.journal.read_logs(0) if "claim" in log.get("user_attr", ())]
    reached = sum(len(one.values) for one in (*entries, *again))
    retaken = sum(bool(one["token"]) for one in claims) - reached
    print(f"{KILLS} killed, {retaken} trials were taken from the dead, {reached} rungs reached")
    assert retaken > 0, "nobody was killed at work"


def test_all_killed_at_once_again_and_again(tmp_path):
    """One worker: whenever it was killed, the sweep is what it would have been."""
    whole, torn, chance = tmp_path / "whole", tmp_path / "torn", random.Random(1)
    found = {}
    for out, kills in ((whole, 0), (torn, 8)):
        out.mkdir()
        plan = plan_of(trials=16, sampler="tpe", confirm=1)
        for _ in range(kills):
            process, _ = start(out, plan)
            time.sleep(chance.uniform(0.02, 0.2))
            process.kill()
            process.join()
        worker = start(out, plan)
        assert finish(out, plan, [worker]) == [0]
        desk = Desk(out, plan)
        found[out] = [(one.parameters, one.values, one.reason, one.of, one.seed)
                      for study in (TRIALS, CONFIRM) for one in desk.entries(study)]  # fmt: skip
    assert found[whole] == found[torn]
