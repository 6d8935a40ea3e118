"""What each step of the post-processing does to held-out volumes, and which of them are named."""

import json
import math

import numpy as np
import pytest
from tests.scored_sheets import HARMFUL, evaluation, pipeline, sheets

from volumen.experiments.distribution import Judgement, ProbabilityCounts, judge_share
from volumen.experiments.scoring import Evaluation
from volumen.experiments.step_scores import StepScore, score_steps, step_effects
from volumen.metrics import leaderboard
from volumen.postprocess import Counts, StepReport, apply_pipeline, report_pipeline
from volumen.system.records import typed


def test_the_steps_are_those_of_the_pipeline_and_the_last_score_is_the_mask_s() -> None:
    probabilities, label = sheets(0)
    settings = pipeline({"kind": "sharpen_ridges"}, {"kind": "threshold"}, {"kind": "close"}, {"kind": "median"})
    scored = score_steps(probabilities, settings, label)
    mask, reports = report_pipeline(probabilities, settings)
    assert np.array_equal(scored.mask, mask)
    assert tuple(step.report for step in scored.steps) == reports
    assert scored.score == leaderboard(mask, label)
    assert scored.steps[-1].score == scored.score.score
    for number, step in enumerate(scored.steps, 2):  # each score is that of the pipeline cut off there
        cut = settings.model_copy(update={"steps": settings.steps[:number]})
        assert step.score == leaderboard(apply_pipeline(probabilities, cut), label).score


def test_a_case_s_own_score_is_that_of_its_last_step_and_its_counts_are_its_labelled_voxels() -> None:
    found = evaluation(pipeline({"kind": "threshold"}, {"kind": "close"}))
    for seed, case in enumerate(found.cases):
        counts = case.probability_counts
        assert counts is not None
        assert case.steps[-1].score == case.values["leaderboard"]
        label = sheets(seed)[1]
        assert sum(counts.surface) == int((label == 1).sum())
        assert sum(counts.background) == int((label == 0).sum())
    total = found.probability_counts
    assert total == ProbabilityCounts.total(ProbabilityCounts.of(*sheets(seed)) for seed in range(4))


def test_a_step_that_turns_nothing_is_not_scored_again(monkeypatch) -> None:
    from volumen.experiments import step_scores

    calls: list[int] = []
    score = step_scores.score_masks
    monkeypatch.setattr(step_scores, "score_masks", lambda *given: (calls.append(1), score(*given))[1])
    probabilities, label = sheets(0)
    idle = {"kind": "remove_small_components", "minimum_voxels": 1}
    scored = score_steps(probabilities, pipeline({"kind": "threshold"}, idle, {"kind": "close"}), label)
    assert len(calls) == 2
    assert scored.steps[1].score == scored.steps[0].score
    assert scored.steps[1].report.before == scored.steps[1].report.after


def test_a_harmful_step_is_named_and_harmless_ones_are_not() -> None:
    found = evaluation(pipeline({"kind": "threshold"}, {"kind": "close"}, HARMFUL))
    (warning,) = (one for one in found.warnings if one.startswith("the step"))
    effect = found.step_effects[2]
    assert warning == (
        f"the step open lowers the leaderboard score by {-effect.difference:.4f} ± {effect.noise:.4f} "
        "over 4 held-out volumes: leave it out"
    )
    differences = [case.steps[2].score - case.steps[1].score for case in found.cases]
    assert effect.difference == pytest.approx(np.mean(differences))
    assert effect.noise == pytest.approx(np.std(differences, ddof=1) / 2)
    close = found.step_effects[1]
    assert close.difference >= 0
    assert close.sentence == ""
    assert not any(one.startswith("the step") for one in found.degenerate)
    good = evaluation(pipeline({"kind": "threshold"}, {"kind": "close"}))
    assert not any("the step" in one for one in (*good.warnings, *good.remarks))


def steps(*scores: float) -> tuple[StepScore, ...]:
    counts = Counts(10, 1, 0, 0)
    return tuple(StepScore(StepReport(name, 1, 0, counts, counts), score)
                 for name, score in zip(("threshold", "close", "close"), scores, strict=False))  # fmt: skip


def test_a_loss_within_two_standard_errors_is_called_noise() -> None:
    effects = step_effects([steps(0.5, 0.47), steps(0.5, 0.52), steps(0.5, 0.49)])
    assert effects[1].sentence == "the step close lowers the leaderboard score by 0.0067 ± 0.0145 over 3 held-out " \
        "volumes: within the noise"  # fmt: skip
    assert effects[0].sentence == ""  # the step that decides has nothing before it
    (_, sure) = step_effects([steps(0.5, 0.4), steps(0.6, 0.5), steps(0.7, 0.6)])
    assert not sure.within_noise
    (_, chance) = step_effects([steps(0.5, 0.4), steps(0.6, 0.5)])
    assert "2 volumes do not tell whether that is noise" in chance.sentence
    (_, single) = step_effects([steps(0.5, 0.4)])
    assert math.isnan(single.noise or 0.0)
    assert single.within_noise
    assert "one volume does not tell" in single.sentence


def test_repeated_steps_are_told_apart_and_unequal_ones_refused() -> None:
    effects = step_effects([steps(0.5, 0.6, 0.7)])
    assert [one.name for one in effects] == ["threshold", "close (1)", "close (2)"]
    assert step_effects([]) == ()
    assert step_effects([steps(0.5), ()]) == ()
    with pytest.raises(ValueError, match="different steps"):
        step_effects([steps(0.5), steps(0.5, 0.6)])


@pytest.mark.parametrize("volumes", [1, 3])
def test_the_record_is_strict_json_and_reads_back(volumes) -> None:
    found = evaluation(pipeline({"kind": "threshold", "level": 0.4}, {"kind": "close"}, HARMFUL), volumes)
    verdicts = (Judgement("loss.x", "<= 1", None, None), *judge_share({"a": 0.9}, [0.1, 0.2]))
    found = Evaluation(found.cases, found.settings, ("note",), verdicts, (0.1, 0.2))
    again = typed(json.loads(json.dumps(found.to_dict(), allow_nan=False)), Evaluation, "a record", "")
    assert again.to_dict() == found.to_dict()
    assert again.cases[0].steps == found.cases[0].steps
    assert again.cases[0].probability_counts == found.cases[0].probability_counts
    assert (again.verdicts, again.label_range) == (verdicts, (0.1, 0.2))
    assert again.operating_point == found.operating_point
    assert found.operating_point is not None
    assert found.operating_point.threshold == 0.4
    assert "predicted_share within 7.5 to 25.0 %" in found.to_dict()["verdicts"][1]["sentence"]
    assert found.to_dict()["verdicts"][1]["sentence"].endswith("missed, 90.0 %")


def test_without_a_single_threshold_on_these_probabilities_there_is_no_operating_point() -> None:
    hysteresis = evaluation(pipeline({"kind": "hysteresis", "low": 0.3, "high": 0.7}), 1)
    assert hysteresis.operating_point is None
    assert evaluation(pipeline({"kind": "sharpen_ridges"}, {"kind": "threshold"}), 1).operating_point is None
    assert hysteresis.probability_counts is not None
