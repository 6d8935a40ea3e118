"""A tracker may hang, fail or be slow: whoever offers records to it does not notice."""

import errno
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.trackers.background import MOST_WAITING, Background


class Fake:
    """A tracker that keeps what it gets; `act` is called with each record first."""

    hint = "look here"

    def __init__(self, act=lambda number: None):
        self.act, self.got, self.closed = act, [], False

    def scalars(self, step, values):
        """Keep the step."""
        self.act(step)
        self.got.append(step)

    def close(self):
        """Keep that, too."""
        self.closed = True


def record(step):
    """One that says its number."""
    return lambda tracker: tracker.scalars(step, {})


def ended(background, seconds=60.0):
    """Close it; whether it came to its end."""
    background.end()
    has_ended = background.wait(seconds)
    background.give_up()
    return has_ended


@given(st.integers(0, MOST_WAITING))
def test_everything_arrives_in_order(number):
    fake = Fake()
    background = Background("fake", lambda: fake)
    for step in range(number):
        background.offer(record(step))
    assert ended(background)
    assert fake.got == list(range(number))
    assert (background.unsent, background.failure) == (0, "")
    assert fake.closed or number == 0


@given(
    st.sets(st.integers(0, 40)), st.sampled_from([OSError(errno.ENOSPC, "full"), ValueError("x" * 9999), SystemExit(3)])
)
def test_failures_are_counted_and_the_first_is_told(failing, error):
    def act(step):
        if step in failing:
            raise error

    fake = Fake(act)
    background = Background("fake", lambda: fake)
    for step in range(41):
        background.offer(record(step))
    assert ended(background)
    assert fake.got == [step for step in range(41) if step not in failing]
    assert background.unsent == len(failing)
    assert (type(error).__name__ in background.failure) == bool(failing)
    assert len(background.failure) <= 300


def test_offering_returns_while_the_tracker_hangs_and_drops_beyond_the_bound():
    hanging, go_on = threading.Event(), threading.Event()

    def hang(step):
        hanging.set()
        assert go_on.wait(60)

    fake = Fake(hang)
    background = Background("fake", lambda: fake)
    background.offer(record(0))
    assert hanging.wait(60)
    for step in range(1, 3 * MOST_WAITING):
        background.offer(record(step))  # each returns, though nothing is taken
    assert "dropped" in background.failure
    assert not ended(background, 0.01)
    assert background.unsent == 3 * MOST_WAITING
    go_on.set()
    assert background.wait(60)
    assert fake.got == [0]  # what was given up is not sent later
    assert not fake.closed


def test_a_tracker_that_hangs_while_it_opens_holds_up_nobody():
    go_on = threading.Event()
    background = Background("fake", lambda: go_on.wait(60) and Fake())
    for step in range(9):
        background.offer(record(step))
    assert not ended(background, 0.01)
    assert background.unsent == 9
    go_on.set()
    assert background.wait(60)


def test_a_tracker_that_cannot_be_opened_is_tried_again(monkeypatch):
    tries, now = [], [0.0]  # seconds
    fake = Fake()

    def opened():
        tries.append(now[0])
        if len(tries) < 3:
            raise ConnectionRefusedError(f"try {len(tries)}")
        return fake

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    background = Background("fake", opened)
    for step in range(12):
        now[0] += 25.0
        background.offer(record(step))
        while background._queue.qsize():
            time.sleep(0.001)
    assert ended(background)
    assert len(tries) == 3
    assert all(later - earlier >= 60 for earlier, later in pairwise(tries))
    assert fake.got
    assert fake.got[-1] == 11
    assert background.failure == "ConnectionRefusedError: try 1"


@pytest.mark.parametrize("number", [1, 5])
def test_trackers_do_not_hold_up_each_other(number):
    go_on, fake = threading.Event(), Fake()
    stuck = Background("stuck", lambda: Fake(lambda step: go_on.wait(60)))
    free = Background("free", lambda: fake)
    for step in range(number):
        stuck.offer(record(step))
        free.offer(record(step))
    assert ended(free)
    assert fake.got == list(range(number))
    go_on.set()
    assert ended(stuck)
