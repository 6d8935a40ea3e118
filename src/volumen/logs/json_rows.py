"""JSON: an object a line, a list of objects, columns of values; flat or nested."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from volumen.logs.names import Meaning, meaning_by
from volumen.logs.numerals import as_whole, cell_value, mean_of
from volumen.logs.rows import Reading, Row, Tally

MOST_BYTES = 256 * 2**20
"""Of a file that is one JSON value; a file of lines has no bound."""
_DEEPEST = 32
_MOST_DIGITS = 25
_MOST_VALUES = 4000
"""Of one object."""
Known = Mapping[str, Meaning]


def loads(text: str) -> Any:
    """A JSON value, NaN and infinity allowed, as other programs write them.

    Raises:
        ValueError: It is none, or nested too deeply, or holds an immense number.
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("an immense number")
    return int(digits)


def flat(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and plain values; a name below another is joined to it by `/`. Lists of numbers stay as they are."""
    waiting: list[tuple[str, Any, int]] = [("", record, 0)]
    given = 0
    while waiting and given < _MOST_VALUES:
        path, value, depth = waiting.pop()
        if isinstance(value, Mapping):
            if depth < _DEEPEST:
                inner = [(f"{path}/{key}" if path else str(key), each, depth + 1) for key, each in value.items()]
                waiting += reversed(inner[:_MOST_VALUES])
        else:
            given += 1
            yield path, value


def row_of(record: Mapping[str, Any], known: Known) -> Row:
    """What an object says."""
    row = Row()
    for name, value in flat(record):
        number, count = _number(value)
        if number is None:
            continue
        meaning = meaning_by(name, known)
        last = name.rpartition("/")[2]
        if meaning.kind == "ignore" and last != name and "best" not in name.lower():
            meaning = meaning_by(last, known)  # `history/epoch`; a loss keeps its parents, that name its split
        if meaning.kind == "epoch":
            row.epoch = number if row.epoch is None else row.epoch
        elif meaning.kind == "step":
            row.step = as_whole(number) if row.step is None else row.step
        elif meaning.kind != "ignore":
            row.readings.append(Reading(meaning, number / 100 if meaning.percent else number, count))
    return row


def _number(value: object) -> tuple[float | None, int]:
    """The number that a value is, or the mean of the numbers of a list, and of how many."""
    if isinstance(value, bool) or value is None:
        return None, 0
    if isinstance(value, int | float):
        return float(value), 1
    if isinstance(value, str):
        try:
            return cell_value(value), 1
        except ValueError:
            return None, 0
    if isinstance(value, list) and 0 < len(value) <= _MOST_VALUES:
        numbers = [float(each) for each in value if isinstance(each, int | float) and not isinstance(each, bool)]
        finite = [each for each in numbers if math.isfinite(each)]
        if len(numbers) == len(value):
            return mean_of(finite), len(numbers)
    return None, 0


def read_lines(lines: Iterable[str], known: Known, tally: Tally) -> Iterator[Row]:
    """The rows of a file with an object on each line."""
    for number, line in enumerate(lines, start=1):
        text = line.strip().lstrip("\ufeff").rstrip(",")
        if not text:
            continue
        try:
            record = loads(text)
        except ValueError:
            tally.add("lines that are no JSON", number)
            continue
        if isinstance(record, Mapping):
            yield row_of(record, known)
        else:
            tally.add("lines that are no JSON object", number)


def read_value(value: Any, known: Known) -> Iterator[Row]:
    """The rows of a file that is one JSON value.

    A list of objects, an object of columns (`{"loss": [...], "val_loss": [...]}`, or each an object by row), or an
    object that holds one of these; where it holds several, the longest.
    """
    rows = _rows(value, known)
    if rows is not None:
        for record in rows:
            yield row_of(record, known)


def _rows(value: Any, known: Known, depth: int = 0) -> list[Mapping[str, Any]] | None:
    if depth > 6:
        return None
    if isinstance(value, list):
        found = [each for each in value if isinstance(each, Mapping)]
        return found if found and len(found) * 2 >= len(value) else None
    if not isinstance(value, Mapping):
        return None
    columns = _columns(value, known)
    if columns is not None:
        return columns
    inner = [_rows(each, known, depth + 1) for each in list(value.values())[:_MOST_VALUES]]
    best = max((each for each in inner if each), key=len, default=None)
    if best is None and any(reading for reading in row_of(value, known).readings):
        return [value]
    return best


def _columns(value: Mapping[str, Any], known: Known) -> list[Mapping[str, Any]] | None:
    columns: dict[str, list[Any]] = {}
    for name, each in value.items():
        if isinstance(each, Mapping) and each and all(str(key).isdigit() for key in each):
            columns[str(name)] = list(each.values())
        elif isinstance(each, list) and each and not any(isinstance(one, Mapping | list) for one in each):
            columns[str(name)] = each
    wanted = {name: each for name, each in columns.items() if meaning_by(name, known).kind != "ignore"}
    if not any(meaning_by(name, known).kind not in ("epoch", "step") for name in wanted):
        return None
    length = max(len(each) for each in wanted.values())
    return [
        {name: each[index] for name, each in wanted.items() if index < len(each)}
        for index in range(length)
    ]  # fmt: skip
