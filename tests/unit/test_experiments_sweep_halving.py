"""Successive halving: any order of events ends, each trial at most once at a rung, the best share goes on."""

import itertools
import random as chance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.errors import UserError
from volumen.experiments.sweep_halving import BASELINE, DONE, NEW, WAIT, Claim, Entry, Promote, next_job, rungs_of

LAWS = st.tuples(
    st.integers(2, 40), st.integers(1, 5), st.integers(1, 40), st.integers(1, 4), st.randoms(use_true_random=False)
)


@given(st.integers(1, 500), st.integers(1, 6), st.none() | st.integers(1, 500))
def test_rungs_rise_to_the_whole_length(epochs, reduction, first):
    if first is not None and first > epochs:
        with pytest.raises(UserError, match="first rung"):
            rungs_of(epochs, reduction, first)
        return
    rungs = rungs_of(epochs, reduction, first)
    assert rungs[-1] == epochs
    assert list(rungs) == sorted(set(rungs))
    assert reduction > 1 or rungs == (epochs,)
    assert all(later <= reduction * one for one, later in itertools.pairwise(rungs))


def run(trials, reduction, epochs, workers, random):
    """A sweep in which workers take and finish trials in any order; some trials fail."""
    rungs = rungs_of(epochs, reduction)
    entries, at_work, taken = [], [], []
    while True:
        wanted = next_job(entries, rungs, reduction, trials) if len(at_work) < workers else WAIT
        if wanted == DONE:
            return rungs, entries, taken
        if wanted == WAIT:
            assert at_work, "nobody works and everybody waits"
            number = at_work.pop(random.randrange(len(at_work)))
            one = entries[number]
            if number != BASELINE and random.random() < 0.1:
                entries[number] = Entry(number, values=one.values, reason="diverged")
            else:
                entries[number] = Entry(
                    number, values=(*one.values, random.choice([0.0, random.random()])), claim=one.claim
                )
            continue
        if wanted == NEW:
            wanted = Promote(len(entries), 0)
            entries.append(Entry(wanted.number))
        one = entries[wanted.number]
        assert wanted.rung == len(one.values), "a rung is skipped, or done twice"
        assert not one.is_ended(rungs)
        assert not one.is_wanted(rungs)
        taken.append((wanted.number, wanted.rung))
        entries[wanted.number] = Entry(one.number, values=one.values, claim=Claim(wanted.rung, "x"))
        at_work.append(wanted.number)


@given(LAWS)
def test_every_order_of_events_ends_with_every_trial_once(drawn):
    trials, reduction, epochs, workers, random = drawn
    rungs, entries, taken = run(trials, reduction, epochs, workers, random)
    assert len(entries) == trials
    assert len(taken) == len(set(taken))
    assert len(entries[BASELINE].values) == len(rungs)
    for rung in range(len(rungs) - 1):
        challengers = [one for one in entries if one.number != BASELINE and len(one.values) > rung]
        on = [one for one in challengers if (one.number, rung + 1) in taken]
        healthy = [one for one in challengers if not one.reason]
        assert len(on) <= len(challengers) / reduction + len(challengers) - len(healthy) + workers + 1
        if healthy:
            best = max(healthy, key=lambda one: (one.values[rung], -one.number))
            assert best in on, "the best of a rung goes on"


@given(LAWS)
def test_one_worker_does_the_same_whenever_it_is_asked(drawn):
    trials, reduction, epochs, _, random = drawn
    _, entries, _ = run(trials, reduction, epochs, 1, random)
    assert next_job(entries, rungs_of(epochs, reduction), reduction, trials) == DONE


def test_without_halving_nobody_is_stopped():
    rungs, entries, _ = run(7, 1, 9, 3, chance.Random(0))
    assert rungs == (9,)
    assert all(len(one.values) == 1 or one.reason for one in entries)
