"""What the checks of data measure of each volume, in one read of it, and kept: an audit made again reads nothing."""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import Case, PreparedDataset
from volumen.data.labels import IGNORE
from volumen.doctor.context import Context
from volumen.files import write_atomically

MOST_VOLUMES = 64
FOLDER = "audit"
"""Beside the arrays of a prepared data set."""


@dataclass(frozen=True)
class Seen:
    """A volume that is being read."""

    case: Case
    image: NDArray[np.generic]
    """Grey values as stored, [Z, Y, X]."""
    label: NDArray[np.uint8]
    """Canonical codes, ignore where the scan holds nothing, [Z, Y, X]."""


Numbers = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Measure:
    """Something that is measured of each volume by itself."""

    name: str
    version: int
    """Another one where its numbers mean something else: what was kept is measured anew."""
    run: Callable[[Seen], Numbers]


def some_volumes(context: Context) -> tuple[str, ...]:
    """The labelled volumes of the fold, or `MOST_VOLUMES` of them spread over it, where each costs a second or two."""
    ids = (*context.training, *context.validation)
    step = max(1.0, len(ids) / MOST_VOLUMES)
    return tuple(ids[int(number * step)] for number in range(min(len(ids), MOST_VOLUMES)))


def read_volumes(
    context: Context, measures: tuple[Measure, ...], ids: Sequence[str] | None = None
) -> dict[str, dict[str, Numbers]]:
    """Numbers of labelled volumes of the fold, all of them by default, by case and name of the measure.

    A volume is read once for all measures that are not kept already. Where the data set's folder cannot be written,
    nothing is kept.
    """
    remembered: dict[str, dict[str, Numbers]] = context.known.setdefault(read_volumes, {})
    wanted = (*context.training, *context.validation) if ids is None else tuple(ids)
    for case_id in wanted:
        mine = remembered.setdefault(case_id, {})
        missing = tuple(measure for measure in measures if measure.name not in mine)
        mine.update(numbers_of(context.dataset, case_id, missing))
    return {case_id: remembered[case_id] for case_id in wanted}


def numbers_of(dataset: PreparedDataset, case_id: str, measures: tuple[Measure, ...]) -> dict[str, Numbers]:
    """Numbers of one volume, by name of the measure; one without a label is seen as unlabelled everywhere."""
    case = dataset.case(case_id)
    places = {measure.name: _place(dataset, case, measure) for measure in measures}
    found = {name: kept for name, place in places.items() if (kept := _kept(place)) is not None}
    missing = [measure for measure in measures if measure.name not in found]
    if missing:
        image = np.asarray(dataset.image(case_id))
        lesson = np.asarray(dataset.lesson(case_id)) if case.has_label else np.full(image.shape, IGNORE, np.uint8)
        seen = Seen(case, image, lesson)
        for measure in missing:
            found[measure.name] = measure.run(seen)
            _keep(places[measure.name], found[measure.name])
    return found


def _place(dataset: PreparedDataset, case: Case, measure: Measure) -> Path:
    """Named by all that the numbers depend on."""
    content = json.dumps([case.content, dataset.meanings.to_json()["labels"], measure.version], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return dataset.root / FOLDER / measure.name / f"{case.id}-{digest}.npz"


def _kept(place: Path) -> Numbers | None:
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        content = io.BytesIO(place.read_bytes())
        with np.load(content, allow_pickle=False) as file:
            return dict(file)
    return None


def _keep(place: Path, numbers: Numbers) -> None:
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **{name: np.asarray(value) for name, value in numbers.items()})
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, packed.getvalue())
