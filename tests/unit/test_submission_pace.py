"""The forecast of a time budget: from voxels, told once, and an end before the time is gone."""

import pytest
import torch

from volumen.inference.ensemble import Ensemble
from volumen.inference.predictor import Predictor
from volumen.runtime import Precision
from volumen.submission import pace
from volumen.submission.pace import OutOfTimeError, Pace, ways_to_be_faster

VOXELS = {"a": 1000, "b": 1000, "c": 4000, "d": 1000}


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pace, "clock", lambda: self.now)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def watch(budget: float | None, said: list[str], reserve: float = 0.0) -> Pace:
    return Pace(VOXELS, budget, started=100.0, reserve_seconds=reserve, faster=("--no-mirror",), say=said.append)


def test_a_budget_that_does_is_not_mentioned(clock) -> None:
    said: list[str] = []
    one = watch(71.0, said)
    for name, seconds in (("a", 10), ("b", 10), ("c", 40), ("d", 10)):
        for number in range(1, seconds + 1):
            clock.now += 1
            one.tile(number, seconds)
        one.finished(name, True)
    assert said == []


def test_the_forecast_counts_voxels_and_is_told_once(clock) -> None:
    said: list[str] = []
    one = watch(65.0, said)
    clock.now += 10
    one.finished("a", True)  # 10 s a thousand voxels: 70 s in all
    assert len(said) == 1
    assert "about 1 min 11 s" in said[0]  # a hundredth of the budget is kept back
    assert "budget of 1 min 05 s" in said[0]
    assert "--no-mirror" in said[0]
    clock.now += 10
    one.finished("b", True)
    clock.now += 40
    with pytest.raises(OutOfTimeError, match=r"3 of 4 volumes are predicted.*about 10 s"):
        one.finished("c", True)  # the last one would end at 70 s
    assert len(said) == 1


def test_volumes_of_an_earlier_call_cost_nothing(clock) -> None:
    said: list[str] = []
    one = watch(62.0, said)
    one.finished("a", False)
    assert said == []
    clock.now += 10
    one.finished("b", True)
    assert said == []  # 10 + 40 + 10 is 60


def test_the_reserve_is_kept_and_a_volume_in_flight_is_ended(clock) -> None:
    one = watch(100.0, [], reserve=5.0)
    for number in range(1, 93):
        clock.now += 1.0
        one.tile(number, 186)
    clock.now += 1.0  # 93 s are spent, 5 s and 1 s kept back, and another tile would take 1 s
    with pytest.raises(
        OutOfTimeError, match="1 min 33 s are spent, 0 of 4 volumes are predicted, the rest needs about 21 min 42 s"
    ):
        one.tile(93, 186)


def test_without_a_budget_nothing_ends(clock) -> None:
    one = watch(None, [])
    clock.now += 1e6
    one.tile(1, 2)
    one.finished("a", True)


def test_ways_to_be_faster_are_counted_in_tiles() -> None:
    precision = Precision("fp32", "cpu")
    network = Ensemble([torch.nn.Identity(), torch.nn.Identity()])
    slow = Predictor(network, tile=(8, 8, 8), overlap=0.5, device="cpu", precision=precision, mirror=True)
    ways = ways_to_be_faster(slow, [(16, 16, 16)])
    assert ways[0] == "--no-mirror, 8 times as fast"
    assert "--overlap 0, 3.4 times as fast (8 tiles instead of 27)" in ways
    assert "one network of the 2" in ways[-1]
    fast = Predictor(torch.nn.Identity(), tile=(8, 8, 8), overlap=0.0, device="cpu", precision=precision)
    assert ways_to_be_faster(fast, [(16, 16, 16)]) == ()
