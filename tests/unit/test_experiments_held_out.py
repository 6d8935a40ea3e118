"""Predictions and scores that were kept: what is not what was written is said and made again, and never counted."""

import io
import json
import pickle
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small_datasets import prepared_dataset
from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.errors import DamagedError, UserError
from volumen.experiments.held_out import RECORD, HeldOut, Kept, PredictionFolder, identity_of, write_prediction
from volumen.experiments.tuning import Scorer
from volumen.system.records import sealed

SHAPES = {"a": (3, 4, 5), "b": (3, 4, 5), "c": (2, 6, 5)}
SETTINGS = {"weights_sha256": "0", "tile": (16, 16, 16)}


def answer(case_id: str) -> np.ndarray:
    return np.random.default_rng(ord(case_id)).random(SHAPES[case_id], np.float32)


def fill(folder: Path, warn=print, **other) -> PredictionFolder:
    """What a command does: open the folder, and predict what it does not have."""
    found = PredictionFolder(folder, {**SETTINGS, **other}, SHAPES, warn)
    for case_id in [name for name in SHAPES if name not in found.kept]:
        found.add(case_id, answer(case_id))
    return found


def test_what_is_kept_is_what_was_predicted_and_numpy_reads_it(tmp_path) -> None:
    made = fill(tmp_path).kept
    again = PredictionFolder(tmp_path, SETTINGS, SHAPES, pytest.fail)
    assert again.kept == made
    for case_id, kept in made.items():
        assert np.array_equal(kept.load(SHAPES[case_id]), answer(case_id).astype(np.float16))
        assert np.array_equal(kept.load(SHAPES[case_id]), np.load(kept.path, allow_pickle=False))


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def huge() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": (2**40,)})
    return stream.getvalue() + bytes(120)


def damaged(rnd: random.Random, folder: Path) -> None:
    """Something becomes of one of the arrays."""
    path = folder / f"{rnd.choice(list(SHAPES))}.npy"
    content = bytearray(path.read_bytes())
    kind = rnd.randrange(8)
    if kind == 0:
        content[rnd.randrange(len(content))] ^= 1 << rnd.randrange(8)
    elif kind == 1:
        del content[rnd.randrange(len(content)) :]
    elif kind == 2:
        content += bytes(rnd.randrange(1, 5000))
    elif kind == 3:
        content = bytearray((folder / ("a.npy" if path.name != "a.npy" else "b.npy")).read_bytes())
    elif kind == 4:
        content = bytearray(pickled())
    elif kind == 5:
        content = bytearray(huge())
    elif kind == 6:
        path.unlink()
        return
    else:
        path.unlink()
        path.mkdir()
        return
    path.write_bytes(content)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_array_is_never_loaded_and_is_predicted_again(seed) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name), []
        made = fill(folder).kept
        before = {case_id: kept.path.read_bytes() for case_id, kept in made.items()}
        damaged(rnd, folder)
        (hit,) = [
            case_id for case_id, kept in made.items() if kept.path.is_dir() or not kept.path.exists()
            or kept.path.read_bytes() != before[case_id]
        ]  # fmt: skip
        with pytest.raises(DamagedError, match="same command again") as error:
            made[hit].load(SHAPES[hit])
        assert "\n" not in str(error.value)
        if made[hit].path.is_dir():
            made[hit].path.rmdir()
        assert fill(folder, said.append).kept == made
        assert len(said) == 1
        assert f"{hit}.npy" in said[0]
        assert "predicted again" in said[0]
        assert {case_id: kept.path.read_bytes() for case_id, kept in made.items()} == before


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_record_is_said_and_nothing_is_believed_of_it(seed) -> None:
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, said = Path(name), []
        made = fill(folder).kept
        content = bytearray((folder / RECORD).read_bytes())
        if rnd.random() < 0.5:
            content[rnd.randrange(len(content) - 1)] ^= 1 << rnd.randrange(8)
        else:
            del content[rnd.randrange(len(content) - 2) :]
        (folder / RECORD).write_bytes(content)
        found = PredictionFolder(folder, SETTINGS, SHAPES, said.append)
        assert found.kept == {}
        assert len(said) == 1
        assert "predicted again" in said[0]
        assert fill(folder).kept == made


def test_other_settings_empty_the_folder_and_nothing_beside_it(tmp_path) -> None:
    folder = tmp_path / "predictions"
    fill(folder)
    (folder / "notes.npy").write_bytes(b"mine")
    (tmp_path / "victim.npy").write_bytes(b"mine")
    found = PredictionFolder(folder, {**SETTINGS, "tile": (8, 8, 8)}, SHAPES, pytest.fail)
    assert found.kept == {}
    assert sorted(path.name for path in folder.iterdir()) == ["notes.npy", RECORD]
    assert (tmp_path / "victim.npy").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["../victim", "/tmp/x", "..", "", "a\x00b", "a\nb", "x" * 300])
