"""What is measured of a volume is measured once, and anew where volume, meaning or measure changed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from volumen.data.dataset import PreparedDataset
from volumen.data.prepare import prepare
from volumen.doctor.data import readings
from volumen.doctor.data.readings import FOLDER, Measure, Numbers, Seen, numbers_of
from volumen.phantoms.scrolls import write_phantom_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    write_phantom_dataset(tmp_path / "raw", shape=(32, 32, 32), volumes=2, scrolls=2, seed=3)
    return prepare(tmp_path / "raw", tmp_path / "prepared", accept_proposal=True)


class Counted:
    """A measure that counts its volumes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, seen: Seen) -> Numbers:
        self.seen.append(seen.case.id)
        return {"sums": seen.image.astype(np.float64).sum(axis=(1, 2)), "labels": np.bincount(seen.label.ravel())}


def test_numbers_are_kept_and_equal_those_measured(dataset: PreparedDataset) -> None:
    counted = Counted()
    measure = Measure("sums", 1, counted)
    case_id = dataset.labelled[0].id
    first = numbers_of(dataset, case_id, (measure,))["sums"]
    again = numbers_of(dataset, case_id, (measure,))["sums"]
    assert counted.seen == [case_id]
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_another_version_and_a_damaged_file_are_measured_anew(dataset: PreparedDataset) -> None:
    counted = Counted()
    measure = Measure("sums", 1, counted)
    case_id = dataset.labelled[0].id
    numbers_of(dataset, case_id, (measure,))
    numbers_of(dataset, case_id, (replace(measure, version=2),))
    for kept in (dataset.root / FOLDER).rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    numbers_of(dataset, case_id, (measure,))
    assert counted.seen == [case_id] * 3


def test_a_volume_is_opened_only_where_something_is_missing(dataset: PreparedDataset) -> None:
    measure = Measure("sums", 1, Counted())
    case_id = dataset.labelled[0].id
    numbers_of(dataset, case_id, (measure,))
    for part in ("images", "labels"):
        dataset.path(case_id, part).unlink()
    assert numbers_of(dataset, case_id, (measure,))["sums"]["sums"].shape == (32,)


@pytest.mark.parametrize(("volumes", "most"), [(3, 64), (64, 64), (65, 64), (786, 64), (5, 2)])
def test_some_volumes_are_all_of_few_and_spread_over_many(volumes, most, monkeypatch) -> None:
    monkeypatch.setattr(readings, "MOST_VOLUMES", most)
    ids = tuple(str(number) for number in range(volumes))
    chosen = readings.some_volumes(SimpleNamespace(training=ids[:-1], validation=ids[-1:]))
    assert len(set(chosen)) == len(chosen) == min(volumes, most)
    places = [int(one) for one in chosen]
    assert max(np.diff([*places, volumes]), default=1) <= -(-volumes // most)
