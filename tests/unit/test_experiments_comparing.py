"""What is compared and what is said: rows of runs, shared cases, winners with evidence, totals that are not ranked."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compared_scores import comparison, drawn, scores_of, told
from tests.run_folders import fill, log, new_run, status, status_record, validation_record

from volumen.errors import UserError
from volumen.experiments.comparing import compare_runs, compare_scores
from volumen.experiments.comparing_rankings import AT_MATCHED, OWN
from volumen.experiments.comparing_runs import differing, read_told, rows_of
from volumen.reporting.comparison_formats import comparison_json
from volumen.reporting.comparison_tables import tables_of

VALUES = {f"c{number}": 0.5 + 0.03 * number for number in range(5)}


def moved(by: float, spread: float = 0.002):
    random = np.random.default_rng(1)
    return {case: value + by + random.normal(0, spread) for case, value in VALUES.items()}


def test_repeats_are_one_row_and_what_has_not_ended_is_its_own():
    runs = [
        told("a-s0", "seed=0", "name=a"), told("a-s1", "seed=1", "name=a-again"), told("a-f1", "data.fold=1"),
        told("half", "seed=2", state="stopped", epochs=2), told("b", "optimiser.learning_rate=0.5"),
        replace(told("torn"), config=None, problem="damaged"),
    ]  # fmt: skip
    rows = rows_of(runs)
    assert [[run.name for run in row.runs] for row in rows] == [["a-s0", "a-s1", "a-f1"], ["half"], ["b"]]
    assert "has not ended" in rows[1].note
    assert "epoch 2 of 5" in rows[1].note
    assert differing(rows) == ("optimiser.learning_rate",)
    assert len(rows_of(runs, each=True)) == 5
    found = compare_scores(runs, rows, {"a-s0": scores_of(VALUES)}, problems={"torn": "damaged", "b": "no checkpoint"})
    (listed,) = [one for one in tables_of(found) if one.key == "runs"]
    assert [line.name for line in listed.lines] == [run.name for run in runs]
    assert any("no checkpoint" in note for note in listed.notes)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_order_of_arguments_changes_no_number(seed):
    rows, _ = drawn(np.random.default_rng(seed), rows=3, cases=4, seeds=2, shift=0.05)
    runs = [told(f"{row}-s{n}", f"seed={n}", f"name={row}", f"optimiser.learning_rate={0.001 * (1 + place)}")
            for place, row in enumerate(rows) for n in range(2)]  # fmt: skip
    scores = {f"{row}-s{n}": scores_of(values) for row, members in rows.items() for n, values in enumerate(members)}
    one = compare_scores(runs, rows_of(runs), scores)
    other = compare_scores(runs[::-1], rows_of(runs[::-1]), scores)
    for left, right in zip(one.rankings, other.rankings, strict=True):
        assert (left.winner, left.verdict) == (right.winner, right.verdict)
        assert [(a.label, a.ranks, a.mean) for a in left.standings] == [
            (b.label, b.ranks, b.mean) for b in right.standings
        ]


def test_a_shifted_run_wins_beyond_the_noise_and_ties_within_it():
    runs = [told("one", "optimiser.learning_rate=0.1"), told("other", "optimiser.learning_rate=0.2")]
    for by, winner in ((0.1, "other"), (0.0005, ""), (-0.1, "one")):
        found = compare_scores(runs, rows_of(runs), {"one": scores_of(VALUES), "other": scores_of(moved(by))})
        assert [one.winner for one in found.rankings] == [winner, winner]
        assert ("would need about" in found.rankings[0].verdict) == (not winner)
        assert any("one run each" in note for note in found.notes)


def test_a_copy_ties_and_counts_once_in_its_row():
    same = scores_of(VALUES)
    runs = [told("run", "seed=0"), told("copy", "seed=0")]
    found = compare_scores(runs, rows_of(runs), {"run": same, "copy": same})
    assert any("the very weights" in note for note in found.notes)
    assert len(found.scored[0].scores) == 1
    apart = compare_scores(runs, rows_of(runs, each=True), {"run": same, "copy": same})
    assert {one.rank for one in apart.rankings[0].standings} == {"1-2"}
    assert "the same leaderboard on all 5 cases" in apart.rankings[0].verdict


def test_only_shared_cases_are_ranked_and_none_is_said():
    runs = [told("one", "optimiser.learning_rate=0.1"), told("other", "optimiser.learning_rate=0.2")]
    more = {**moved(0.2), "elsewhere": 0.9}
    found = compare_scores(runs, rows_of(runs), {"one": scores_of(VALUES), "other": scores_of(more)})
    assert found.shared == tuple(VALUES)
    assert any("elsewhere as well" in note for note in found.notes)
    apart = compare_scores(runs, rows_of(runs), {"one": scores_of(VALUES), "other": scores_of({"elsewhere": 0.9})})
    assert not apart.shared
    assert all("different volumes" in one.verdict and not one.winner for one in apart.rankings)


def test_orders_that_differ_are_said():
    rows = {"r0": [moved(0.1)], "r1": [VALUES]}
    found = comparison(rows, gains={"r1": 0.3})
    assert [one.winner for one in found.rankings] == ["r0-s0", "r1-s0"]
    assert [one.point for one in found.rankings] == [OWN, AT_MATCHED]
    assert any("the two orders differ" in note and "volumen tune" in note for note in found.notes)
    assert not any("orders differ" in note for note in comparison(rows).notes)


def test_who_says_nothing_is_no_winner():
    runs = [told("empty", "optimiser.learning_rate=0.1"), told("other", "optimiser.learning_rate=0.2")]
    empty = scores_of(moved(0.3))
    nothing = replace(empty, own={case: {**values, "dice": 0.0} for case, values in empty.own.items()})
    found = compare_scores(runs, rows_of(runs), {"empty": nothing, "other": scores_of(VALUES)})
    assert found.rankings[0].winner == ""
    assert "no better than predicting surface everywhere" in found.rankings[0].verdict


def test_totals_of_different_objectives_are_shown_and_not_ranked():
    record = {"epoch": 4, "total": 1.25, "kind": "validation"}
    runs = [told("one", "loss.terms.soft_dice.weight=2", validations=(record,)), told("other", validations=(record,))]
    found = compare_scores(runs, rows_of(runs), {run.name: scores_of(VALUES) for run in runs}, reference="one")
    (terms,) = [one for one in tables_of(found) if one.key == "terms"]
    assert terms.lines[-1].cells[0].text == "1.2500"
    assert any("not ranked" in note and "loss.terms.soft_dice.weight" in note for note in terms.notes)


def recorded(folder, *overrides, by: float = 0.0, share: float = 0.1, **state):
    run = new_run(folder, *overrides)
    cases = {f"c{n}": {"leaderboard_quick": 0.4 + 0.02 * n + by, "dice": 0.5, "true_share": share} for n in range(4)}
    log(run, "metrics.jsonl", validation_record(3, cases=cases))
    status(run, status_record(**state))
    return run


def test_quick_takes_what_was_recorded_and_says_so(tmp_path):
    runs = [
        recorded(tmp_path / "a"),
        recorded(tmp_path / "b", "seed=3", by=0.1, state="failed"),
        new_run(tmp_path / "c"),
    ]
    found = compare_runs(runs, quick=True)
    assert (found.metric, found.rankings[0].winner) == ("leaderboard_quick", "b")
    assert len(found.rankings) == 1
    assert "not ended" in " ".join(found.notes)
    assert "--quick" in " ".join(found.notes)
    assert set(found.problems) == {"c"}
    assert json.dumps(comparison_json(found))
    assert not (tmp_path / "a" / "comparison.jsonl").exists()
    other = recorded(tmp_path / "d", share=0.3)
    with pytest.raises(UserError, match="other voxels"):
        compare_runs([runs[0], other], quick=True)


def test_what_cannot_be_compared_is_refused(tmp_path):
    fill(new_run(tmp_path / "run"))
    with pytest.raises(UserError, match="ranks nothing"):
        compare_runs([tmp_path / "run"], metric="voi_split")
    with pytest.raises(UserError, match="not a run folder"):
        compare_runs([tmp_path / "run", tmp_path])
    with pytest.raises(UserError, match="no run to compare"):
        compare_runs([])


def test_names_tell_runs_apart(tmp_path):
    paths = [new_run(tmp_path / part / "run") for part in ("x", "y")]
    assert [one.name for one in read_told([*paths, paths[0]])] == ["x/run", "y/run"]
