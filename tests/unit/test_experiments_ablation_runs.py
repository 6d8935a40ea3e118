"""What the one in charge of an ablation's runs makes of their ends; the processes are played."""

from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from pebble import ProcessExpired
from tests.unit.test_experiments_ablation import planned, result

from volumen.config.remedies import CONTROL
from volumen.errors import UserError
from volumen.experiments import ablation_runs
from volumen.experiments.ablation_runs import RESULTS, RunResult, _Ended, read_results, run_jobs

CALM = {"calm": {"optimiser.learning_rate": 1e-4}}


@pytest.fixture
def done(monkeypatch):
    """Jobs that were begun, in order; `ends` says how each ends."""
    begun = []

    class Pool:
        def schedule(self, function, args):
            begun.append(args[0])
            future = Future()
            end = ends(args[0])
            if isinstance(end, BaseException):
                future.set_exception(end)
            else:
                future.set_result(end)
            return future

    @contextmanager
    def pool_of(count):
        yield Pool()

    monkeypatch.setattr(ablation_runs, "pool_of", pool_of)

    def ends(job):
        return done_ends.get(job.candidate, _Ended(result(0.5, job.key)))

    done_ends = {}
    return begun, done_ends


def run(plan, out, told=lambda text: None, progress=lambda *said: None):
    jobs = plan.jobs(out)
    found = run_jobs(jobs, plan.control, out, processes=2, keep=False, progress=progress, warn=told)
    return jobs, *found


def test_what_is_done_is_not_done_again_and_more_seeds_add_runs(done, tmp_path):
    begun, _ = done
    told, shown = [], []
    jobs, results, problems = run(planned(CALM, seeds=(5,)), tmp_path, told.append, lambda *said: shown.append(said))
    assert [job.key for job in begun] == [job.key for job in jobs]
    assert set(results) == {job.key for job in jobs}
    assert not problems
    assert any(text.startswith("forecast") for text in told)
    assert shown[-1][1:] == (40, 40)
    more, results, _ = run(planned(CALM, seeds=(5, 6)), tmp_path)
    assert [job.key for job in begun[2:]] == [job.key for job in more if job.seed == 6]
    assert set(results) == {job.key for job in more}
    run(planned(CALM, seeds=(5, 6)), tmp_path)
    assert len(begun) == 4


def test_results_come_back_as_they_were_kept(done, tmp_path):
    jobs, results, _ = run(planned(CALM), tmp_path)
    assert results[jobs[0].key] == result(0.5, jobs[0].key)
    assert read_results(tmp_path, lambda text: pytest.fail(text)) == results


def test_a_damaged_result_is_said_and_made_again(done, tmp_path):
    begun, _ = done
    run(planned(CALM), tmp_path)
    lines = (tmp_path / RESULTS).read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"0.5", b"0.9", 1)
    (tmp_path / RESULTS).write_bytes(b"\n".join(lines))
    told = []
    run(planned(CALM), tmp_path, told.append)
    assert len(begun) == 5
    assert "done again" in told[0]


def test_a_diverged_run_is_a_result_and_one_without_room_is_tried_again(done, tmp_path):
    begun, ends = done
    ends["calm"] = _Ended(RunResult(1.0, failed="diverged: nan"))
    jobs, results, problems = run(planned(CALM), tmp_path)
    assert results[jobs[1].key].failed == "diverged: nan"
    assert not problems
    hot = {"hot": {"optimiser.learning_rate": 1.0}}
    ends["hot"] = _Ended(problem="not enough memory")
    for _ in range(2):
        jobs, results, problems = run(planned(hot), tmp_path)
        assert problems == {job.key: "not enough memory" for job in jobs if job.candidate == "hot"}
    assert [job.candidate for job in begun[4:]] == ["hot"] * 4


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (_Ended(problem="no data"), "the control cannot be trained: no data"),
        (_Ended(), "asked from outside to stop"),
        (ProcessExpired("gone"), "ended from outside"),
    ],
)
def test_what_nothing_can_be_compared_after_ends_it(done, tmp_path, end, says):
    _, ends = done
    ends[CONTROL] = end
    with pytest.raises(UserError, match=says):
        run(planned(CALM), tmp_path)
