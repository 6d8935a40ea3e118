"""A beginning of the benchmark, small: faults do harm, healthy runs learn, what is done is not done again."""

import contextlib
import io
import json

import pytest

from volumen.cli.main import run
from volumen.doctor.benchmark.bench import read_results, run_bench
from volumen.doctor.benchmark.drawing import plan
from volumen.doctor.benchmark.examiners import examiners
from volumen.doctor.benchmark.running import RESULT
from volumen.monitors.history import read_history
from volumen.monitors.seen import ProbeSeen, StepsSeen, ValidationSeen

pytestmark = pytest.mark.timeout(900)  # a busy machine takes several times as long
SHORT = {"training.epochs": 3}
SETUP = "noisy"
KINDS = ("half_overflow", "off_by_one_down", "loss_sign", "healthy")


def _chosen():
    """The first draw of each kind on one set-up."""
    found = {}
    for draw in plan():
        if draw.setup == SETUP and draw.kind in KINDS:
            found.setdefault((draw.kind, draw.seed if draw.group == "healthy" else 0), draw)
    healthy = [draw for (kind, _), draw in found.items() if kind == "healthy"][:2]
    return [*healthy, *(draw for (kind, _), draw in found.items() if kind != "healthy")]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A folder with some runs, their results, and those by kind."""
    out = tmp_path_factory.mktemp("bench")
    results, failures = run_bench(out, _chosen(), values=SHORT)
    assert not failures
    return out, results, {result.draw.kind: result for result in results.values()}


def test_healthy_runs_learn_and_faults_do_harm(bench):
    _, results, by_kind = bench
    healthy = [one.dice for one in results.values() if one.draw.kind == "healthy"]
    assert min(healthy) > 0.6
    harmful = [one for kind, one in by_kind.items() if kind != "healthy"]
    assert len(harmful) >= 3
    for one in harmful:
        assert one.dice < min(healthy) - 0.1, one.draw.kind


def test_what_is_kept_can_be_examined_and_is_small(bench):
    out, results, _ = bench
    for name in results:
        folder = out / "runs" / name
        assert not (folder / "checkpoints").exists()
        assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000
        for examine in examiners().values():
            examine(folder)
    kinds = {type(one) for one in read_history(out / "runs" / _chosen()[0].name).records}
    assert kinds >= {ProbeSeen, StepsSeen, ValidationSeen}


def test_the_monitors_speak_of_faults(bench):
    out, _, by_kind = bench
    examine = examiners()["monitors"]
    spoken = {kind: examine(out / "runs" / one.draw.name).alarm for kind, one in by_kind.items() if kind != "healthy"}
    assert sum(spoken.values()) >= len(spoken) - 1


def test_what_is_done_is_not_done_again_and_what_is_damaged_is(bench):
    out, results, by_kind = bench
    seen = []
    again, _ = run_bench(out, _chosen(), values=SHORT, progress=lambda name, done, of: seen.append(name))
    assert again == results
    assert not seen
    victim = by_kind["off_by_one_down"].draw
    path = out / "runs" / victim.name / RESULT
    path.write_text(path.read_text().replace('"dice": 0', '"dice": 1', 1))
    assert victim.name not in read_results(out)
    mended, _ = run_bench(out, _chosen(), values=SHORT, progress=lambda name, done, of: seen.append(name))
    assert seen == [victim.name]
    assert mended[victim.name].dice == results[victim.name].dice


def test_the_command_examines_what_is_there(bench):
    out, results, _ = bench
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run(["doctor-bench", "--out", str(out), "--seconds", "0", "--half", "report", "--json"]) == 0
    found = json.loads(said.getvalue())
    assert found == json.loads((out / "report.json").read_text())
    assert "| monitors |" in (out / "report.md").read_text()
    assert {one["examiner"] for one in found["scores"]} >= {"doctor", "monitors", "autotrainer", "umlaut", "sagemaker"}
    variants = {one.draw.variant for one in results.values() if one.draw.group == "fault"}
    assert {one["name"] for one in found["undecided"]} == variants  # one run each: nothing can be said yet