def test_a_record_that_names_paths_deletes_nothing(tmp_path, name) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    (tmp_path / "victim.npy").write_bytes(b"mine")
    (folder / RECORD).write_text(json.dumps(sealed({"settings": {}, "files": {name: "0"}})))
    with pytest.raises(UserError, match="the case id"):
        PredictionFolder(folder, SETTINGS, SHAPES, pytest.fail)
    assert (tmp_path / "victim.npy").read_bytes() == b"mine"
    with pytest.raises(UserError, match="the case id"):
        PredictionFolder(tmp_path / "other", SETTINGS, {name: (3, 4, 5)}, pytest.fail)


def test_arrays_that_nobody_tells_of_are_left_alone(tmp_path) -> None:
    (tmp_path / "a.npy").write_bytes(b"mine")
    with pytest.raises(UserError, match="nobody knows what made them"):
        fill(tmp_path)
    assert (tmp_path / "a.npy").read_bytes() == b"mine"


def test_no_pickle_is_ever_opened(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pickle, "load", pytest.fail)
    monkeypatch.setattr(pickle, "loads", pytest.fail)
    import hashlib

    for content in (pickled(), huge()):  # with the very hash that a forged record gives
        path = tmp_path / "a.npy"
        path.write_bytes(content)
        with pytest.raises(DamagedError):
            Kept(path, hashlib.sha256(content).hexdigest()).load(SHAPES["a"])


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> tuple[HeldOut, ...]:
    folder = tmp_path_factory.mktemp("scores")
    dataset = prepared_dataset(folder, {"a": "1", "b": "1"})
    found = []
    for number, case in enumerate(dataset.cases):
        probabilities = np.random.default_rng(number).random(case.shape)
        found.append(
            HeldOut(case.id, "1", dataset, {"run": write_prediction(folder / f"{case.id}.npy", probabilities)})
        )
    return tuple(found)


PIPELINES = [Postprocessing(steps=(Threshold(level=level),)) for level in (0.3, 0.5, 0.7)]


def scores(scorer: Scorer) -> list[float]:
    return [scorer.score(pipeline, case_id) for pipeline in PIPELINES for case_id in scorer.cases]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_scores_are_said_and_computed_again(cases, tmp_path, seed) -> None:
    rnd, said = random.Random(seed), []
    expected = scores(Scorer(cases, tmp_path, 1))
    (log,) = tmp_path.glob("*.jsonl")
    content = log.read_bytes()
    if seed == 0:
        changed = content.replace(b'"score":0', b'"score":1')
    elif seed == 1:
        changed = content[: len(content) // 2]  # as a killed process leaves it
    else:
        flipped = bytearray(content)
        flipped[rnd.randrange(len(content))] ^= 1 << rnd.randrange(8)
        changed = bytes(flipped)
    log.write_bytes(changed)
    again = Scorer(cases, tmp_path, 1, said.append)
    again.mend()
    assert scores(again) == expected
    assert len(said) == (seed != 1)
    later = Scorer(cases, tmp_path, 1, pytest.fail)
    later.mend()
    assert scores(later) == expected


def test_scores_damaged_while_another_works_are_said(cases, tmp_path) -> None:
    said: list[str] = []
    expected, working = scores(Scorer(cases, tmp_path, 1)), Scorer(cases, tmp_path, 1, said.append)
    (log,) = tmp_path.glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"score":0', b'"score":1', 1))
    assert scores(working) == expected
    assert "1 new lines" in said[0]


def test_a_score_that_is_being_written_is_left_for_later(cases, tmp_path) -> None:
    expected = scores(Scorer(cases, tmp_path, 1))
    (log,) = tmp_path.glob("*.jsonl")
    content = log.read_bytes()
    log.rename(tmp_path / "7.jsonl")
    (tmp_path / "7.jsonl").write_bytes(content[:-9])
    reader = Scorer(cases, tmp_path, 1, pytest.fail)
    reader._reload()
    assert len(reader._known) == len(expected) - 1
    (tmp_path / "7.jsonl").write_bytes(content)
    reader._reload()
    assert list(reader._known.values()) == expected


def test_scores_of_other_predictions_do_not_count(cases, tmp_path) -> None:
    scores(Scorer(cases, tmp_path, 1))
    other = write_prediction(tmp_path / "other.npy", np.zeros(cases[0].dataset.case("a").shape))
    changed = (HeldOut("a", "1", cases[0].dataset, {"run": other}), cases[1])
    assert identity_of(changed) != identity_of(cases)
    said: list[str] = []
    Scorer(changed, tmp_path, 1, said.append).mend()
    assert "6 lines are damaged" in said[0]
