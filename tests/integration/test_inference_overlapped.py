"""Volumes that overlap are written as if they did not, in their order, and one that fails takes no other with it."""

import json
import os
import signal
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from volumen.config.postprocessing import Postprocessing, RemoveSmallComponents, Threshold
from volumen.errors import UserError
from volumen.inference.files import find_images, predict_files
from volumen.inference.output_folder import Wanted
from volumen.inference.overlapped import Overlapped
from volumen.inference.predictor import Predictor
from volumen.inference.recipe import Recipe
from volumen.runtime import Precision


def predict(source: Path, out: Path, *, sums: bool) -> None:
    predictor = Predictor(
        torch.nn.Hardtanh(-3, 3),
        tile=(8, 8, 8),
        overlap=0.25,
        device="cpu",
        precision=Precision("fp32", "cpu"),
        sums=sums,
    )
    steps = Postprocessing(
        steps=(Threshold(kind="threshold"), RemoveSmallComponents(kind="remove_small_components", minimum_voxels=3))
    )
    predict_files(Recipe(predictor, "zscore", steps), find_images(source), out, Wanted(probabilities=True, resume=True))


def content(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.tif")) if path.name != "3.tif"
    }


def test_files_are_the_same_and_what_precedes_a_damaged_one_is_kept(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(1, 255, (9, 12, 10 + number), dtype=np.uint8)
        image[: 3 * number] = 0  # empty in part, but for the first
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image, photometric="minisblack")
    predict(tmp_path / "images", tmp_path / "host", sums=False)
    (tmp_path / "images" / "3.tif").write_bytes(b"II*\0 damaged")
    before = threading.active_count()
    with pytest.raises(UserError, match=r"3\.tif"):
        predict(tmp_path / "images", tmp_path / "device", sums=True)
    assert threading.active_count() == before
    assert len(content(tmp_path / "host")) == 6
    masks = [
        {name: data for name, data in content(tmp_path / out).items() if "/" not in name} for out in ("device", "host")
    ]
    assert masks[0] == masks[1]
    assert content(tmp_path / "device").keys() == content(tmp_path / "host").keys()
    recorded = json.loads((tmp_path / "device" / "prediction.json").read_text())["images"]
    assert [one["name"] for one in recorded] == ["0.tif", "1.tif", "2.tif"]


def test_the_order_is_kept_large_ones_are_written_here_and_a_death_names_its_volume():
    paths, kept, here = [Path(str(number)) for number in range(7)], [], os.getpid()

    def run(write, predict, is_large, processes):
        work = Overlapped(lambda path: int(path.name), predict, write, is_large, processes)
        work.run(paths, kept.append)

    run(partial(pow, 2), int, lambda number: number == 4, 2)
    assert kept == [2**number for number in range(7)]
    kept.clear()
    with pytest.raises(UserError, match=r"the process that wrote 0 was killed by SIGKILL.*with --resume it goes on"):
        run(signal.raise_signal, lambda number: signal.SIGKILL, lambda number: False, 1)
    assert kept == []
    assert os.getpid() == here
