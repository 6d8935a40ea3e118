"""Find a data set's files in the competition's layout and say all that is wrong with it at once.

`train_images/ID.tif`, `train_labels/ID.tif`, `train.csv` (id, scroll_id), and optionally `test_images/ID.tif` with
`test.csv`. Only names and tables are looked at here; the contents come later.
"""

from dataclasses import dataclass
from pathlib import Path

from volumen.data.listing import list_volumes
from volumen.data.tables import ID, SCROLL, join_problems, read_rows
from volumen.errors import UserError

ONE_SCROLL = "unknown"


@dataclass(frozen=True)
class RawCase:
    """The files of one case."""

    id: str
    scroll_id: str
    image: Path
    label: Path | None
    """None for a test image."""


@dataclass(frozen=True)
class Layout:
    """A data set's files, with everything that is wrong and everything that was assumed."""

    sources: tuple[RawCase, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def read_layout(dataset: Path) -> Layout:
    """Find images, labels and scrolls of a data set.

    Raises:
        UserError: the folder does not exist.
    """
    if not dataset.is_dir():
        raise UserError(f"{dataset} is not a folder: give the data set's folder, the one that holds train_images")
    problems: list[str] = []
    notes: list[str] = []
    images = _volumes(dataset / "train_images", problems, notes)
    labels = _volumes(dataset / "train_labels", problems, notes)
    tests = _volumes(dataset / "test_images", problems, notes)
    if not images:
        problems.append(f"{dataset / 'train_images'} holds no TIFF volume: expected train_images/ID.tif")
    problems += [
        f"{image} has no label: expected {dataset / 'train_labels' / image.name}; add it, or move the image to "
        "test_images"
        for case_id, image in images.items()
        if case_id not in labels
    ]
    problems += [
        f"{label} has no image: expected {dataset / 'train_images' / label.name}; add it, or remove the label"
        for case_id, label in labels.items()
        if case_id not in images
    ]
    problems += [
        f"case {case_id} is in train_images and in test_images: ids must be unique, rename or remove one"
        for case_id in images
        if case_id in tests
    ]
    scrolls = _scrolls(dataset / "train.csv", set(images), problems, notes)
    test_scrolls = _scrolls(dataset / "test.csv", set(tests), problems, notes) if tests else {}
    sources = [
        RawCase(case_id, scrolls.get(case_id, ONE_SCROLL), image, labels.get(case_id))
        for case_id, image in images.items()
    ]
    sources += [
        RawCase(case_id, test_scrolls.get(case_id, ONE_SCROLL), image, None)
        for case_id, image in tests.items()
        if case_id not in images
    ]
    return Layout(tuple(sorted(sources, key=lambda source: source.id)), tuple(problems), tuple(notes))


def _volumes(folder: Path, problems: list[str], notes: list[str]) -> dict[str, Path]:
    """TIFF files by id."""
    if not folder.is_dir():
        return {}
    try:
        found = list_volumes(folder)
    except UserError as error:
        problems.append(str(error))
        return {}
    problems += [f"{folder}: {problem}" for problem in found.problems]
    if found.others:
        notes.append(f"{len(found.others)} entries of {folder.name} are no TIFF volumes and were left out")
    return found.files


def _scrolls(table: Path, ids: set[str], problems: list[str], notes: list[str]) -> dict[str, str]:
    """Scroll by case id from a table, checked against the files."""
    if not table.is_file():
        notes.append(f"there is no {table.name}: all of its cases are taken to be of one scroll, {ONE_SCROLL!r}")
        return {}
    rows = read_rows(table, problems)
    if rows is None:
        return {}
    if rows and SCROLL not in rows[0]:
        notes.append(f"{table.name} has no column scroll_id: all cases are taken to be of one scroll, {ONE_SCROLL!r}")
    listed = {row[ID]: row.get(SCROLL, ONE_SCROLL) for row in rows}
    problems += join_problems(table, listed, ids, table.stem + "_images")
    return listed
