"""Checkpoints: whole or not at all, verified when read, the last two and the best."""

import pytest
import torch
from torch import nn

from volumen.errors import UserError
from volumen.runs.checkpoints import CheckpointStore
from volumen.runs.saved import load_weights


def state(step):
    return {"step": step, "weights": {"a": torch.full((3,), float(step))}, "text": "x", "nothing": None}


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    for step in (10, 20, 30):
        store.save(state(step), step=step, epoch=step // 10, best=step == 10, best_loss=step == 20)
    return store


def no_warning(text):
    raise AssertionError(text)


def test_keeps_the_last_two_and_the_best(store):
    assert sorted(path.name for path in store.folder.iterdir()) == [
        "best-00000010.pt",
        "best_loss-00000020.pt",
        "manifest.json",
        "step-00000020.pt",
        "step-00000030.pt",
    ]
    assert store.load_latest(no_warning)["step"] == 30
    assert store.load_best(no_warning)["step"] == 10
    assert store.load_best(no_warning, "best_loss")["step"] == 20
    assert torch.equal(store.load_best(no_warning)["weights"]["a"], torch.full((3,), 10.0))


def test_a_flipped_bit_falls_back_loudly_to_the_one_before(store):
    path = store.folder / "step-00000030.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    warnings = []
    assert store.load_latest(warnings.append)["step"] == 20
    assert len(warnings) == 1
    assert "step-00000030.pt is damaged" in warnings[0]


def test_a_truncated_best_is_an_error_and_not_another_state(store):
    path = store.folder / "best-00000010.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="use --which last"):
        store.load_best(lambda text: None)


def test_nothing_whole_is_an_error_with_the_fix(store):
    for path in store.folder.glob("*.pt"):
        path.unlink()
    with pytest.raises(UserError, match="no whole checkpoint"):
        store.load_latest(lambda text: None)


def test_saving_a_step_again_keeps_the_best_as_it_was(store):
    store.save({**state(30), "text": "best"}, step=30, epoch=3, best=True)
    store.save({**state(30), "text": "after a rollback"}, step=30, epoch=3, best=False)
    assert store.load_best(no_warning)["text"] == "best"
    assert store.load_latest(no_warning)["text"] == "after a rollback"


def test_a_failed_write_leaves_the_old_checkpoints_alone(store, monkeypatch):
    def full_disk(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.save(state(40), step=40, epoch=4, best=False)
    assert store.load_latest(no_warning)["step"] == 30
    assert not list(store.folder.glob("*40*"))


def test_only_weights_are_unpickled(store):
    class Trap:
        def __reduce__(self):
            return print, ("code ran",)

    path = store.save({"trap": Trap()}, step=50, epoch=5, best=False)
    assert path.is_file()
    warnings = []
    assert store.load_latest(warnings.append)["step"] == 30
    assert "Weights only load failed" in warnings[0]


def test_weights_of_another_model_are_named():
    with pytest.raises(UserError, match=r"weight has shape \[1, 2\], expected \[1, 3\]"):
        load_weights(nn.Linear(3, 1), dict(nn.Linear(2, 1).state_dict()), "run")
    with pytest.raises(UserError, match="it lacks bias"):
        load_weights(nn.Linear(3, 1), dict(nn.Linear(3, 1, bias=False).state_dict()), "run")
