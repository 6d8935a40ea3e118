"""A folder of masks after bad days: `--resume` ends with the masks of a fresh prediction, or with one line."""

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from volumen.config.postprocessing import Postprocessing
from volumen.errors import UserError
from volumen.inference import files
from volumen.inference.files import find_images, predict_files
from volumen.inference.output_folder import Wanted, check_output
from volumen.inference.prediction_record import RECORD, FilePrediction, Origin
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import Recipe
from volumen.runtime import Precision
from volumen.system.locks import HeldError, hold
from volumen.system.records import sealed

NAMES = ("a.tif", "b.tif", "c.tiff")


class Bright(nn.Module):
    """Logit = 3 * normalised grey value."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * images


def write_images(folder: Path, seed: int) -> Path:
    folder.mkdir()
    for number, name in enumerate(NAMES):
        image = np.random.default_rng([seed, number]).integers(1, 255, (6, 9, 8), dtype=np.uint8)
        tifffile.imwrite(folder / name, image, photometric="minisblack")
    return folder


def predict(source: Path, out: Path, said: list[str] | None = None, **wanted: bool) -> tuple[FilePrediction, ...]:
    predictor = Predictor(Bright(), tile=(8, 8, 8), overlap=0.0, device="cpu", precision=Precision("fp32", "cpu"))
    return predict_files(
        Recipe(predictor, "zscore", Postprocessing(), Origin(run="run", which="best")),
        find_images(source),
        out,
        Wanted(probabilities=True, **wanted),
        say=(said if said is not None else []).append,
    )


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.tif*")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images`, `others` of the same names and shapes, and `masks` of the images."""
    place = tmp_path_factory.mktemp("made")
    write_images(place / "images", 0)
    write_images(place / "others", 1)
    predict(place / "images", place / "masks")
    predict(place / "others", place / "other_masks")
    return place


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def damage(place: Path, chance: random.Random) -> None:
    """Something happens to a file of a prediction, its record or an image."""
    paths = [path for path in place.rglob("*") if path.is_file()]
    path, other = chance.choice(paths), chance.choice(paths)
    kind = chance.randrange(9)
    if kind < 3:
        flip(path, chance)
    elif kind == 3:
        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size + 1)])
    elif kind == 4 and path.parent.name != "images":
        path.unlink()
    elif kind == 5:
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == 6:
        path.write_bytes(path.read_bytes() + chance.randbytes(7))
    elif kind == 7:
        record = place / "masks" / RECORD
        content = record.read_bytes() if record.exists() else b""
        digits = [number for number, one in enumerate(content) if chr(one).isdigit()]
        if digits:
            number = chance.choice(digits)
            record.write_bytes(content[:number] + chance.choice(b"0123456789").to_bytes() + content[number + 1 :])
    else:
        (place / "masks" / f".partial-{2**22 + 1}-x.tif").write_bytes(b"half")


def test_resume_after_any_damage_ends_with_the_masks_of_a_fresh_prediction_or_one_line(
    made: Path, tmp_path: Path
) -> None:
    same = lines = 0
    for seed in range(100):
        chance = random.Random(seed)
        place = tmp_path / str(seed)
        for name in ("images", "masks"):
            shutil.copytree(made / name, place / name)
        for _ in range(chance.choice([1, 1, 2, 4])):
            damage(place, chance)
        try:
            fresh: tuple[FilePrediction, ...] | str = predict(place / "images", place / "fresh")
        except UserError as error:
            fresh = str(error)
        try:
            resumed: tuple[FilePrediction, ...] | str = predict(place / "images", place / "masks", resume=True)
        except UserError as error:
            resumed = str(error)
        if isinstance(resumed, str):
            assert resumed.isprintable()
            lines += 1
            continue
        assert resumed == fresh
        assert outputs(place / "masks") == outputs(place / "fresh")
        assert not list(place.rglob(".partial-*"))
        same += 1
    assert same > 30
    assert lines > 10


