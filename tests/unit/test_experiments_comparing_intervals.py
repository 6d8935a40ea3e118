"""Intervals over cases and seeds, Holm, rank groups: who wins by chance, and who is found."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compared_scores import drawn

from volumen.experiments.comparing_intervals import (
    CASES,
    CASES_AND_FOLDS,
    CASES_AND_SEEDS,
    all_pairs,
    holm,
    interval,
    more_needed,
    rank_groups,
)
from volumen.experiments.differences import paired

SEED = st.integers(0, 2**32)


def winner(rows, cases):
    ranks = rank_groups(rows, all_pairs(rows, cases))
    return next((name for name, place in ranks.items() if place == (1, 1)), "")


@given(SEED, st.integers(2, 12))
def test_with_one_run_each_it_is_the_paired_t_interval(seed, count):
    rows, cases = drawn(np.random.default_rng(seed), rows=2, cases=count, seeds=1)
    (left,), (right,) = rows["r0"], rows["r1"]
    found, known = interval([left], cases, [right]), paired([left[c] for c in cases], [right[c] for c in cases])
    assert found is not None
    assert known is not None
    assert (found.over, found.cases) == (CASES, count)
    assert found.mean == pytest.approx(known.mean, abs=1e-12)
    assert found.half == pytest.approx(known.half, rel=1e-9)


@given(SEED, st.integers(1, 4), st.integers(2, 8), st.floats(-0.5, 0.5))
def test_differences_turn_with_their_sides_and_move_with_a_shift(seed, seeds, count, shift):
    rows, cases = drawn(np.random.default_rng(seed), rows=2, cases=count, seeds=seeds)
    one, other = interval(rows["r0"], cases, rows["r1"]), interval(rows["r1"], cases, rows["r0"])
    moved = interval([{c: v + shift for c, v in run.items()} for run in rows["r0"]], cases, rows["r1"])
    assert one is not None
    assert other is not None
    assert moved is not None
    assert one.mean == pytest.approx(-other.mean)
    assert one.noise == pytest.approx(other.noise)
    assert moved.mean == pytest.approx(one.mean + shift)
    assert moved.noise == pytest.approx(one.noise, abs=1e-9)
    assert one.over == (CASES if seeds == 1 else CASES_AND_SEEDS)


@given(SEED, st.integers(1, 3), st.integers(1, 8))
def test_a_copy_is_a_tie_whatever_the_arithmetic_leaves(seed, seeds, count):
    rows, cases = drawn(np.random.default_rng(seed), rows=1, cases=count, seeds=seeds)
    twice = {"a": rows["r0"], "b": [dict(reversed(run.items())) for run in reversed(rows["r0"])]}
    (pair,) = all_pairs(twice, cases)
    assert (pair.difference.mean, pair.sign) == (0.0, 0)
    assert rank_groups(twice, [pair]) == {"a": (1, 2), "b": (1, 2)}


@given(SEED)
def test_the_order_of_rows_runs_and_cases_changes_nothing(seed):
    random = np.random.default_rng(seed)
    rows, cases = drawn(random, rows=4, cases=5, seeds=2)
    names, other = list(random.permutation(list(rows))), list(random.permutation(cases))
    turned = all_pairs({str(name): rows[name][::-1] for name in names}, [str(case) for case in other])
    for one, again in zip(all_pairs(rows, cases), turned, strict=True):
        assert (one.left, one.right, one.sign) == (again.left, again.right, again.sign)
        assert one.adjusted == pytest.approx(again.adjusted)


FALSE = [(2, 4, 1, 0.0), (2, 12, 1, 0.0), (4, 6, 1, 0.0), (2, 5, 2, 0.02), (3, 8, 2, 0.02), (4, 10, 3, 0.01)]


@pytest.mark.parametrize("heavy", [False, True])
def test_who_wins_by_chance_is_rare(heavy):
    """Draws of rows that are alike; with one seed each, alike are the weights and not their configurations."""
    random, named, draws = np.random.default_rng(20 + heavy), 0, 0
    for rows, cases, seeds, spread in FALSE:
        for _ in range(100):
            table, names = drawn(random, rows=rows, cases=cases, seeds=seeds, seed_spread=spread, heavy=heavy)
            named, draws = named + bool(winner(table, names)), draws + 1
    assert named / draws < 0.05


def test_a_shift_beyond_the_noise_wins_and_one_within_does_not():
    random = np.random.default_rng(5)
    found = {0.001: 0, 0.1: 0}
    for shift in found:
        for _ in range(100):
            rows, cases = drawn(random, rows=3, cases=10, seeds=3, shift=shift)
            found[shift] += winner(rows, cases) == "r0"
    assert found[0.1] > 90
    assert found[0.001] < 10


def test_what_two_volumes_say_is_never_enough():
    rows = {"a": [{"1": 0.9, "2": 0.9}], "b": [{"1": 0.1, "2": 0.1}]}
    assert winner(rows, ["1", "2"]) == ""
    three = {name: [{**run[0], "3": run[0]["1"]}] for name, run in rows.items()}
    assert winner(three, ["1", "2", "3"]) == "a"


def test_folds_of_one_seed_are_clusters_and_cases_without_a_value_are_left_out():
    folds = [{"1": 0.5, "2": 0.6}, {"3": 0.7, "4": 0.8}, {"5": 0.6, "6": math.nan}]
    found = interval(folds, ["1", "2", "3", "4", "5", "6"], [{c: v - 0.1 for c, v in run.items()} for run in folds])
    assert found is not None
    assert (found.over, found.freedom, found.cases) == (CASES_AND_FOLDS, 2, 5)
    assert found.mean == pytest.approx(0.1)
    assert interval(folds, ["6"]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(values):
    adjusted = holm(values)
    order = sorted(range(len(values)), key=lambda place: values[place])
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))
    for p, found in zip(values, adjusted, strict=True):
        assert p <= found <= min(1.0, p * len(values)) or found == max(adjusted)
    assert adjusted[order[0]] == min(1.0, len(values) * values[order[0]])


@given(SEED, st.integers(1, 3))
def test_a_smaller_difference_needs_more(seed, seeds):
    rows, cases = drawn(np.random.default_rng(seed), rows=2, cases=6, seeds=seeds)
    found = interval(rows["r0"], cases, rows["r1"])
    assert found is not None
    needed = []
    for size in (0.02, 0.01, 0.005):
        moved = interval([{c: v - found.mean + size for c, v in run.items()} for run in rows["r0"]], cases, rows["r1"])
        assert moved is not None
        needed.append(more_needed(moved))
    for (what, less), (other, more) in pairwise(needed):
        assert less is None or less >= 1
        assert what != other or (less or math.inf) <= (more or math.inf)
