"""Suspect places as a table and as pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from volumen.data.dataset import PreparedDataset
from volumen.data.pictures import case_panel, encode_png
from volumen.doctor.data.places import Place
from volumen.files import write_atomically

AROUND_VOXELS = 32
COLUMNS = ("rank", "case", "z", "y", "x", "z0", "z1", "y0", "y1", "x0", "x1", "voxels", "score", "suspicion")


def table_of(places: Sequence[Place]) -> str:
    """Places as CSV, `COLUMNS`; box ends are the first voxel after it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, one in enumerate(places, start=1):
        ends = [end for side in one.box for end in side]
        writer.writerow([rank, one.case, *one.centre, *ends, one.voxels, f"{one.score:.1f}", one.suspicion])
    return text.getvalue()


def write_place_pictures(dataset: PreparedDataset, places: Sequence[Place], folder: Path) -> list[Path]:
    """Each place in three slices through its centre, as PNG: image, label, the place itself in colour.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for rank, one in enumerate(places, start=1):
        around = tuple(
            slice(max(0, at - AROUND_VOXELS), min(side, at + AROUND_VOXELS + 1))
            for at, side in zip(one.centre, dataset.case(one.case).shape, strict=True)
        )
        image, label = dataset.image(one.case)[around], dataset.lesson(one.case)[around]
        marked = np.zeros(label.shape, dtype=np.uint8)
        inside = tuple(
            slice(max(first, window.start) - window.start, min(end, window.stop) - window.start)
            for (first, end), window in zip(one.box, around, strict=True)
        )
        marked[inside] = one.mask[tuple(
            slice(max(window.start - first, 0), max(window.start - first, 0) + part.stop - part.start)
            for (first, _), window, part in zip(one.box, around, inside, strict=True)
        )]  # fmt: skip
        centre = tuple(at - window.start for at, window in zip(one.centre, around, strict=True))
        place = folder / f"{rank:03d}-{one.case}.png"
        write_atomically(place, encode_png(case_panel(np.asarray(image), np.asarray(label), marked, centre)))  # type: ignore[arg-type]
        written.append(place)
    return written
