"""Tables of numbers: CSV and its kin with any delimiter, and the rows of Markdown tables."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from volumen.logs.names import IGNORED, Meaning, meaning_by
from volumen.logs.numerals import as_whole, cell_value, prefers_comma
from volumen.logs.rows import Reading, Row, Tally

DELIMITERS = (",", ";", "\t", "|")
SPACES = " "
MOST_COLUMNS = 2000
_NO_READING = ("ignore", "epoch", "step", "planned_epochs")
_GAP = re.compile(r"\s+")
_PAIR = re.compile(r"[:=]\s*[-+]?[\d.]")
Known = Mapping[str, Meaning]


@dataclass(frozen=True)
class Header:
    """The first line of a table."""

    delimiter: str
    meanings: tuple[Meaning, ...]
    cells: tuple[str, ...]
    comma: bool = False
    """Numbers are written 0,5."""

    @property
    def has_readings(self) -> bool:
        """Whether any column is known."""
        return any(meaning.kind not in _NO_READING for meaning in self.meanings)


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a line; a quote that never ends is a letter like others."""
    if delimiter == SPACES:
        return _GAP.split(line.strip())
    if '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
        except (csv.Error, StopIteration):
            pass
    return [cell.strip() for cell in line.split(delimiter)]


def find_header(lines: Sequence[str], known: Known) -> Header | None:
    """The header of a table that begins with these lines; None where they are none.

    A header has two or more names and no number, one name of it is known, and below it stand as many cells of which
    half at least are numbers or empty.
    """
    begun = [line for line in lines if line.strip()]
    while len(begun) > 2 and begun[0].lstrip().startswith("#") and not begun[1].lstrip()[:1].isdigit():
        begun = begun[1:]
    if not begun or begun[0].lstrip().startswith(("|", "{", "[")):
        return None
    first, *below = begun
    for delimiter in (*DELIMITERS, SPACES):
        header = header_of(cells_of(first.lstrip("\ufeff# "), delimiter), known, delimiter)
        if header is None:
            continue
        if not below:
            continue
        comma = delimiter not in (",", SPACES) and prefers_comma("\n".join(below))
        if any(_fits(cells_of(line, delimiter), header, comma) for line in below[:5]):
            return Header(delimiter, header.meanings, header.cells, comma)
    return None


def header_of(cells: Sequence[str], known: Known, delimiter: str) -> Header | None:
    """The meanings of a line's cells; None where they are no header."""
    names = [cell.strip().strip("*`\"' ") for cell in cells]
    if not 2 <= len(names) <= MOST_COLUMNS or any(_is_number(name) or _PAIR.search(name) for name in names):
        return None
    header = Header(delimiter, tuple(meaning_by(name, known) if name else IGNORED for name in names), tuple(names))
    return header if header.has_readings else None


def _is_number(text: str) -> bool:
    try:
        return cell_value(text, comma=True) is not None
    except ValueError:
        return False


def _fits(cells: Sequence[str], header: Header, comma: bool) -> bool:
    if not 1 <= len(header.meanings) - len(cells) + 1 <= 3:  # empty cells at the end may be missing
        return False
    read = [_reads(cell, comma) for cell, meaning in zip(cells, header.meanings, strict=False) if meaning != IGNORED]
    return bool(read) and sum(read) * 2 >= len(read)


def _reads(text: str, comma: bool) -> bool:
    try:
        cell_value(text, comma=comma)
    except ValueError:
        return False
    return True


def row_of(cells: Sequence[str], header: Header) -> Row | None:
    """What a line of a table says; None where a cell that is wanted holds no number, or their count is another."""
    if len(cells) > len(header.meanings) and any(cells[len(header.meanings) :]):
        return None
    if len(cells) < len(header.meanings) - MISSING_AT_END:
        return None
    row = Row()
    for cell, meaning in zip(cells, header.meanings, strict=False):
        if meaning.kind == "ignore":
            continue
        try:
            value = cell_value(cell, comma=header.comma)
        except ValueError:
            return None
        if value is None:
            continue
        if meaning.kind == "epoch":
            row.epoch = value
        elif meaning.kind == "step":
            row.step = as_whole(value)
        else:
            if meaning.percent and "%" not in cell:
                value /= 100
            row.readings.append(Reading(meaning, value))
    return row


MISSING_AT_END = 2


def read_table(lines: Iterable[str], header: Header, tally: Tally, known: Known) -> Iterator[Row]:
    """The rows below a header; the header may stand there again, be it with other columns."""
    begun = False
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        bare = text.strip().lstrip("\ufeff")
        if not bare or (bare.startswith("#") and begun):
            continue
        cells = cells_of(bare.lstrip("# ") if not begun else text, header.delimiter)
        names = tuple(cell.strip().strip("*`\"' ") for cell in cells)
        if names == header.cells:
            begun = True
            continue
        if not begun:
            continue
        row = row_of(cells, header)
        if row is not None:
            yield row
            continue
        other = header_of(cells, known, header.delimiter)
        if other is not None:
            header = Header(header.delimiter, other.meanings, other.cells, header.comma)
        else:
            tally.add("lines of the table that cannot be read", number)


class MarkdownTable:
    """Rows of `| a | b |` in the lines of a text, one after the other."""

    def __init__(self, known: Known, tally: Tally, comma: bool) -> None:
        self._known, self._tally, self._comma = known, tally, comma
        self._header: Header | None = None

    def leave(self) -> None:
        """The table has ended."""
        self._header = None

    def take(self, line: str, number: int, clean: Callable[[str], str] = str.strip) -> Row | None:
        """What a line that begins with `|` says; a header and its rule say nothing."""
        cells = [clean(cell) for cell in line.strip().strip("|").split("|")]
        if all(not cell or set(cell) <= set("-: ") for cell in cells):
            return None
        if self._header is not None:
            row = row_of(cells, self._header)
            if row is not None:
                return row
        header = header_of(cells, self._known, "|")
        if header is not None and any(meaning.kind in ("epoch", "step") for meaning in header.meanings):
            self._header = Header("|", header.meanings, header.cells, self._comma)
        elif self._header is not None:
            self._tally.add("lines of a table that cannot be read", number)
        return None
