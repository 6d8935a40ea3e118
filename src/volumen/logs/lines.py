"""Free text: what training scripts print, line by line, between whatever else they print.

A number is read where the words before it are a known name. Lines of a progress bar, of a Markdown table, trees below a
loss and parentheses after it, and objects of JSON or Python among the lines are known as such.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from volumen.logs.happenings import told_by
from volumen.logs.json_rows import loads
from volumen.logs.json_rows import row_of as row_of_object
from volumen.logs.names import IGNORED, Meaning, key_of, term_name
from volumen.logs.numerals import NUMBER, NUMBER_WITH_COMMA, TIME, as_whole, mean_of, value_of
from volumen.logs.phrases import LONGEST_GAP, Gap, gap_of
from volumen.logs.rows import Reading, Row, Said, Tally
from volumen.logs.tables import MarkdownTable

LONGEST_LINE = 20_000
"""Characters of a line that are looked at."""
MOST_NUMBERS = 400
"""Of a line."""
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]{0,20}[ -/]?[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]")
_LEVEL_WORD = r"(?:INFO|DEBUG|WARNING|WARN|ERROR|TRACE|NOTICE)\b"
_WRAPPED = re.compile(
    r"\b(?:np\.|numpy\.)?(?:float|int)(?:16|32|64)?\(([^()\s]{1,40})\)|\btensor\(([^()\s,]{1,40})[^()]{0,60}\)"
)
_TREE = re.compile(r"^\s*(?:[│|]\s{1,4}){0,8}(?:├|└|╰|\|--|`--|\+--|\|__)[─━\-_ ]*|^\s{2,}(?:[-*•·>]\s+)?(?=[A-Za-z])")
_BETWEEN = r"[\s\]:,]{0,8}(?:\|\s|(?<!\s\s)[-–]\s)?[\s\]]{0,8}"
_PLACE = r"(?:\[[\w/-]{1,60}[.:][\w.:/-]{0,60}\]\s|[\w.]{1,80}:[\w.<>]{1,60}:\d{1,6}\s-\s)?"  # `[train.py:88]`
_LEVEL = rf"\W{{0,3}}{_LEVEL_WORD}{_BETWEEN}{_PLACE}"
_PREFIX = re.compile(rf"^\W{{0,3}}(?:{TIME.pattern}){_BETWEEN}(?:{_LEVEL})?|^{_LEVEL}", re.I)
_LOGGER = re.compile(r"^\s{0,4}[\w.-]{0,60}\w\s?(?:[:|]|-(?=\s))")
_BRANCH = re.compile(r"^\s*(?:[│|]\s{1,4}){0,8}(?:├|└|╰)")
_FRACTION = re.compile(r"\s{0,2}(?:/|of)\s{0,2}(\d{1,12})(?![\w.])")
_PHASED = re.compile(r"\b(epoch)\s?\((train|val|test)\)", re.I)
_KERAS_BAR = re.compile(r"\[[=>.]{3,200}\]|━{3}")
_BAR = re.compile(r"(?<![\d.])\d{1,3}%\s?\|")
_WEIGHTS = re.compile(r"\bweights?\b\W{0,4}[:=({\[]", re.I)
_LIST_GAP = re.compile(r"^\s*,\s*$")
_STORING = re.compile(
    r"\b(?:sav(?:ed|ing)|load(?:ed|ing)|restor(?:ed|ing)|checkpoint|resum(?:ed|ing)|reverted)\b", re.I
)
_WORTH = re.compile(r"\d|\bnan\b|\binf", re.I)
Known = Mapping[str, Meaning]


@dataclass
class _Context:
    """What a line's words are read with."""

    split: str = ""
    in_loss: bool = False
    """Names are parts of the loss that was just read."""
    depth: int = 0
    loss_depth: int = -1
    row: Row = field(default_factory=Row)


@dataclass(frozen=True)
class _Loss:
    """The loss that a tree may hang below."""

    split: str
    column: int
    prefixed: bool
    """Its line begins with a time or a level."""
    logger: str
    """What may be a logger's name before it."""


