"""The examples of docs/api.md, run one after the other; and what Python predicts is what the command predicts."""

import importlib
import inspect
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import tifffile

import volumen
from volumen.cli.main import run

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def page():
    """The examples by section and name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        yield importlib.import_module("api_examples").PAGE


@pytest.fixture(scope="module")
def printed() -> dict[str, tuple[str, str]]:
    """What each example wrote to stdout and stderr, once `folder` is there."""
    return {}


@pytest.fixture(scope="module")
def folder(page, printed, tmp_path_factory) -> Path:
    """Where the examples ran."""
    place = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for examples in page.values():
            for name, example in examples.items():
                with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as errors:
                    example()
                printed[name] = out.getvalue(), errors.getvalue()
    return place


def test_every_public_name_has_an_example(page):
    shown = [name for examples in page.values() for name in examples]
    assert sorted([*shown, "__version__"]) == sorted(volumen.__all__)


def test_the_examples_run_and_print_nothing_by_themselves(page, folder, printed):
    for examples in page.values():
        for name, example in examples.items():
            out, errors = printed[name]
            assert not errors, name
            assert not out or "print(" in inspect.getsource(example), name


def test_python_predicts_what_the_command_predicts(folder):
    path = folder / "scrolls" / "train_images" / "10001.tif"
    image = tifffile.imread(path)
    image[:, :, :12] = 0  # what the scan left empty
    other = folder / "emptied.tif"
    tifffile.imwrite(other, image, photometric="minisblack")
    level = float(np.median(volumen.load(folder / "runs" / "small").probabilities(image)[:, :, 12:]))
    steps = f"postprocessing.steps=[{{kind: threshold, level: {level:.4f}}}]"
    settings = {"postprocessing.steps": [{"kind": "threshold", "level": round(level, 4)}]}
    for source in (path, other):
        out = folder / f"masks-{source.stem}"
        assert run(["predict", str(folder / "runs" / "small"), str(source), str(out), "-o", steps]) == 0
        mask = volumen.load(folder / "runs" / "small", settings).predict(tifffile.imread(source))
        np.testing.assert_array_equal(mask, tifffile.imread(out / source.name))
        assert mask.any(), "an empty mask compares nothing"


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.float32), np.zeros((4, 4), np.uint8)])
def test_what_is_no_image_is_refused(folder, image):
    with pytest.raises(volumen.UserError, match="volume of integers"):
        volumen.load(folder / "runs" / "small").predict(image)


def test_records_of_no_such_kind_name_those_there_are(folder):
    with pytest.raises(volumen.UserError, match=r"train.*validation.*events"):
        volumen.records(folder / "runs" / "small", "loss")
    assert volumen.records(folder / "runs" / "small", "events")["kind"][-1] == "finished"


def test_a_run_that_exists_is_not_trained_over(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(volumen.UserError, match="exists already"):
        volumen.train("preset:default", "runs/small")
