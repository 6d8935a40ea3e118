"""Whatever stands in a file: a history or an error for people, soon, and no traceback."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clothed_logs import CLOTHES, known_epochs
from hostile import FRAGMENTS
from volumen.errors import UserError
from volumen.logs.read import read_log_of
from volumen.monitors.seen import EpochSeen, History

SLOWLY = 20.0
"""Seconds of processor time, where a second or two are usual: not quadratic."""
MORE = (
    "├── ".encode(), b"Epoch 99999999999999999999 loss 1", b"Epoch -1 loss=1", b"epoch 1e308, loss=1e308", b"1/0",
    b"|a|b|", b"| epoch | loss |\n|--|--|\n", b"{'epoch': [1]}", b'{"epoch":1e999}', b"Loss weights: dice=1e99",
    b"((((", b"))))", b"step 1e9", b"epoch 0.5 loss 1", b"scaled 9999999999999999999x", b"\x1b]0;", b"np.float32(",
    b"1 " * 3000, b"loss " * 500,
)  # fmt: skip


def outcome(path):
    """A history, or the text of a UserError; nothing else may come."""
    try:
        return read_log_of(path)
    except UserError as error:
        return str(error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_logs_are_read_or_refused(tmp_path, seed):
    chance = random.Random(seed)
    content = bytearray(CLOTHES[chance.choice(list(CLOTHES))](known_epochs(chance), chance, 0).encode())
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(content) + 1)
        inserted = chance.choice((*FRAGMENTS, *MORE, chance.randbytes(20), bytes(content[:at])))
        content[at : at + chance.randrange(60)] = inserted
    path = tmp_path / "log"
    path.write_bytes(bytes(content[:100_000]))
    found = outcome(path)
    if isinstance(found, History):
        epochs = [each.epoch for each in found.records]
        assert epochs == sorted(epochs)
        assert found.records
    else:
        assert "\n" not in found
        assert len(found) < 2000


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused(tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert outcome(path)


REPEATED = ["(", "[", "{", "1,", "-", "loss ", "|", "\x1b[", "1.", "1:", "\r", "e", "epoch 1/", "'a':", "{'a':", "nan ",
            "np.float32(", "2026-01-0", " ", "-1", "a=", "├── "]  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED)
def test_a_line_of_a_megabyte_costs_little(tmp_path, piece):
    path = tmp_path / "log"
    line = piece * (2**20 // len(piece))
    path.write_text(f"Epoch 0 loss: 0.5\n{line}\nEpoch 1 loss: 0.4\n{line}\n", encoding="utf-8")
    start = time.process_time()
    found = outcome(path)
    assert time.process_time() - start < SLOWLY
    assert isinstance(found, History)
    totals = {each.epoch: each.total for each in found.records if isinstance(each, EpochSeen)}
    assert totals[0] == pytest.approx(0.5)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"[1" * 1000 + b"]" * 1000, b"\0" * 5000, b""])
def test_deep_and_empty_files_are_refused(tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert isinstance(outcome(path), str)


def test_a_log_that_always_begins_anew_takes_no_quadratic_time(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(f"Epoch {line % 7} loss: 0.5\n" for line in range(10_000)), encoding="utf-8")
    start = time.process_time()
    found = read_log_of(path)
    assert time.process_time() - start < SLOWLY
    assert any("more times" in fault for fault in found.faults)


def test_noise_of_bytes_is_no_text(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(random.Random(0).randbytes(200_000))
    with pytest.raises(UserError, match="no text"):
        read_log_of(path)


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_log_of(tmp_path / "nowhere")
