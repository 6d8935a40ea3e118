"""YAML text to values that know where they were written, within bounds.

The text is composed to YAML nodes, which carry line numbers, and these are read by the YAML 1.2 core rules: `1e-3` is a
number, `yes` is text, a date is text. Equal keys are an error, with both lines. What would make a file say more than it
shows (merge keys, tags, a value that contains itself) is refused, and so is a number that no machine number holds.

A few lines can nest thousands of levels, or name through aliases of aliases more values than a machine can hold. So
size, depth and number of values are bounded long before they matter.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from volumen.config.problems import Problem
from volumen.system.names import one_line

MOST_BYTES = 2**20
DEEPEST = 64
LONGEST_KEY = 200
MOST_VALUES = 20_000
"""Keys, items and scalars of one document; what an alias stands for counts each time that it is named."""

Scalar = str | int | float | bool | None
Tree = dict[str, "Located"]

_CORE = "tag:yaml.org,2002:"
_TEXT = frozenset(_CORE + name for name in ("str", "timestamp", "value"))
_LARGEST = 2**64  # whole numbers stay below it, either side of 0
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # no file name, no JSON and no terminal takes these


class _RefusedError(Exception):
    """A text that is not read; says why, and on which line counted from 1."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.text, self.line = text, line


@dataclass(frozen=True)
class Located:
    """A value and its origin (`file:line`, `override` or `default`); keys of mappings are text."""

    value: "Tree | list[Located] | Scalar"
    origin: str

    def plain(self) -> Any:
        """The value without its origins: dict, list or scalar."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def child(self, key: str | int) -> "Located | None":
        """The value at a key or index, or None where there is nothing."""
        if isinstance(self.value, dict) and isinstance(key, str):
            return self.value.get(key)
        if isinstance(self.value, list) and isinstance(key, int) and 0 <= key < len(self.value):
            return self.value[key]
        return None


def located(value: Any, origin: str) -> Located:
    """A plain value (mappings, sequences, scalars) as a tree of one origin."""
    if isinstance(value, Mapping):
        return Located({str(key): located(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Located([located(item, origin) for item in value], origin)
    return Located(value, origin)


def is_file(path: Path) -> bool:
    """Whether a file is there; what is no path at all, such as one that is too long, is none."""
    return os.path.isfile(path)


def read_tree(path: Path, label: str, problems: list[Problem]) -> Located | None:
    """A YAML file as values that know their lines; None where it is not read at all.

    Args:
        path: The file.
        label: What messages call it.
        problems: Every mistake found is appended.
    """
    text, refusal = _read_text(path)
    if refusal:
        problems.append(Problem(label, "", refusal, blocking=True))
        return None
    return parse(text, lambda line: f"{label}:{line}", problems)


def _read_text(path: Path) -> tuple[str, str]:
    """A file's text, or what is wrong with it."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else error
        return "", f"cannot be read: {reason}; check the path and its permissions"
    if len(content) > MOST_BYTES:
        return "", f"longer than {MOST_BYTES} bytes, which no configuration is; check the path"
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 text (byte {error.start}); save the file as UTF-8"


def parse(text: str, origin: Callable[[int], str], problems: list[Problem]) -> Located | None:
    """Read one YAML document; None where the text is not YAML at all. An empty document is a null.

    Args:
        text: The document.
        origin: The origin of a line, counted from 1.
        problems: Every mistake found is appended.
    """
    try:
        yaml, node = _compose(text)
        if node is None:
            return Located(None, origin(1))
        return _Reader(yaml, origin, problems).value(node, (), _line(node))
    except _RefusedError as refusal:
        problems.append(Problem(origin(refusal.line), "", refusal.text, blocking=True))
        return None


class _BoundedComposer(Composer):
    """Counts levels and nodes while they are made."""

    level = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.warn_double_anchors = False  # an anchor that is set again names its latest value, by YAML's rule
        self.level += 1
        self.nodes += 1
        line = self.parser.peek_event().start_mark.line + 1
        if self.level > DEEPEST:
            raise _RefusedError(f"nested deeper than {DEEPEST} levels; write it flatter", line)
        if self.nodes > MOST_VALUES:
            raise _RefusedError(f"more than {MOST_VALUES} values; shorten it", line)
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


def _compose(text: str) -> tuple[YAML, Node | None]:
    if len(text) > MOST_BYTES:
        raise _RefusedError(f"{len(text)} characters long, at most {MOST_BYTES} are read; shorten it")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    try:
        return yaml, yaml.compose(text)
    except _RefusedError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(" ".join(part for part in (error.context, error.problem) if part).split())
        line = mark.line + 1 if mark is not None else 1
        raise _RefusedError(f"not valid YAML: {one_line(what)}; correct the line or quote the value", line) from error
    except Exception as error:
        # A parser for people's own files raises what it likes on damaged ones; all of it means the same to the user.
        raise _RefusedError(f"not valid YAML: {one_line(str(error) or type(error).__name__)}") from error


