"""Find a data set's files in the competition's layout and say all that is wrong with it at once.

`train_images/ID.tif`, `train_labels/ID.tif`, `train.csv` (id, scroll_id), and optionally `test_images/ID.tif` with
`test.csv`. Only names and tables are looked at here; the contents come later.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from volumen.data.volumes import SUFFIXES
from volumen.errors import UserError
from volumen.system.names import one_line, problem_of, shown

ONE_SCROLL = "unknown"
MOST_TABLE_BYTES = 64 * 2**20
LONGEST_SCROLL = 200
_MOST = 3  # problems of a table that are told where nothing else is


@dataclass(frozen=True)
class Source:
    """The files of one case."""

    id: str
    scroll_id: str
    image: Path
    label: Path | None
    """None for a test image."""


@dataclass(frozen=True)
class Layout:
    """A data set's files, with everything that is wrong and everything that was assumed."""

    sources: tuple[Source, ...]
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
        Source(case_id, scrolls.get(case_id, ONE_SCROLL), image, labels.get(case_id))
        for case_id, image in images.items()
    ]
    sources += [
        Source(case_id, test_scrolls.get(case_id, ONE_SCROLL), image, None)
        for case_id, image in tests.items()
        if case_id not in images
    ]
    return Layout(tuple(sorted(sources, key=lambda source: source.id)), tuple(problems), tuple(notes))


def read_scrolls(table: Path) -> dict[str, str]:
    """Scroll by case id from a table with the columns id and scroll_id.

    Raises:
        UserError: the table cannot be read or lacks a column or a value.
    """
    problems: list[str] = []
    rows = _read_table(table, problems) or []
    problems += _doubled(table, rows)
    if rows and "scroll_id" not in rows[0]:
        problems.append(f"{table} has no column scroll_id: add it, or leave the table out")
    elif not rows and not problems:
        problems.append(f"{table} has no rows: leave the table out")
    problems += [f"{table}: id {row['id']} has no scroll_id: fill it in" for row in rows if not row.get("scroll_id")]
    if problems:
        raise UserError("; ".join(problems[:_MOST]) + (f"; and {len(problems) - _MOST} more" * (len(problems) > _MOST)))
    return {row["id"]: row["scroll_id"] for row in rows}


def _volumes(folder: Path, problems: list[str], notes: list[str]) -> dict[str, Path]:
    """TIFF files by id (the name without suffix), sorted; hidden files are not looked at."""
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    others = 0
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        problems.append(f"{folder} cannot be read ({error.strerror}): check its permissions")
        return {}
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            others += 1
        elif problem := problem_of(path.stem):
            problems.append(
                f"{folder}: the file {shown(path.name)} {problem}, and is to be called by a case id: rename it"
            )
        elif path.stem in found:
            problems.append(f"{path} and {found[path.stem].name} have the same id {path.stem}: remove or rename one")
        else:
            found[path.stem] = path
    if others:
        notes.append(f"{others} entries of {folder.name} are no TIFF volumes and were left out")
    return found


def _scrolls(table: Path, ids: set[str], problems: list[str], notes: list[str]) -> dict[str, str]:
    """Scroll by case id from a table, checked against the files."""
    if not table.is_file():
        notes.append(f"there is no {table.name}: all of its cases are taken to be of one scroll, {ONE_SCROLL!r}")
        return {}
    rows = _read_table(table, problems)
    if rows is None:
        return {}
    if rows and "scroll_id" not in rows[0]:
        notes.append(f"{table.name} has no column scroll_id: all cases are taken to be of one scroll, {ONE_SCROLL!r}")
    problems += _doubled(table, rows)
    listed = {row["id"]: row.get("scroll_id", ONE_SCROLL) for row in rows}
    problems += [
        f"{table}: id {case_id} has no scroll_id: fill it in" for case_id, scroll in listed.items() if not scroll
    ]
    folder = table.stem + "_images"
    problems += [
        f"{table}: id {case_id} has no file {folder}/{case_id}.tif: add the file, or remove the row"
        for case_id in listed
        if case_id not in ids
    ]
    problems += [
        f"{folder}/{case_id}.tif has no row in {table}: add one with its id and scroll_id, or remove the file"
        for case_id in sorted(ids - set(listed))
    ]
    return listed


def _doubled(table: Path, rows: list[dict[str, str]]) -> list[str]:
    counts = Counter(row["id"] for row in rows)
    return [f"{table}: id {case_id} stands in {count} rows: keep one" for case_id, count in counts.items() if count > 1]


def _read_table(table: Path, problems: list[str]) -> list[dict[str, str]] | None:
    """The id and the scroll of each row; rows that name neither properly become problems and are left out."""
    try:
        if table.stat().st_size > MOST_TABLE_BYTES:
            problems.append(
                f"{table} is larger than {MOST_TABLE_BYTES} bytes, which no table of ids is: check the path"
            )
            return None
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, skipinitialspace=True)
            columns = [column.strip() for column in next(reader, [])]
            doubled = [name for name in ("id", "scroll_id") if columns.count(name) > 1]
            if "id" not in columns or doubled:
                found = ", ".join(map(shown, columns[:10]))
                problems.append(f"{table} has the columns [{found}], expected id and scroll_id, each once: mend line 1")
                return None
            wanted: dict[str, int] = {name: columns.index(name) for name in ("id", "scroll_id") if name in columns}
            rows: list[dict[str, str]] = []
            for cells in reader:
                problem = _row_problem(cells, len(columns), wanted)
                if problem:
                    problems.append(f"{table}, line {reader.line_num}: {problem}")
                elif cells:
                    cells += [""] * (len(columns) - len(cells))
                    rows.append({name: cells[place].strip() for name, place in wanted.items()})
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(str(error))
        problems.append(f"{table} cannot be read: {reason}")
        return None


def _row_problem(cells: list[str], columns: int, wanted: Mapping[str, int]) -> str:
    """What is wrong with a row in words; empty for a good one and for an empty line."""
    if not cells:
        return ""
    if len(cells) > columns:
        return f"it has {len(cells)} cells, the first line names {columns}: quote a cell that holds a comma"
    values = {name: cells[place].strip() if place < len(cells) else "" for name, place in wanted.items()}
    if problem := problem_of(values["id"]):
        return f"the id {shown(values['id'])} {problem}: write the name of its file without the suffix"
    scroll = values.get("scroll_id", "")
    if not scroll.isprintable() or len(scroll) > LONGEST_SCROLL:
        return f"the scroll_id {shown(scroll)} is no short printable text: mend it"
    return ""
