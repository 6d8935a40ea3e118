"""Who has a trial: one living worker at a time; what a dead one had goes on, what a lost one reports does not count."""

import pytest

from sweep_stubs import Quick, plan_of, worth
from volumen.experiments import sweep_beats, sweep_desk
from volumen.experiments.sweep_beats import beat, owner_of
from volumen.experiments.sweep_desk import MOST_DEATHS, Desk, Job, Reached, Refused
from volumen.experiments.sweep_halving import DONE, WAIT


@pytest.fixture
def desks(tmp_path):
    plan = plan_of(trials=3, rungs=(1, 3))
    return Desk(tmp_path, plan, Quick(tmp_path).saved), Desk(tmp_path, plan, Quick(tmp_path).saved)


def done(job):
    return Reached(worth(dict(job.entry.parameters), job.epochs, job.entry.seed))


def from_elsewhere(monkeypatch):
    monkeypatch.setattr(sweep_desk, "machine", lambda: "elsewhere")
    monkeypatch.setattr(sweep_beats, "machine", lambda: "elsewhere")


def test_two_desks_never_give_the_same_trial(desks):
    one, other = desks
    jobs = [one.take(), other.take(), one.take()]
    assert [job.entry.number for job in jobs] == [0, 1, 2]
    assert other.take() == WAIT
    for job in jobs:
        one.report(job, done(job))
        job.close()
    last = other.take()
    assert last.entry.number == 0  # the configuration itself goes to the end
    assert last.epochs == 3


def test_a_result_counts_once_and_only_from_who_has_the_trial(desks):
    one, other = desks
    lost = one.take()
    lost.close()  # as its process would by dying
    taken = other.take()
    assert taken.entry.number == lost.entry.number == 0
    assert not one.report(lost, Reached(0.9))
    assert not one.report(lost, Refused("diverged"))
    assert other.report(taken, done(taken))
    assert not other.report(taken, Reached(0.1))
    one.release(lost)
    assert other.entries()[0].values == (done(taken).value,)


def test_a_silent_worker_of_another_machine_is_dead_after_a_while_by_the_clock_of_who_looks(desks, monkeypatch):
    one, other = desks
    clock = [0.0]
    monkeypatch.setattr(sweep_beats.time, "monotonic", lambda: clock[0])
    job = one.take()
    job.close()  # its lock is not seen here
    from_elsewhere(monkeypatch)
    kept = [other.take()]
    assert kept[-1].entry.number == 1
    clock[0] = sweep_beats.SILENT_SECONDS - 1
    beat(job.claims, job.claim.token)  # it lives
    kept.append(other.take())
    assert kept[-1].entry.number == 2
    clock[0] = 2 * sweep_beats.SILENT_SECONDS - 2
    assert other.take() == WAIT
    clock[0] = 2 * sweep_beats.SILENT_SECONDS
    kept.append(other.take())
    assert kept[-1].entry.number == 0
    assert owner_of(job.claims) != job.claim.token, "the lost one sees that it is lost"


def test_a_trial_that_kills_its_workers_is_given_up_and_one_that_gets_on_is_not(desks, tmp_path):
    one, _ = desks
    for number in range(3 * MOST_DEATHS):  # something new is saved each time
        job = one.take()
        assert job.entry.number == 0
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "epochs").write_text(str(number + 1))
        job.close()
    for _ in range(MOST_DEATHS):
        job = one.take()
        assert job.entry.number == 0
        job.close()
    assert one.take().entry.number == 1
    assert "processes ended" in one.entries()[0].reason


def test_releasing_is_no_death(desks):
    one, _ = desks
    for _ in range(3 * MOST_DEATHS):
        job = one.take()
        assert job.entry.number == 0
        one.release(job)
        job.close()


def test_more_trials_go_on_behind_the_first_and_what_cannot_be_trained_counts(tmp_path):
    for trials in (2, 6):
        desk = Desk(tmp_path, plan_of(trials=trials, rungs=(1,)))
        desk.want(trials)
        while isinstance(job := desk.take(), Job):
            desk.report(job, Refused("diverged") if job.entry.number == 1 else done(job))
            job.close()
        assert job == DONE
        assert len(desk.entries()) == trials
    desk.want(3)
    assert desk.trials == 6
    assert desk.entries()[1].reason == "diverged"


def test_no_configuration_is_trained_twice(tmp_path):
    desk = Desk(tmp_path, plan_of(trials=9, rungs=(1,), space=sweep_space()))
    while isinstance(job := desk.take(), Job):
        desk.report(job, done(job))
        job.close()
    trained = [one for one in desk.entries() if one.values]
    own = desk.plan.config.model.filters
    assert {one.parameters.get("model.filters", own) for one in trained} == {own, *range(8, 13)}
    assert len(trained) == len({own, *range(8, 13)})
    assert all("the same configuration as trial" in one.reason for one in desk.entries() if not one.values)


def sweep_space():
    from volumen.experiments.sweep_space import Factor, Space

    return Space((Factor("model.filters", "here:1", low=8, high=12, whole=True),))