class TextReader:
    """Reads lines one after the other; what a line leaves unsaid (its epoch, its split) is that of those before it.

    Args:
        known: Meanings that the user gave.
        tally: Counts what cannot be read.
        comma: Numbers are written 0,5.
    """

    def __init__(self, known: Known, tally: Tally, *, comma: bool = False) -> None:
        self._known, self._tally = known, tally
        self._numbers = NUMBER_WITH_COMMA if comma else NUMBER
        self._epoch: float | None = None
        self._counts_epochs = False
        """Nothing but fractions without a name said which epoch it is."""
        self._fractions: list[tuple[float, int]] = []
        self._loss: _Loss | None = None
        self._table = MarkdownTable(known, tally, comma)
        self.lines = 0

    def read(self, lines: Iterable[str]) -> Iterator[Said]:
        """What the lines say."""
        for line in lines:
            self.lines += 1
            said = False
            for part in line.split("\r") if "\r" in line else (line,):
                for each in self._line(part):
                    said = True
                    yield each
            if not said and self._is_silent and line.strip():
                self._tally.add("lines that say nothing known", self.lines)

    def _line(self, raw: str) -> Iterator[Said]:
        self._is_silent = True
        if len(raw) > LONGEST_LINE:
            self._tally.add(f"lines read to {LONGEST_LINE} characters only", self.lines)
            raw = raw[:LONGEST_LINE]
        line = (raw if raw.isprintable() else _CONTROL.sub(" ", _COLOUR.sub("", raw))).rstrip()
        if not line:
            return
        told = told_by(line)
        if told is not None:
            yield replace(told, epoch=self._epoch if told.epoch is None else told.epoch)
        bare = line.strip()
        if bare.startswith("|") and bare.endswith("|") and bare.count("|") > 2:
            row = self._table.take(bare, self.lines)
            self._is_silent = False
        elif _WORTH.search(line):
            self._table.leave()
            row = self._object(bare) or self._text(line)
        else:
            self._headline(line)
            return
        if row is None:
            return
        if row.epoch is not None:
            self._epoch = row.epoch
            self._is_silent = False
        elif row.readings:
            row.epoch = self._epoch
        if row.readings:
            yield row

    def _headline(self, line: str) -> None:
        """A line without numbers ends a tree."""
        if _TREE.match(line) is None:
            self._loss = None

    def _object(self, line: str) -> Row | None:
        """The row of an object of JSON or of Python's dictionaries; None where it is none."""
        start = line.find("{")
        if start < 0 or not line.endswith("}") or line.count("{") > 40:
            return None
        text = line[start:]
        value = _parsed(text)
        if not isinstance(value, dict):
            return None
        row = row_of_object(value, self._known)
        if _WEIGHTS.search(line[: start + 1]):
            return Row([Reading(Meaning("weight", name=each.meaning.name), each.value) for each in row.readings])
        if start:
            before = self._text(line[:start])
            row.epoch = before.epoch if row.epoch is None and before is not None else row.epoch
        return row if row.readings or row.epoch is not None else None

    def _text(self, line: str) -> Row | None:
        prefix = _PREFIX.match(line)
        line = line[len(prefix[0].rstrip(" ")) + 1 :] if prefix else line  # what more stands before it is its indent
        logger, parent = _LOGGER.match(line), self._loss
        below = line[logger.end() :] if logger else ""
        is_same = parent is not None and logger is not None and logger[0] == parent.logger
        if _BRANCH.match(below) or (is_same and _TREE.match(below)):
            line = below
        tree = _TREE.match(line)
        column = tree.end() if tree else 0
        line = TIME.sub(" ", line[column:])
        if "(" in line:
            line = _WRAPPED.sub(lambda found: found[1] or found[2], line)
        line = _PHASED.sub(r"\2 \1", line)
        context = _Context()
        in_tree = parent is not None and tree is not None and (column > parent.column or bool(prefix) < parent.prefixed)
        if in_tree and parent is not None:
            context.split, context.in_loss, context.loss_depth = parent.split, True, 0
        self._scan(line, context)
        row = context.row
        if (row.readings or row.epoch is not None) and _STORING.search(line):
            row.readings = []
            row.epoch = None
        if not in_tree:
            totals = [reading.meaning for reading in row.readings if reading.meaning.kind == "loss"]
            self._loss = _Loss(totals[-1].split, column, bool(prefix), logger[0] if logger else "") if totals else None
        if row.fine and self._is_whole and _KERAS_BAR.search(line):
            row.fine = False
        self._count(row)
        return row

    def _count(self, row: Row) -> None:
        """`[3/30] loss 0.8 val_loss 0.9` is an epoch where nothing else says so: no batch has both losses."""
        if row.epoch is not None:
            self._counts_epochs = False
        elif len(self._fractions) == 1 and not row.bar and (self._epoch is None or self._counts_epochs):
            validated = [reading.meaning.split == "val" for reading in row.readings]
            if any(validated) and any(
                reading.meaning.kind == "loss" and not of_val
                for reading, of_val in zip(row.readings, validated, strict=True)
            ):
                row.epoch, planned = self._fractions[0]
                row.readings.append(Reading(Meaning("planned_epochs"), float(planned)))
                row.fine, self._counts_epochs = False, True

    def _scan(self, line: str, context: _Context) -> None:
        """Put into the context's row what the numbers of a line say, each by the words before it."""
        self._is_whole, self._fractions = False, []
        context.row.fine = context.row.bar = "%" in line and _BAR.search(line) is not None
        lowered = line.lower()
        weights = "weight" in lowered and "loss" in lowered and _WEIGHTS.search(line) is not None
        end, taken = 0, 0
        listed: Meaning | None = None
        series: list[float] = []
        for match in self._numbers.finditer(line):
            if match.start() < end:
                continue
            taken += 1
            if taken > MOST_NUMBERS:
                self._tally.add(f"lines read to {MOST_NUMBERS} numbers only", self.lines)
                break
            gap, end = line[end : match.start()], match.end()
            value = value_of(match["number"], match["unit"])
            if listed is not None:
                if _LIST_GAP.match(gap):
                    series.append(value)
                    continue
                _add(context, listed, series)
                listed = None
            fraction = _FRACTION.match(line, match.end())
            end = fraction.end() if fraction else end
            words = gap_of(gap[-LONGEST_GAP:])
            _follow(words, context)
            if fraction:
                self._part_of(words, value, int(fraction[1]), context)
                continue
            meaning = self._meaning(words, context, match["unit"])
            if weights and meaning.kind in ("term", "metric"):
                meaning = Meaning("weight", name=meaning.name)
            if words.opens_list and meaning.kind in ("metric", "loss", "term"):
                listed, series = meaning, [value]
                continue
            self._put(meaning, value, context)
        if listed is not None:
            _add(context, listed, series)

    def _part_of(self, words: Gap, value: float, whole: int, context: _Context) -> None:
        """A number as `3/100` of something: an epoch of the planned ones, or a batch of an epoch's."""
        if words.is_epoch:
            context.row.epoch = value
            context.row.readings.append(Reading(Meaning("planned_epochs"), float(whole)))
            return
        if words.meaning.kind == "metric" and whole:  # `Accuracy: 9840/10000`
            self._put(self._meaning(words, context, None), value / whole, context)
            return
        self._is_whole = value == whole
        self._fractions.append((value, whole))
        context.row.fine = True

    def _meaning(self, words: Gap, context: _Context, unit: str | None) -> Meaning:
        name, found = words.name, words.meaning
        said = _said(name, self._known) if self._known else None
        if said is not None:
            return said
        if found.kind == "ignore" or (unit and unit.strip() in ("x", "×")):
            return IGNORED
        if context.in_loss and found.kind in ("metric", "term", "loss"):
            term = found.name or term_name(name)
            return replace(found, kind="term", name=term, split=found.split or context.split, bare=False, sure=True)
        if found.kind in ("epoch", "step", "weight", "planned_epochs", "rate"):
            return found
        return _with_split(found, context.split) if context.split and not found.split else found

    def _put(self, meaning: Meaning, value: float, context: _Context) -> None:
        row = context.row
        if meaning.kind == "epoch":
            row.epoch = value if row.epoch is None else row.epoch
        elif meaning.kind == "step":
            row.step = as_whole(value) if row.step is None else row.step
        elif meaning.kind != "ignore":
            row.readings.append(Reading(meaning, value / 100 if meaning.percent else value))
            if meaning.kind == "loss":
                context.loss_depth, context.in_loss = context.depth, False


