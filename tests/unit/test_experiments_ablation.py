"""Ablations: runs are matched, differences paired, intervals Student's, and nothing within the noise is recommended."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from volumen.config.compare import diff_configs
from volumen.config.load import load_config
from volumen.config.remedies import CONTROL, remedies_of
from volumen.errors import UserError
from volumen.experiments.ablation_plan import AblationPlan, candidates_of, layout_of, reacts_to_validations
from volumen.experiments.ablation_report import (
    ALIKE,
    BETTER,
    FAILED,
    LEFT_OUT,
    SAME,
    UNTOLD,
    WORSE,
    AblationReport,
    compare,
)
from volumen.experiments.ablation_runs import RunResult
from volumen.experiments.differences import half_width, paired
from volumen.experiments.matched_share import LogitCounts, Matched, matched
from volumen.experiments.plan_remedies import WHY, plan_remedies
from volumen.metrics import overlap
from volumen.reporting.ablation_page import ablation_page
from volumen.training.schedule import schedule_factor

DEFAULT = load_config("preset:default", ["data.dataset=somewhere", "seed=5"]).config
PLAN = load_config("preset:conservative").config
finite = st.floats(-1e3, 1e3)


@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=8))
def test_an_interval_is_the_paired_t_tests(pairs):
    one, other = map(list, zip(*pairs, strict=True))
    found = paired(one, other)
    differences = np.subtract(one, other)
    assert found is not None
    assert found.mean == pytest.approx(float(differences.mean()))
    if np.ptp(differences) > 1e-9:
        low, high = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@pytest.mark.parametrize("comparisons", [1, 2, 8])
def test_looking_at_more_widens_the_interval(comparisons):
    wanted = stats.t.ppf(1 - 0.025 / comparisons, 2)
    assert half_width(1.0, 3, comparisons) == pytest.approx(wanted)


def test_seeds_without_a_partner_do_not_count():
    found = paired([1.0, None, 3.0, math.nan], [0.5, 1.0, None, 1.0])
    assert found is not None
    assert (found.pairs, found.mean) == (1, 0.5)
    assert math.isnan(found.half)
    assert paired([None], [1.0]) is None


@given(st.lists(finite, min_size=1, max_size=6), finite)
def test_what_is_the_same_differs_by_nothing(values, shift):
    same = paired(values, values)
    assert same is not None
    assert same.sign() == 0
    assert same.mean == 0


@given(st.integers(1, 5000), st.integers(1, 400))
def test_every_run_does_its_steps_exactly(steps, configured):
    layout = layout_of(steps, configured, reacts=False)
    assert layout.epochs * layout.steps_per_epoch == steps
    assert 1 <= layout.validate_every_epochs <= layout.epochs


def test_steps_that_can_be_divided_have_ten_epochs():
    assert layout_of(300, 100, reacts=True) == replace(layout_of(300, 100, reacts=False), validate_every_epochs=1)
    assert layout_of(300, 100, reacts=True).epochs == 10


def planned(changes, config=DEFAULT, seeds=(5, 6), steps=20, source=None) -> AblationPlan:
    remedies = remedies_of(changes, config, "test")
    reacts = any(reacts_to_validations(one.config) for one in remedies)
    layout = layout_of(steps, 100, reacts=reacts)
    origin = {"dataset": "d", "validation": ["v", "w"], "initial": None, "volumen": "0"}
    return AblationPlan(config, candidates_of(config, remedies, {}, source), layout, seeds, origin, source)


def test_runs_differ_from_the_control_in_the_remedy_alone(tmp_path):
    plan = planned({"calm": {"optimiser.learning_rate": 1e-4}, "batch": {"data.batch": 4}})
    jobs = {(job.candidate, job.seed): job for job in plan.jobs(tmp_path)}
    assert len(jobs) == len({job.key for job in jobs.values()}) == len({job.folder for job in jobs.values()}) == 6
    assert [job.seed for job in plan.jobs(tmp_path)] == [5, 5, 5, 6, 6, 6]
    for seed in (5, 6):
        control, calm = jobs[CONTROL, seed].config, jobs["calm", seed].config
        assert {each.key for each in diff_configs(control, calm)} == {"name", "optimiser.learning_rate"}
        assert control.seed == calm.seed == seed
        batch = jobs["batch", seed].config
        steps = [one.data.sampling.patches_per_epoch // one.data.batch for one in (control, calm, batch)]
        assert steps == [plan.layout.steps_per_epoch] * 3
        for epoch in range(plan.layout.epochs):
            factors = [schedule_factor(one.schedule, epoch, one.training.epochs, steps[0]) for one in (control, batch)]
            assert factors[0] == factors[1]
    assert "sees other patches" in " ".join(plan.candidates[2].notes)


def test_a_key_says_all_that_a_result_depends_on(tmp_path):
    plan = planned({"calm": {"optimiser.learning_rate": 1e-4}})
    other = planned({"calm": {"optimiser.learning_rate": 2e-4}})
    longer = planned({"calm": {"optimiser.learning_rate": 1e-4}}, steps=40)
    keys = [[job.key for job in one.jobs(tmp_path)] for one in (plan, other, longer)]
    assert [one == two for one, two in zip(keys[0], keys[1], strict=True)] == [True, False] * 2
    assert not set(keys[0]) & set(keys[2])
    moved = replace(plan, origin={**plan.origin, "dataset": "e"})
    assert not set(keys[0]) & {job.key for job in moved.jobs(tmp_path)}


def test_more_than_one_factor_is_called_out():
    plan = planned({"one": {"data.batch": 4}, "two": {"data.batch": 4, "optimiser.learning_rate": 1e-4}})
    one, two = plan.candidates[1:]
    assert not any("at once" in note for note in one.notes)
    assert any(
        "changes 2 factors at once (learning rate, batch size)" in note or "at once" in note for note in two.notes
    )


def test_another_network_cannot_begin_with_the_runs_weights(tmp_path):
    changes = {"wide": {"model.filters": 16}, "calm": {"optimiser.learning_rate": 1e-4}}
    wide, calm = planned(changes, source=tmp_path).candidates[1:]
    assert "without --from" in wide.left_out
    assert not calm.left_out
    assert {job.candidate for job in planned(changes, source=tmp_path).jobs(tmp_path)} == {CONTROL, "calm"}
    own = load_config("preset:default", ["data.dataset=somewhere", "model.initial_weights=a"]).config
    assert "without model.initial_weights" in planned(changes, own).candidates[1].left_out
    fresh = planned(changes).candidates[1]
    assert not fresh.left_out
    assert "another network" in " ".join(fresh.notes)
    with pytest.raises(UserError, match="nothing to try"):
        planned({"none": {"data.batch": DEFAULT.data.batch}})


def values_of(config, *sections):
    plain = config.model_dump(mode="json")
    return {name: plain[name] for name in sections}


def test_the_plan_is_the_presets():
    remedies, inapplicable = plan_remedies(PLAN, 500)
    found = {one.name: one for one in remedies}
    assert list(found) == list(WHY)
    assert not inapplicable
    sections = ("loss", "optimiser", "schedule", "training", "model", "data")
    dice_only = load_config("preset:dice_only").config
    assert values_of(found["dice_only"].config, *sections) == values_of(dice_only, *sections)
    combo = load_config("preset:combo", ["optimiser.learning_rate=4.9e-4"]).config
    assert values_of(found["combo"].config, *sections) == values_of(combo, *sections)
    curriculum = load_config("preset:curriculum", ["loss.curriculum.1.start_epoch=50"]).config
    assert values_of(found["curriculum"].config, *sections) == values_of(curriculum, *sections)
    assert found["double_filters"].config.model.filters == 64
    assert found["adamw"].factors == ("optimiser",)
    assert found["disable_variance"].factors == ("objective",)
    assert set(found["combo"].factors) == {"objective", "learning rate", "schedule"}


def test_solutions_that_do_not_apply_say_why():
    remedies, inapplicable = plan_remedies(DEFAULT, 10)
    assert set(inapplicable) == {"disable_variance", "adamw"}
    assert not {one.name for one in remedies} & set(inapplicable)
    assert next(one for one in remedies if one.name == "no_reduction").config.schedule.kind == "constant"


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_at_the_matched_share_as_much_is_predicted_as_there_is(seed, share):
    random = np.random.default_rng(seed)
    labels = [(random.random((6, 20, 20)) < share).astype(np.uint8) for _ in range(2)]
    for label in labels:
        label[0] = 2
    logits = [(3 * (label == 1) + random.normal(-4, 2, label.shape)).astype(np.float32) for label in labels]
    counts = [LogitCounts.of(one, label) for one, label in zip(logits, labels, strict=True)]
    found = matched(counts)
    assert found.threshold is not None
    assert found.predicted_share == pytest.approx(found.true_share, rel=0.02)
    cut = math.log(found.threshold / (1 - found.threshold))
    masks = [(one >= cut).astype(np.uint8) for one in logits]
    dice = [overlap(mask, label).dice for mask, label in zip(masks, labels, strict=True)]
    assert found.dice == pytest.approx(np.mean(dice), abs=0.01)
    shifted = matched([LogitCounts.of(one + np.float32(1.5), label) for one, label in zip(logits, labels, strict=True)])
    assert shifted.dice == pytest.approx(found.dice, abs=0.01), "only the operating point has moved"


def test_a_constant_has_no_matched_share():
    label = np.zeros((4, 8, 8), np.uint8)
    label[1] = 1
    found = matched([LogitCounts.of(np.full(label.shape, 0.3, np.float32), label)])
    assert (found.threshold, found.dice) == (None, None)
    assert found.true_share == 0.25
    assert matched([LogitCounts.of(np.zeros((4, 8, 8), np.float32), np.zeros((4, 8, 8), np.uint8))]).dice is None


def result(dice: float, weights: str = "", **changes) -> RunResult:
    point = Matched(0.4, 0.1, 0.1, dice, (dice, dice))
    metrics = {"dice": dice, "leaderboard_quick": dice / 2}
    cases = {"v": {"dice": dice}, "w": {"dice": dice + 0.1}}
    values = {
        "metrics": metrics,
        "cases": cases,
        "loss": 1 - dice,
        "terms": {"soft_dice": 1 - dice, "focal": 0.5},
        "matched": point,
        "weights": weights or str(dice),
    }
    return RunResult(1.0, **{**values, **changes})


def reported(tmp_path, results, seeds=(0, 1, 2), lost=()) -> AblationReport:
    """A report in which each remedy came to the given results."""
    names = [name for name in results if name != CONTROL]
    plan = planned({name: {"optimiser.learning_rate": 1e-4 * (n + 1)} for n, name in enumerate(names)}, seeds=seeds)
    work = plan.jobs(tmp_path)
    done = {job.key: results[job.candidate][seeds.index(job.seed)] for job in work}
    problems = {job.key: "no memory" for job in work if (job.candidate, job.seed) in lost}
    return compare(plan, work, {key: one for key, one in done.items() if key not in problems}, problems)


BASE = [result(0.50, "a"), result(0.52, "b"), result(0.48, "c")]


def shifted(*by: float) -> list[RunResult]:
    return [result(one.metrics["dice"] + shift) for one, shift in zip(BASE, by, strict=True)]


def test_verdicts(tmp_path):
    diverged = [RunResult(1.0, failed="diverged: the loss is not finite"), *shifted(0, 0.1, 0.1)[1:]]
    report = reported(
        tmp_path,
        {
            CONTROL: BASE,
            "up": shifted(0.100, 0.101, 0.099),
            "down": shifted(-0.1, -0.101, -0.099),
            "noisy": shifted(0.1, -0.1, 0.02),
            "same": BASE,
            "wild": diverged,
        },
    )
    rows = {row.name: row for row in report.rows}
    assert {name: row.verdict for name, row in rows.items()} == {
        CONTROL: "", "up": BETTER, "down": WORSE, "noisy": ALIKE, "same": SAME, "wild": FAILED,
    }  # fmt: skip
    assert "not finite (seed 0)" in rows["wild"].reason
    assert report.rows[0].name == CONTROL
    assert report.recommended == "up"
    assert rows["up"].differences["dice"].mean == pytest.approx(0.1)
    assert rows["up"].differences["loss"].mean == pytest.approx(-0.1)
    assert rows["up"].differences["loss.focal"].mean == 0
    assert rows["up"].differences["matched_dice"].pairs == 3
    page = ablation_page(report)
    assert all(name in page for name in rows)
    assert report.to_dict()["recommended"] == "up"


def test_a_gain_that_the_best_of_many_may_have_by_chance_is_not_recommended(tmp_path):
    by = (0.05, 0.1, 0.08)
    alone = reported(tmp_path, {CONTROL: BASE, "up": shifted(*by)})
    many = {f"other{number}": shifted(0.1, -0.1, 0.01 * number) for number in range(8)}
    among = reported(tmp_path, {CONTROL: BASE, "up": shifted(*by), **many})
    assert alone.recommended == "up"
    assert next(row for row in among.rows if row.name == "up").verdict == BETTER
    assert among.recommended == ""
    assert "more --seeds" in among.advice


@pytest.mark.parametrize("count", [1, 2])
def test_few_seeds_recommend_nothing(tmp_path, count):
    report = reported(tmp_path, {CONTROL: BASE[:count], "up": shifted(0.2, 0.2, 0.2)[:count]}, tuple(range(count)))
    row = report.rows[1]
    assert (row.verdict, report.recommended) == (UNTOLD, "")
    assert (row.over_cases is None) == (count > 1)
    assert math.isnan(row.differences["dice"].half) == (count == 1)
    assert "over the 2 volumes, not over seeds" in ablation_page(report) or count > 1


def test_without_a_control_nothing_is_compared(tmp_path):
    lost = [RunResult(1.0, failed="diverged")] * 3
    report = reported(tmp_path, {CONTROL: lost, "up": shifted(0.1, 0.1, 0.1)})
    assert report.rows[1].verdict == FAILED
    assert "nothing to compare with" in report.rows[1].reason
    assert report.recommended == ""
    assert "up" in ablation_page(report)


def test_what_could_not_be_run_or_was_left_out_is_a_row(tmp_path):
    report = reported(tmp_path, {CONTROL: BASE, "big": BASE}, lost=[("big", 1)])
    assert (report.rows[1].verdict, report.rows[1].reason) == (FAILED, "no memory (seed 1)")
    plan = planned({"wide": {"model.filters": 16}, "calm": {"optimiser.learning_rate": 1e-4}}, source=tmp_path)
    work = plan.jobs(tmp_path)
    left = compare(plan, work, {job.key: BASE[0] for job in work}, {})
    assert {row.name: row.verdict for row in left.rows}["wide"] == LEFT_OUT
    assert "not carried over" in " ".join(left.notes)


def test_what_a_file_says_is_text_on_the_page(tmp_path):
    plan = planned({"up": {"why": "<script>alert(1)</script>", "optimiser.learning_rate": 1e-4}})
    work = plan.jobs(tmp_path)
    page = ablation_page(compare(plan, work, {job.key: BASE[0] for job in work}, {}))
    assert "&lt;script&gt;alert" in page
    assert "<script" not in page
