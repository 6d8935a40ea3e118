"""A piece cut out of a label is the most suspect place, wherever it was; a label on nothing is one too."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile

from volumen.data.dataset import PreparedDataset
from volumen.data.labels import BACKGROUND, SURFACE
from volumen.data.prepare import prepare
from volumen.doctor.data.places import Place, Suspicion, suspect_places
from volumen.doctor.data.places_output import table_of, write_place_pictures
from volumen.phantoms.scrolls import write_phantom_dataset

CUT = (slice(16, 48), slice(4, 44), slice(10, 50))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedDataset, str, np.ndarray]:
    """A data set whose second volume has lost all surface in a box; what it lost."""
    folder = tmp_path_factory.mktemp("places")
    write_phantom_dataset(folder / "raw", shape=(64, 64, 64), volumes=3, scrolls=1, seed=5, difficulty=0.2)
    path = sorted((folder / "raw" / "train_labels").glob("*.tif"))[1]
    label = tifffile.imread(path)
    lost = np.zeros(label.shape, dtype=bool)
    lost[CUT] = label[CUT] == SURFACE
    tifffile.imwrite(path, np.where(lost, BACKGROUND, label).astype(np.uint8), photometric="minisblack")
    return prepare(folder / "raw", folder / "prepared", accept_proposal=True), path.stem, lost


@pytest.fixture(scope="module")
def places(cut) -> list[Place]:
    dataset, _, _ = cut
    return suspect_places(dataset, [case.id for case in dataset.labelled], most=8)


def test_what_was_cut_out_is_the_most_suspect(cut, places) -> None:
    dataset, case, lost = cut
    first = places[0]
    assert (first.case, first.suspicion) == (case, Suspicion.unlabelled)
    inside = lost[tuple(slice(*side) for side in first.box)]
    assert (inside & first.mask).sum() > 0.3 * first.voxels
    for one in places:
        box = tuple(slice(*side) for side in one.box)
        assert one.mask.sum() == one.voxels
        assert one.mask[tuple(at - side[0] for at, side in zip(one.centre, one.box, strict=True))]
        labelled = np.asarray(dataset.lesson(one.case))[box][one.mask]
        assert set(labelled) == {BACKGROUND if one.suspicion is Suspicion.unlabelled else SURFACE}
    scores = [one.score for one in places]
    assert scores == sorted(scores, reverse=True)


def test_places_are_a_table_and_pictures(cut, places, tmp_path: Path) -> None:
    dataset, _, _ = cut
    rows = list(csv.DictReader(io.StringIO(table_of(places))))
    assert [row["case"] for row in rows] == [one.case for one in places]
    assert [int(row["z1"]) - int(row["z0"]) for row in rows] == [one.mask.shape[0] for one in places]
    written = write_place_pictures(dataset, places[:2], tmp_path / "pictures")
    assert [place.read_bytes()[:4] for place in written] == [b"\x89PNG"] * 2
