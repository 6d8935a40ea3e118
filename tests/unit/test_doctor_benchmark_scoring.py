"""Figures of examiners whose answers are known."""

import json
import math
from pathlib import Path

import pytest

from volumen.doctor.benchmark.drawing import plan
from volumen.doctor.benchmark.examining import Alarm, Verdict, verdict_of
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.page import page_of
from volumen.doctor.benchmark.running import Result
from volumen.doctor.benchmark.scoring import score_of, scores_of, table_of, to_json
from volumen.files import strict_json

HARMFUL, NEUTRAL = {"swapped_classes", "nan_weight", "loss_sign"}, {"odd_scales"}
PLANNED = 216


def dice(draw):
    noise = (draw.seed % 7) / 1000
    if draw.kind in HARMFUL:
        return 0.1 + noise
    broken = draw.kind == "rate_triple"
    return 0.2 if broken else 0.9 + noise


def results():
    found = {}
    for draw in plan():
        if draw.group != "fault" or draw.kind in HARMFUL | NEUTRAL:
            onset = round(draw.onset * PLANNED) if draw.group == "fault" else None
            found[draw.name] = Result(draw, dice(draw), 0.5, "finished", PLANNED, onset, 1.0)
    return found


RESULTS = results()
TABLE = table_of(RESULTS)
OUT = Path("bench")


def examiner(alarms):
    return lambda run: verdict_of(alarms(RESULTS[run.name]))


def always(result):
    return [Alarm("always", PLANNED, "overfitting")]


def right(result):
    if result.draw.kind not in HARMFUL:
        return []
    return [Alarm("right", result.onset_step + 54, FAULTS[result.draw.kind].causes[0])]


def test_faults_are_sorted_by_the_harm_they_do():
    assert {one.kind for one in TABLE.harmful} == HARMFUL
    assert {one.kind for one in TABLE.neutral} == NEUTRAL
    assert not TABLE.undecided


def test_a_control_that_does_not_learn_is_set_aside():
    assert {RESULTS[name].draw.kind for name in TABLE.set_aside} == {"rate_triple"}
    kinds = {one.draw.kind for one in TABLE.controls}
    assert kinds >= NEUTRAL | {"healthy", "hard"}
    assert "rate_triple" not in kinds


def test_who_is_always_right_has_all_figures_right():
    score = score_of("right", examiner(right), TABLE, OUT)
    assert (score.recall, score.false_alarm_rate, score.youden, score.named_share) == (1, 0, 1, 1)
    assert score.faults_found == score.faults == len(TABLE.harmful)
    assert score.delay == pytest.approx(54 / PLANNED)
    assert 0 < score.false_alarm_bound < 0.05
    assert score.recall_interval[1] == 1


def test_who_always_alarms_is_worth_nothing():
    score = score_of("always", examiner(always), TABLE, OUT)
    assert (score.recall, score.false_alarm_rate, score.youden, score.named) == (1, 1, 0, 0)
    assert score.false_alarms_by == {"always": len(TABLE.controls)}


def test_who_says_nothing_is_worth_nothing():
    score = score_of("silent", lambda run: Verdict(()), TABLE, OUT)
    assert (score.found, score.false_alarms, score.youden, score.delay) == (0, 0, 0, None)


def test_an_alarm_before_the_fault_finds_nothing():
    score = score_of("early", examiner(lambda result: [Alarm("early", -1, "non_finite")]), TABLE, OUT)
    assert score.found == 0
    assert score.false_alarm_rate == 1


def test_a_rule_counts_from_when_it_first_spoke():
    verdict = verdict_of([Alarm("b", 9, "leak"), Alarm("a", 5, ""), Alarm("b", 7, "overfitting")])
    assert [(alarm.name, alarm.step) for alarm in verdict.alarms] == [("a", 5), ("b", 7)]
    assert verdict.cause == "overfitting"


def test_halves_are_scored_apart():
    tune, report = table_of(RESULTS, "tune"), table_of(RESULTS, "report")
    assert {one.half for one in tune.harmful} == {"tune"}
    assert len(tune.harmful) + len(report.harmful) == len(TABLE.harmful)
    assert len(tune.controls) + len(report.controls) == len(TABLE.controls)


def test_page_and_json_say_the_same():
    scores = [score_of("right", examiner(right), TABLE, OUT), score_of("always", examiner(always), TABLE, OUT)]
    page, plain = page_of(TABLE, scores), json.loads(json.dumps(strict_json(to_json(TABLE, scores))))
    assert len(plain["scores"]) == 2
    assert plain["scores"][0]["recall"] == 1
    for variant in TABLE.harmful:
        assert f"| {variant.kind} {variant.strength:g} | {variant.setup} |" in page
    assert "| right | 100 % (" in page


def test_nothing_is_a_table_too():
    empty = table_of({})
    score = score_of("right", examiner(right), empty, OUT)
    assert math.isnan(score.recall)
    assert "0 harmful faults" in page_of(empty, [score])


def test_examiners_are_scored_together_as_alone():
    both = {"right": examiner(right), "always": examiner(always)}
    assert scores_of(both, TABLE, OUT) == [score_of(name, examine, TABLE, OUT) for name, examine in both.items()]
