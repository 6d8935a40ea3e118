"""The journal of a sweep: half lines do not count, whatever was cut; Optuna's own reader understands it."""

import json

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumen.errors import DamagedError
from volumen.experiments.sweep_journal import FILE, SweepJournal

optuna.logging.set_verbosity(optuna.logging.ERROR)
LOGS = st.lists(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False) | st.text(max_size=5)), max_size=6)


def filled(folder, logs):
    journal = SweepJournal(folder)
    for log in logs:
        journal.append_logs([log])
    return journal


def unlike_checks(log):
    return {key: value for key, value in log.items() if key != "check" and value not in (float("inf"), -float("inf"))}


@given(LOGS, st.data())
def test_whatever_is_cut_off_whole_lines_are_read_and_others_go_on_behind_them(tmp_path_factory, logs, data):
    folder = tmp_path_factory.mktemp("journal")
    logs = [unlike_checks(log) for log in logs]
    reader = filled(folder, logs)
    content = (folder / FILE).read_bytes() if logs else b""
    cut = data.draw(st.integers(0, len(content)))
    (folder / FILE).write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert list(SweepJournal(folder).read_logs(0)) == logs[:whole]
    filled(folder, [{"next": 1}])
    for first in range(whole + 1):
        assert list(SweepJournal(folder).read_logs(first)) == [*logs[:whole], {"next": 1}][first:]
    assert reader is not None


@given(st.data())
def test_a_changed_byte_is_told(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("journal")
    filled(folder, [{"a": 1}, {"b": 2}, {"c": 3}])
    content = bytearray((folder / FILE).read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))
    content[place] ^= 1 << data.draw(st.integers(0, 6))
    (folder / FILE).write_bytes(content)
    with pytest.raises(DamagedError, match="damaged in line"):
        list(SweepJournal(folder).read_logs(0))


def test_a_reader_goes_on_where_it_was(tmp_path):
    writer, reader = filled(tmp_path, [{"a": 1}]), SweepJournal(tmp_path)
    assert list(reader.read_logs(0)) == [{"a": 1}]
    assert list(reader.read_logs(1)) == []
    writer.append_logs([{"b": 2}, {"c": 3}])
    assert list(reader.read_logs(1)) == [{"b": 2}, {"c": 3}]
    assert list(reader.read_logs(0)) == [{"a": 1}, {"b": 2}, {"c": 3}]


def test_optuna_reads_it_as_its_own(tmp_path):
    ours = optuna.create_study(storage=optuna.storages.JournalStorage(SweepJournal(tmp_path)), study_name="trials")
    ours.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / FILE))
    theirs = optuna.load_study(storage=optuna.storages.JournalStorage(backend), study_name="trials")
    assert [one.params for one in theirs.trials] == [one.params for one in ours.trials]
    assert [one.value for one in theirs.trials] == [one.value for one in ours.trials]
    assert all("check" in json.loads(line) for line in (tmp_path / FILE).read_text().splitlines())