class _Reader:
    """Turns nodes into located values; holds what every level of the recursion needs."""

    def __init__(self, yaml: YAML, origin: Callable[[int], str], problems: list[Problem]) -> None:
        self._scalars = yaml.constructor
        self._origin = origin
        self._problems = problems
        self._open: set[int] = set()  # nodes being read, to find a value that contains itself
        self._count = 0

    def value(self, node: Node, path: tuple[str, ...], line: int) -> Located:
        self._count += 1
        if self._count > MOST_VALUES:
            text = f"more than {MOST_VALUES} values with what its aliases stand for; write it out"
            raise _RefusedError(text, _line(node))
        origin = self._origin(line)
        if isinstance(node, ScalarNode):
            return Located(self._scalar(node, path), origin)
        if id(node) in self._open:
            self._complain(node, path, "the value contains itself through an alias; write it out")
            return Located(None, origin)
        self._open.add(id(node))
        if isinstance(node, MappingNode):
            inside: Tree | list[Located] = self._mapping(node, path)
        else:
            assert isinstance(node, SequenceNode)
            inside = self._sequence(node, path)
        self._open.discard(id(node))
        return Located(inside, origin)

    def _mapping(self, node: MappingNode, path: tuple[str, ...]) -> Tree:
        if node.tag != f"{_CORE}map":
            self._complain(node, path, f"the tag {node.tag} is not read; write a plain mapping")
        result: Tree = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._complain(key_node, path, "a key must be a word, got a list or a mapping; write `key: value`")
                continue
            key = str(key_node.value)
            if len(key) > LONGEST_KEY or _NO_TEXT.search(key):
                self._complain(key_node, path, f"{_quoted(key)} is no key: {_unfit(key)}; write a word")
                continue
            inside = (*path, key)
            if key_node.tag == f"{_CORE}merge":
                self._complain(key_node, path, "YAML's merge key `<<` is not read; use `base:` at the top of the file")
            elif key in result:
                text = f"the key is written twice, first at {self._origin(lines[key])}; keep one of the two"
                self._complain(key_node, inside, text)
            else:
                lines[key] = _line(key_node)
                result[key] = self.value(value_node, inside, lines[key])
        return result

    def _sequence(self, node: SequenceNode, path: tuple[str, ...]) -> list[Located]:
        if node.tag != f"{_CORE}seq":
            self._complain(node, path, f"the tag {node.tag} is not read; write a plain list")
        return [self.value(item, (*path, str(index)), _line(item)) for index, item in enumerate(node.value)]

    def _scalar(self, node: ScalarNode, path: tuple[str, ...]) -> Scalar:
        text, tag = str(node.value), str(node.tag)
        if _NO_TEXT.search(text):
            self._complain(node, path, f"{_quoted(text)} {_unfit(text)}; remove it")
            return ""
        number: float | None = None
        try:
            if tag == f"{_CORE}null":
                return None
            if tag == f"{_CORE}bool":
                return bool(self._scalars.construct_yaml_bool(node))
            if tag == f"{_CORE}int":
                number = int(self._scalars.construct_yaml_int(node))
            elif tag == f"{_CORE}float":
                number = float(self._scalars.construct_yaml_float(node))
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            kind = tag.removeprefix(_CORE)
            self._complain(node, path, f"{_quoted(text)} is not a {kind}; quote it if it is meant as text")
            return text
        if number is not None:
            if _holds(number, text):
                return number
            self._complain(node, path, f"{_quoted(text)} is beyond any number that is read; check its digits")
        elif tag not in _TEXT:
            self._complain(node, path, f"the tag {tag} is not read; write a plain value, quoted if it is text")
        return text

    def _complain(self, node: Node, path: tuple[str, ...], text: str) -> None:
        self._problems.append(Problem(self._origin(_line(node)), ".".join(path), text))


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _holds(number: float, text: str) -> bool:
    """Whether the machine's number is the one that was written."""
    if isinstance(number, int):
        return abs(number) < _LARGEST
    mantissa = text.lower().partition("e")[0]
    if number == 0:
        return not re.search("[1-9]", mantissa)
    return math.isfinite(number) or "inf" in mantissa or "nan" in mantissa


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _unfit(text: str) -> str:
    if _NO_TEXT.search(text):
        return "holds a zero byte or half a character"
    return f"is {len(text)} characters long"
