"""Tables of case ids as people and spreadsheets save them, and the one way in which ids are joined.

Comma, semicolon or tab; UTF-8 or UTF-16 with or without a byte-order mark; quoted or not; columns in any order and
case. An id is text: a spreadsheet that takes 00007 for the number 7 has lost it, and that is told and not guessed at.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from volumen.data.listing import case_of, id_text
from volumen.errors import DamagedError, UserError
from volumen.files import is_regular_file
from volumen.system.names import one_line, problem_of, shown, some

ID, SCROLL = "id", "scroll_id"
MOST_TABLE_BYTES = 64 * 2**20
LONGEST_SCROLL = 200
_DELIMITERS = ",;\t"
_MOST = 3  # problems of a table that are told where nothing else is
_NUMBER = re.compile(r"^(\d+)\.0*$")


def read_scrolls(table: Path) -> dict[str, str]:
    """Scroll by case id from a table with the columns id and scroll_id.

    Raises:
        UserError: the table cannot be read or lacks a column or a value.
    """
    problems: list[str] = []
    rows = read_rows(table, problems) or []
    if rows and SCROLL not in rows[0]:
        problems.append(f"{table} has no column scroll_id: add it, or leave the table out")
    elif not rows and not problems:
        problems.append(f"{table} has no rows: leave the table out")
    if problems:
        raise UserError("; ".join(problems[:_MOST]) + (f"; and {len(problems) - _MOST} more" * (len(problems) > _MOST)))
    return {row[ID]: row[SCROLL] for row in rows}


def read_rows(table: Path, problems: list[str]) -> list[dict[str, str]] | None:
    """The id and, where there is such a column, the scroll of each row; None where there is no table of ids.

    `problems` gets all that is wrong, rows of one id too; rows that name nothing properly are left out.
    """
    try:
        is_regular_file(table, "check the path")
        if table.stat().st_size > MOST_TABLE_BYTES:
            problems.append(
                f"{table} is larger than {MOST_TABLE_BYTES} bytes, which no table of ids is: check the path"
            )
            return None
        reader, columns = _opened(table.read_bytes())
        doubled = [name for name in (ID, SCROLL) if columns.count(name) > 1]
        if ID not in columns or doubled:
            found = ", ".join(map(shown, columns[:10]))
            problems.append(f"{table} has the columns [{found}], expected id and scroll_id, each once: mend line 1")
            return None
        wanted = {name: columns.index(name) for name in (ID, SCROLL) if name in columns}
        rows: list[dict[str, str]] = []
        for cells in reader:
            while cells and not cells[-1].strip() and (len(cells) > len(columns) or not any(map(str.strip, cells))):
                cells.pop()  # empty cells beyond the table, and rows that are empty, are a spreadsheet's
            row = {name: cells[place].strip() if place < len(cells) else "" for name, place in wanted.items()}
            row[ID] = id_text(row[ID])
            if problem := _row_problem(cells, len(columns), row):
                problems.append(f"{table}, line {reader.line_num}: {problem}")
            elif cells:
                rows.append(row)
    except DamagedError as error:
        problems.append(str(error))
        return None
    except (OSError, UnicodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(str(error))
        problems.append(f"{table} cannot be read: {reason}")
        return None
    counts = Counter(row[ID] for row in rows)
    problems += [f"{table}: id {name} stands in {count} rows: keep one" for name, count in counts.items() if count > 1]
    problems += [f"{table}: id {row[ID]} has no scroll_id: fill it in" for row in rows if row.get(SCROLL) == ""]
    return rows


def unjoined(table: Path, listed: Collection[str], ids: Collection[str]) -> str:
    """Why ids of files and those `listed` in a table do not belong together; empty where they may.

    Without a row of its own each id is left over, which is no fault of the table's unless none has one, or a row has
    almost its name.
    """
    without = sorted(set(ids) - set(listed))
    alike = {_loose(name): name for name in sorted(set(listed) - set(ids))}
    near = {name: alike[_loose(name)] for name in without if _loose(name) in alike}
    if not near and (not without or len(without) < len(set(ids))):
        return ""
    cause = f"; {next(iter(near))} is most likely its {next(iter(near.values()))}" if near else ""
    lost = "save the ids as text (a spreadsheet drops leading zeros)" if near else "check that it is of these files"
    return (
        f"{len(without)} of {len(set(ids))} files have no row in {table}: the files are {some(without)}, the rows "
        f"{some(sorted(listed))}{cause}: {lost}"
    )


def join_problems(table: Path, listed: Collection[str], ids: Collection[str], folder: str) -> list[str]:
    """What is wrong with a table that has to have a row for each file of a folder, and no other."""
    if problem := unjoined(table, listed, ids):
        return [problem]
    return [
        f"{table}: id {name} has no file {folder}/{name}.tif: add the file, or remove the row"
        for name in sorted(set(listed) - set(ids))
    ] + [
        f"{folder}/{name}.tif has no row in {table}: add one with its id and scroll_id, or remove the file"
        for name in sorted(set(ids) - set(listed))
    ]


def _loose(name: str) -> str:
    """What is left of an id where a program took it for a number, or a person for a file's name."""
    plain = _NUMBER.sub(r"\1", case_of(Path(name)) if name.lower().endswith((".tif", ".tiff")) else name)
    return plain.lower().lstrip("0")


def _opened(content: bytes) -> tuple[Any, list[str]]:
    """The rows of a table behind its first line, and its columns' names in lower case."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig")
    found: list[tuple[Any, list[str]]] = []
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        columns = [re.sub(r"[\s-]+", "_", column.strip().lower()) for column in next(reader, [])]
        found.append((reader, columns))
    return max(found, key=lambda pair: (ID in pair[1], len(pair[1])))


def _row_problem(cells: list[str], columns: int, row: Mapping[str, str]) -> str:
    """What is wrong with a row in words; empty for a good one and for an empty line."""
    if not cells:
        return ""
    if len(cells) > columns:
        return f"it has {len(cells)} cells, the first line names {columns}: quote a cell that holds a comma"
    if problem := problem_of(row[ID]):
        return f"the id {shown(row[ID])} {problem}: write the name of its file without the suffix"
    scroll = row.get(SCROLL, "")
    if not scroll.isprintable() or len(scroll) > LONGEST_SCROLL:
        return f"the scroll_id {shown(scroll)} is no short printable text: mend it"
    return ""
