"""TensorBoard's event files, written by PyTorch and by hand: scalars, damage, several runs."""

import struct
import sys

import pytest

from volumen.errors import UserError
from volumen.logs.names import parse_map
from volumen.logs.read import read_log_of
from volumen.monitors.seen import EpochSeen, StepsSeen, ValidationSeen

event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")
summary_pb2 = pytest.importorskip("tensorboard.compat.proto.summary_pb2")


def write(path, points, *, tensors=False):
    """An event file of (tag, step, value), without checks, which are not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    events = [event_pb2.Event(file_version="brain.Event:2")]
    for tag, step, value in points:
        made = summary_pb2.Summary.Value(tag=tag)
        if tensors:
            made.tensor.dtype = 1
            made.tensor.tensor_content = struct.pack("<f", value)
        else:
            made.simple_value = value
        events.append(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=[made])))
    frames = [event.SerializeToString() for event in events]
    path.write_bytes(b"".join(struct.pack("<Q", len(data)) + b"0000" + data + b"0000" for data in frames))
    return path


def of(history, kind):
    """The records of a kind."""
    return [record for record in history.records if isinstance(record, kind)]


STEPWISE = [("train/loss", step, 1 / (step + 1)) for step in range(20)] + [
    (tag, step, value)
    for step, loss, dice in ((9, 0.5, 0.6), (19, 0.4, 0.7))
    for tag, value in (("val/loss", loss), ("val/dice", dice), ("lr-SGD", 0.1))
]


@pytest.mark.parametrize("tensors", [False, True])
def test_steps_are_gathered_between_validations(tmp_path, tensors):
    history = read_log_of(write(tmp_path / "events.x", STEPWISE, tensors=tensors))
    assert [len(each.totals) for each in of(history, StepsSeen)] == [10, 10]
    assert [(each.step, each.total, each.metrics["dice"]) for each in of(history, ValidationSeen)] == [
        (9, 0.5, 0.6),
        (19, 0.4, 0.7),
    ]
    assert [each.rate for each in of(history, EpochSeen)] == [0.1, 0.1]
    assert read_log_of(tmp_path) == history.__class__(history.setting, history.records, str(tmp_path), history.faults)


def test_steps_that_run_on_by_ones_are_epochs_and_folders_say_the_split(tmp_path):
    points = [("epoch_loss", epoch, 1 / (epoch + 1)) for epoch in range(4)]
    write(tmp_path / "train" / "events.a", points)
    write(tmp_path / "validation" / "events.b", [(tag, epoch, 2 * value) for tag, epoch, value in points])
    history = read_log_of(tmp_path)
    assert [(each.epoch, each.total) for each in of(history, EpochSeen)][:2] == [(0, 1), (1, 0.5)]
    assert [(each.epoch, each.total) for each in of(history, ValidationSeen)][:2] == [(0, 2), (1, 1)]


def test_a_tag_called_epoch_numbers_the_steps(tmp_path):
    points = [("epoch", step, step // 5) for step in range(20)]
    points += [("train_loss_step", step, float(step)) for step in range(20)]
    points += [("train_loss_epoch", 5 * epoch + 4, 7.0) for epoch in range(4)]
    history = read_log_of(write(tmp_path / "e", points))
    assert [(each.epoch, each.total) for each in of(history, EpochSeen)] == [(epoch, 7) for epoch in range(4)]
    assert of(history, StepsSeen)[1].totals == (5, 6, 7, 8, 9)


def test_several_runs_are_told_apart(tmp_path):
    for run in ("one", "two"):
        write(tmp_path / run / "events", STEPWISE)
    with pytest.raises(UserError, match=r"2 runs \(one, two\): name one of them"):
        read_log_of(tmp_path)
    assert of(read_log_of(tmp_path / "one"), ValidationSeen)


def test_damage_costs_what_is_behind_it_and_is_said(tmp_path):
    path = write(tmp_path / "events", STEPWISE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert any("damaged or cut short" in fault for fault in read_log_of(path).faults)
    path.write_bytes(whole + struct.pack("<Q", 2**62) + b"0000")
    history = read_log_of(path)
    assert len(of(history, ValidationSeen)) == 2
    assert any("beyond its end" in fault for fault in history.faults)
    path.write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
    with pytest.raises(UserError, match=r"--map TAG=MEANING"):
        read_log_of(path)


def test_unknown_tags_are_mapped(tmp_path):
    path = write(tmp_path / "events", [("zeta", epoch, 1.5) for epoch in range(3)])
    with pytest.raises(UserError, match="--map TAG=MEANING"):
        read_log_of(path)
    history = read_log_of(path, mapping=parse_map(["zeta=val.loss"]))
    assert [each.total for each in of(history, ValidationSeen)] == [1.5, 1.5, 1.5]


def test_without_the_package_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    path = write(tmp_path / "events", STEPWISE)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match=r"pip install 'volumen\[tensorboard\]'"):
        read_log_of(path)


def test_a_folder_without_event_files_is_no_log(tmp_path):
    (tmp_path / "train.log").write_text("Epoch 0 loss: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="name the log file"):
        read_log_of(tmp_path)