def _add(context: _Context, meaning: Meaning, series: list[float]) -> None:
    finite = [value for value in series if value == value]
    context.row.readings.append(Reading(meaning, mean_of(finite), len(series)))


def _parsed(text: str) -> object:
    try:
        return loads(text)
    except ValueError:
        pass
    if len(text) > 4000 or "'" not in text:
        return None
    try:
        return ast.literal_eval(_NAN.sub("None", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


_NAN = re.compile(r"(?<=[:,\[\s])-?(?:nan|inf)\b")


@lru_cache(maxsize=4096)
def _with_split(meaning: Meaning, split: str) -> Meaning:
    return replace(meaning, split=split)


def _said(name: str, known: Known) -> Meaning | None:
    """What the user said of a name, or of its last word."""
    return known.get(key_of(name)) or known.get(key_of(name.rpartition(" ")[2])) if name else None


def _follow(words: Gap, context: _Context) -> None:
    """Where a gap between two numbers leads: into or out of parentheses, to another split."""
    for letter in words.brackets:
        if letter in "([{":
            context.depth += 1
            if context.loss_depth == context.depth - 1:
                context.in_loss = True
        else:
            context.depth = max(0, context.depth - 1)
            if context.depth <= context.loss_depth:
                context.in_loss, context.loss_depth = False, -1
    context.split = words.split or context.split
