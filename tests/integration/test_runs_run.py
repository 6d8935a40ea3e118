"""A run is opened once for a command, and one recipe makes its masks, whoever asks for them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.small_datasets import write_dataset

from volumen.cli.main import run as volumen
from volumen.doctor.audit import CHECKS
from volumen.experiments.evaluate import evaluate_run
from volumen.inference.recipe import Recipe

SMALL = (
    "data.patch=[16, 16, 16]",
    "data.sampling.patches_per_epoch=2",
    "data.workers=0",
    "model.filters=2",
    "model.depth=1",
    "training.epochs=1",
    "inference.engine=torch",
    "precision=fp32",
    "postprocessing.steps=[{kind: threshold, level: 0.02}]",  # surface nearly everywhere, were nothing empty
)
_opened: Counter[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is None or event != "open" or not isinstance(arguments[0], str | os.PathLike):
        return
    path, flags = Path(arguments[0]), arguments[2]
    reads = isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY
    if reads and (
        path.suffix == ".pt" or path.name == "folds.json" or path.parts[-2:] == ("prepared", "manifest.json")
    ):
        _opened["/".join(path.parts[-3:])] += 1


sys.addaudithook(_note)


@contextmanager
def opened() -> Iterator[Counter[str]]:
    """How often each checkpoint, data set and folds file is opened for reading."""
    global _opened
    counts = _opened = Counter()
    try:
        yield counts
    finally:
        _opened = None


def training(place: Path, name: str, *overrides: str) -> list[str]:
    words = ["train", "preset:default", "--out", str(place / name), "--quiet", "--dataset", str(place / "prepared")]
    words += [word for key in (*SMALL, *overrides) for word in ("-o", key)]
    return words + [word for code in CHECKS for word in ("--accept", code)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`source`, `prepared` of it, and runs `first` and `second` of its two folds; the scans are empty at one end."""
    place = tmp_path_factory.mktemp("runs")
    write_dataset(place / "source", {"11": "1", "12": "1", "21": "2", "22": "2"}, empty=6)
    assert volumen(["prepare", str(place / "source"), "--out", str(place / "prepared")]) == 0
    assert volumen(["folds", str(place / "prepared"), "--folds", "2"]) == 0
    assert volumen(training(place, "first")) == 0
    assert volumen(training(place, "second", "data.fold=1")) == 0
    return place


COMMANDS = {
    "train": "train preset:default --out {place}/new",
    "train from another run": "train preset:default --out {place}/from -o model.initial_weights={place}/first",
    "resume": "train {place}/first --resume -o training.epochs=2",
    "evaluate": "evaluate {place}/first",
    "evaluate another fold": "evaluate {place}/first --fold 1",
    "predict": "predict {place}/first {place}/source/train_images/11.tif {place}/masks",
    "bundle": "bundle {place}/first {place}/second --out {place}/model.volumen",
    "tune": "tune {place}/first {place}/second --out {place}/tuned --trials 4",
    "ensemble": "ensemble {place}/first {place}/first:last {place}/first:plain --out {place}/both.volumen",
    "select": "select {place}/first --out {place}/selection.json",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_opens_data_set_folds_and_checkpoints_once(place, name):
    words = [word.format(place=place) for word in COMMANDS[name].split()]
    if "preset:default" in words:
        words = [*training(place, "x")[4:], *words[2:]]
        words = ["train", "preset:default", *words]
    with opened() as counts:
        assert volumen(words) == 0
    assert counts, "nothing was opened: the test tests nothing"
    assert max(counts.values()) == 1, counts


def test_validation_evaluation_and_prediction_make_the_same_masks(place, monkeypatch):
    """Checkpoints are chosen on the very masks that are scored and submitted, where the scan is empty, too."""
    made: list[np.ndarray] = []
    mask = Recipe.mask

    def noting(self: Recipe, *arguments: object) -> np.ndarray:
        made.append(mask(self, *arguments))
        return made[-1]

    monkeypatch.setattr(Recipe, "mask", noting)
    assert volumen(training(place, "watched")) == 0
    validated, made[:] = list(made[-2:]), []
    cases = [case.id for case in evaluate_run(place / "watched", which="last", keep=False, steps=False).cases]
    evaluated = list(made)
    for case_id, first, second in zip(cases, validated, evaluated, strict=True):
        np.testing.assert_array_equal(first, second)
        image, out = place / "source" / "train_images" / f"{case_id}.tif", place / "watched-masks"
        assert volumen(["predict", str(place / "watched"), str(image), str(out), "--which", "last"]) == 0
        np.testing.assert_array_equal(tifffile.imread(out / image.name), first)
        assert first[:-6].mean() > 0.5
        assert not first[-6:].any()
