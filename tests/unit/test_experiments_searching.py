"""A search finds what it finds, however often it is killed and whatever becomes of its log."""

import hashlib
import random
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumen.config.postprocessing import Postprocessing
from volumen.experiments.searching import START, Trial, TrialLog, best_of, search_trials

TRIALS = 18
"""More than are random, so that the sampler has learnt from what was found."""


class Killed(BaseException):
    """Stands for a signal."""


def value_of(pipeline: Postprocessing) -> float:
    """Anything between 0 and 1 that depends on the whole pipeline."""
    digest = hashlib.sha256(pipeline.model_dump_json().encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def search(folder: Path, trials: int = TRIALS, value=value_of, said: list[str] | None = None) -> tuple[Trial, ...]:
    sentences = [] if said is None else said
    return search_trials(TrialLog(folder, "without a/b + ../c", "owner"), trials, 3, value, sentences.append)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Trial, ...]:
    """The search that was never killed."""
    return search(tmp_path_factory.mktemp("whole"))


def test_it_begins_at_the_starting_points_and_learns(whole) -> None:
    assert [trial.number for trial in whole] == list(range(TRIALS))
    for trial, point in zip(whole, START, strict=False):
        assert trial.parameters.items() >= dict(point).items()
    assert len({str(trial.parameters) for trial in whole}) > TRIALS // 2
    assert best_of(whole).value == max(trial.value for trial in whole)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, TRIALS), st.booleans()), max_size=5))
def test_killed_anywhere_any_number_of_times_it_finds_the_same(whole, kills) -> None:
    """Killed while a trial is scored, or right after it was kept."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        for left, kept in kills:
            patch.setattr(TrialLog, "append", mortal(left, kept))
            with suppress(Killed):
                search(Path(name))
        patch.undo()
        assert search(Path(name)) == whole
        assert len(log_of(Path(name)).read_text().splitlines()) == TRIALS


def mortal(left: int, kept: bool):
    append, count = TrialLog.append, iter(range(TRIALS + 1))
    append = getattr(append, "original", append)

    def appending(self, trial) -> None:
        dying = next(count) == left
        if not dying or kept:
            append(self, trial)
        if dying:
            raise Killed

    appending.original = append
    return appending


def log_of(folder: Path) -> Path:
    return TrialLog(folder, "without a/b + ../c", "owner").path


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_becomes_of_the_log_changes_no_trial(whole, seed) -> None:
    """Bits flipped, lines lost, repeated and exchanged, the end cut off, another's lines put in."""
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name), []
        for trial in whole:
            TrialLog(folder, "without a/b + ../c", "owner").append(trial)
        path = log_of(folder)
        content = path.read_bytes()
        damaged = damage(rnd, content)
        path.write_bytes(damaged)
        assert search(folder, said=said) == whole
        lost = set(content.splitlines()) - set(damaged.splitlines()[: None if damaged.endswith(b"\n") else -1])
        cut_short = content.startswith(damaged)  # a log that ends early tells nothing of what stood behind
        assert said or cut_short or not lost
        said.clear()
        assert search(folder, said=said, value=None) == whole  # nothing is left to be done, or to be said
        assert said == []


def damage(rnd: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    at = rnd.randrange(len(lines))
    kind = rnd.randrange(7)
    if kind == 0:
        flipped = bytearray(content)
        flipped[rnd.randrange(len(content))] ^= 1 << rnd.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return content[: rnd.randrange(len(content))]
    if kind == 2:
        return b"".join([*lines[:at], *lines[at + 1 :]])
    if kind == 3:
        return b"".join([*lines[:at], lines[at], *lines[at:]])
    if kind == 4:
        rnd.shuffle(lines)
        return b"".join(lines)
    if kind == 5:
        lines[at] = lines[at].replace(b'"value":0', b'"value":1')
        return b"".join(lines)
    return b"".join([*lines[:at], bytes(rnd.randrange(256) for _ in range(rnd.randrange(300))), *lines[at:]])


def test_fewer_trials_are_the_first_ones_and_more_go_on(whole, tmp_path) -> None:
    assert search(tmp_path, 9) == whole[:9]
    assert search(tmp_path) == whole
    assert search(tmp_path, 5, value=None) == whole[:5]


def test_trials_of_others_are_not_believed(whole, tmp_path) -> None:
    search(tmp_path)
    stranger = TrialLog(tmp_path / "stranger", "another", "owner")
    stranger.folder.mkdir()
    stranger.path.write_bytes(log_of(tmp_path).read_bytes())  # of the same owner, but another search
    said: list[str] = []
    assert stranger.read(said.append) == {}
    assert "18 trials of another search" in said[0]
    assert TrialLog(tmp_path, "without a/b + ../c", "another owner").read(said.append) == {}
    assert "18 lines are damaged" in said[1]


def test_seed_and_name_decide_what_is_tried(whole, tmp_path) -> None:
    other = search_trials(TrialLog(tmp_path, "all", "owner"), TRIALS, 3, value_of, print)
    seeded = search_trials(TrialLog(tmp_path, "seeded", "owner"), TRIALS, 4, value_of, print)
    tried = [[trial.parameters for trial in one[len(START) :]] for one in (whole, other, seeded)]
    assert tried[0] != tried[1] != tried[2]


def test_logs_stay_in_their_folder_whatever_a_search_is_called(tmp_path) -> None:
    names = ["../../victim", "a/b", "a b", "a-b", "", ".", "x" * 300, "Ωμέγα", "CON", "a\nb", "A b"]
    paths = [TrialLog(tmp_path, name, "").path for name in names]
    assert {path.parent.resolve() for path in paths} == {tmp_path.resolve()}
    assert len({path.name.casefold() for path in paths}) == len(names)
    assert all(len(path.name) < 100 and path.name.isascii() for path in paths)