def test_a_mask_of_another_image_of_the_same_name_and_shape_is_not_kept(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "masks", tmp_path / "masks")
    said: list[str] = []
    predict(made / "others", tmp_path / "masks", said, resume=True)
    assert outputs(tmp_path / "masks") == outputs(made / "other_masks")
    assert said == [f"{name} is predicted again: the image is not the one that its mask was made of" for name in NAMES]


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lambda masks: (masks / "a.tif").unlink(), "a.tif is predicted again: a.tif is gone"),
        (lambda masks: shutil.copy(masks / "b.tif", masks / "a.tif"), "predicted again: a.tif is not what was written"),
        (lambda masks: (masks / "probabilities/a.tif").write_bytes(b""), "probabilities/a.tif is not what was written"),
        (lambda masks: (masks / RECORD).unlink(), "a.tif is predicted again: the record does not know its files"),
    ],
)
def test_what_is_predicted_again_is_said_with_its_reason(
    made: Path, tmp_path: Path, happens: Callable[[Path], object], said: str
) -> None:
    shutil.copytree(made / "masks", tmp_path / "masks")
    happens(tmp_path / "masks")
    heard: list[str] = []
    predict(made / "images", tmp_path / "masks", heard, resume=True)
    assert said in "; ".join(heard)
    assert outputs(tmp_path / "masks") == outputs(made / "masks")


def test_the_record_holds_the_hash_of_what_went_in_and_of_what_came_out(made: Path) -> None:
    record = json.loads((made / "masks" / RECORD).read_text())
    for image in record["images"]:
        assert image["image_sha256"] == files.sha256_of(made / "images" / image["name"])
        assert sorted(image["files"]) == [image["name"], f"probabilities/{image['name']}"]
        for name, digest in image["files"].items():
            assert digest == files.sha256_of(made / "masks" / name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["images"][0].update(name="../../victim.tif"), "is a path"),
        (lambda record: record["images"][0].update(shape="6"), "shape"),
        (lambda record: record["images"][0]["appearance"].update(voxels=0), "voxels"),
        (lambda record: record["settings"].update(members="all"), "members"),
        (lambda record: record["settings"].update(run=3), "run"),
        (lambda record: record.pop("images"), "images"),
        (lambda record: record.pop("settings"), "settings"),
    ],
)
def test_a_record_by_somebody_else_is_typed(
    made: Path, tmp_path: Path, change: Callable[[dict[str, object]], object], said: str
) -> None:
    shutil.copytree(made / "masks", tmp_path / "masks")
    record = json.loads((tmp_path / "masks" / RECORD).read_text())
    record.pop("check")
    change(record)
    (tmp_path / "masks" / RECORD).write_text(json.dumps(sealed(record)))
    with pytest.raises(UserError, match=said):
        predict(made / "images", tmp_path / "masks", resume=True)


def test_one_process_predicts_into_a_folder(made: Path, tmp_path: Path) -> None:
    with hold(tmp_path / "out", "predict"), pytest.raises(HeldError, match="in use"):
        predict(made / "images", tmp_path / "out")
    predict(made / "images", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*NAMES, RECORD, "probabilities"]


def test_places_that_do_not_do_are_known_before_anything_is_computed(made: Path, tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    images = find_images(made / "images")
    for at, kind in (("a.tif", "link"), ("a.tif", "folder"), ("probabilities", "link"), (RECORD, "link")):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if kind == "link":
            (out / at).symlink_to(victim if at == "probabilities" else victim / "file")
        else:
            (out / at).mkdir()
        for wanted in (Wanted(True, overwrite=True), Wanted(True, resume=True)):
            with pytest.raises(UserError, match=r"is a link|is no file"):
                check_output(images, out, wanted)
    assert (victim / "file").read_text() == "mine"
    assert len(list(victim.iterdir())) == 1
    deep = tmp_path / "/".join(["x" * 200] * 30)
    with pytest.raises(UserError, match="cannot be written to"):
        check_output(images, deep, Wanted())
    with pytest.raises(UserError, match="is a file"):
        check_output(images, victim / "file", Wanted())
    with pytest.raises(UserError, match="cannot be written to"):
        check_output(images, victim / "file" / "below", Wanted())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_is_told(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written to"):
        check_output(find_images(made / "images"), tmp_path / "out", Wanted())


@pytest.mark.parametrize("name", ["x" * 210 + ".tif", "a\nb.tif", ".hidden.tif", "c:d.tif"])
def test_images_whose_names_are_none_are_told_before(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / name, np.ones((4, 4, 4), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match=r"the file|holds no") as caught:
        predict(tmp_path / "images", tmp_path / "out")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_what_is_done_and_nothing_half_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = files.write_atomically, []

    def full(path: Path, content: bytes) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            predict(made / "images", tmp_path / "out")
    assert not list(tmp_path.rglob(".partial-*"))
    before = (tmp_path / "out" / "a.tif").stat().st_mtime_ns
    predict(made / "images", tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "a.tif").stat().st_mtime_ns == before
    assert outputs(tmp_path / "out") == outputs(made / "masks")
