"""What trackers are told of a run: every number once, bounded, whatever the trackers do."""

import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from run_folders import new_run, train_record, validation_record
from volumen.config.load import load_config
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import FINDINGS, run_owner
from volumen.system.records import append_record
from volumen.trackers import listening
from volumen.trackers.choice import TRACKERS, tracked
from volumen.trackers.listening import TrackingListener
from volumen.training.step import StepResult
from volumen.training.validate import Shown, Validation


@dataclass
class Kept:
    """A tracker that keeps everything."""

    hint: str = ""
    numbers: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    pictures: list[tuple[int, str]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def scalars(self, step, values):
        """Keep them by name."""
        for name, value in values.items():
            self.numbers.setdefault(name, []).append((step, value))

    def image(self, step, name, picture):
        """Keep its name."""
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        self.pictures.append((step, name))

    def text(self, step, name, text):
        """Keep the last of a name."""
        self.texts[name] = text

    def close(self):
        """Nothing to do."""


def result(value):
    """A step's."""
    return StepResult(value, {"soft_dice": value, "focal": 2 * value}, {"soft_dice": value}, 1.0, False, 1, 2, 9)


def state_of(planned_steps, epochs=4):
    """As much of a run's state as a listener looks at."""
    cursor = SimpleNamespace(step=0, epoch=0)
    rate = SimpleNamespace(value=0.5)
    return SimpleNamespace(cursor=cursor, rate=rate, planned_steps=planned_steps, planned_epochs=epochs)


def a_validation(epoch):
    """One with a slice."""
    record = validation_record(epoch)
    plane = np.zeros((9, 7), np.uint8)
    shown = Shown("case", plane.astype(np.float16), plane, plane)
    return Validation(record["total"], record["terms"], record["weighted"], record["metrics"], {}, 2.0, (shown,))


def begin(listener, run, step=0, warnings=None):
    """Start it on a run folder."""
    config = load_config(run / "config.yaml").config
    listener.started(run, config, {"step": step, "warn": ([] if warnings is None else warnings).append})
    return listener


@pytest.fixture
def run(tmp_path):
    """A run that has begun."""
    return new_run(tmp_path / "run")


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
def test_curves_are_bounded_and_their_means_lose_no_step(tmp_path_factory, planned, per_epoch, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "MOST_POINTS", most)
        check_curves(new_run(tmp_path_factory.mktemp("a") / "run"), planned, per_epoch, most)


def check_curves(run, planned, per_epoch, most):
    """Train some steps, and look at what was told."""
    kept = Kept()
    listener = begin(TrackingListener({"fake": lambda run: kept}, print), run)
    listener._trackers[0]._queue.maxsize = 0  # its bound is another law's
    state, ends = state_of(planned), 0
    for step in range(1, planned + 1):
        state.cursor.step = step
        listener.stepped(state, result(float(step)), per_epoch)
        if step % per_epoch == 0 or step == planned:
            state.cursor.epoch += 1
            ends += 1
            listener.epoch_ended(state, {**train_record(0), "clipped_share": 0.0, "progress": {}}, None)
    listener.close()
    points = kept.numbers["loss/total"]
    assert len(points) <= most + ends
    steps = [step for step, _ in points]
    assert steps == sorted(set(steps))
    assert steps[-1] == planned
    lengths = np.diff([0, *steps])
    assert np.dot(lengths, [value for _, value in points]) == pytest.approx(planned * (planned + 1) / 2)
    assert [2 * value for _, value in points] == [value for _, value in kept.numbers["term_raw/focal"]]
    assert len(kept.numbers["epoch"]) == ends


def test_an_epoch_a_validation_and_what_was_found_are_told(run):
    append_record(
        run / FINDINGS, {"moment": "audit", "code": "P4", "severity": "warn", "says": "```"}, owner=run_owner(run)
    )
    kept, state = Kept(), state_of(2)
    listener = TrackingListener({"fake": lambda run: kept}, print)
    listener.event({"kind": "parent", "config": "preset:default"})  # before anything is open
    begin(listener, run)
    state.cursor.step = 1
    listener.stepped(state, result(1.0), 1)
    listener.event({"kind": "sign", "code": "R6", "severity": "warn", "evidence": "nothing is predicted"})
    progress = {"total": 0.5, "soft_dice": float("nan")}
    listener.epoch_ended(state, {**train_record(0), "clipped_share": 0.0, "progress": progress}, a_validation(1))
    listener.close()
    said = {name: values[-1][1] for name, values in kept.numbers.items()}
    assert said["progress/total"] == 0.5
    assert "progress/soft_dice" not in said  # a number that there is not
    assert (said["surface_share/predicted"], said["surface_share/true"]) == (0.2, 0.1)
    assert (said["val/dice"], said["learning_rate"], said["speed/waiting_share"]) == (0.1, 0.5, 0.1 / 3.0)
    assert {
        f"{kind}/{name}" for kind in ("val_term_raw", "val_term_weighted") for name in train_record(0)["terms"]
    } <= {*said}
    assert kept.pictures == [(1, "slices/case")]
    assert {"config", "findings/01-P4", "events/parent", "signs/R6"} == set(kept.texts)
    assert kept.texts["findings/01-P4"].count("````") == 2  # a fence that the finding does not break out of


@settings(max_examples=15)
@given(st.integers(1, 250))
def test_slices_and_texts_are_bounded(tmp_path_factory, epochs):
    kept, state = Kept(), state_of(10 * epochs, epochs)
    listener = begin(TrackingListener({"fake": lambda run: kept}, print), new_run(tmp_path_factory.mktemp("a") / "run"))
    listener._trackers[0]._queue.maxsize = 0
    for epoch in range(epochs):
        state.cursor.step += 10
        for number in range(3):
            listener.event({"kind": f"kind-{epoch}-{number}"})
        listener.epoch_ended(state, {**train_record(0), "clipped_share": 0.0, "progress": {}}, a_validation(1))
    listener.close()
    assert 1 <= len(kept.pictures) <= listening.MOST_VALIDATIONS_SHOWN
    assert len(kept.texts) <= listening.MOST_TEXTS + 1


def test_a_tracker_that_hangs_is_waited_for_and_counted(run, monkeypatch):
    monkeypatch.setattr(listening, "CLOSING_SECONDS", 0.02)
    monkeypatch.setattr(listening, "PATIENCE_SECONDS", 0.01)
    go_on, told, state = threading.Event(), [], state_of(5)
    listener = begin(TrackingListener({"stuck": lambda run: go_on.wait(60) and Kept()}, told.append), run)
    for step in range(1, 6):
        state.cursor.step = step
        listener.stepped(state, result(1.0), 5)
    listener.close()
    assert any("waiting for stuck" in line for line in told)
    assert any(line.startswith("stuck: 6 records not sent (it did not come to an end in time)") for line in told)
    go_on.set()


def test_a_broken_tracker_warns_once_and_the_others_get_everything(run):
    def broken(run):
        raise ConnectionRefusedError("nobody listens")

    kept, told, warnings, state = Kept(), [], [], state_of(500)
    listener = TrackingListener({"broken": broken, "fake": lambda run: kept}, told.append)
    begin(listener, run, warnings=warnings)
    for step in range(1, 501):
        state.cursor.step = step
        listener.stepped(state, result(1.0), 500)
        if step % 100 == 0:
            while any(each._queue.qsize() for each in listener._trackers):
                threading.Event().wait(0.001)
    listener.close()
    assert len(warnings) == 1
    assert "ConnectionRefusedError: nobody listens" in warnings[0]
    assert len(kept.numbers["loss/total"]) == 500
    assert [line for line in told if line.startswith("broken")] == [
        "broken: 501 records not sent (ConnectionRefusedError: nobody listens); the run folder holds all of them"
    ]


def test_a_resumed_run_says_where_it_goes_on_and_repeats_no_text(run):
    kept, seen = Kept(), []
    begin(TrackingListener({"fake": lambda run: seen.append(run) or kept}, print), run, step=7).close()
    assert kept.texts == {}
    assert not seen  # nothing was to be sent, nothing was opened


@pytest.mark.parametrize("fails", [False, True])
def test_trackers_are_closed_however_the_run_ends(run, fails):
    closed = threading.Event()
    kept = Kept()
    kept.close = closed.set
    with (
        pytest.raises(RuntimeError, match="the run failed") if fails else nullcontext(),
        tracked({"fake": lambda run: kept}, SilentDisplay(), print) as listener,
    ):
        begin(listener, run)
        if fails:
            raise RuntimeError("the run failed")
    assert closed.is_set()


def test_no_tracker_is_no_listener():
    display = SilentDisplay()
    with tracked({}, display, print) as listener:
        assert listener is display
    assert set(TRACKERS) == {"tensorboard", "wandb", "mlflow", "trackio"}
