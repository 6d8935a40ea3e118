"""YAML text to a tree of values that know where they were written.

The text is composed to YAML nodes, which carry line numbers for every key and item, and the nodes are read by the
YAML 1.2 core rules: `1e-3` is a number, `yes` is text, a date is text. Equal keys are an error, with both lines. What
would make a file say more than it shows (merge keys, tags, a value that contains itself) is refused, and so is a number
that no machine number holds: it would be another one.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from volumen.config.composing import MOST_VALUES, RefusedError, compose
from volumen.config.problems import Problem

Scalar = str | int | float | bool | None
Tree = dict[str, "Located"]

_CORE = "tag:yaml.org,2002:"
_TEXT = frozenset(_CORE + name for name in ("str", "timestamp", "value"))
LONGEST_KEY = 200
_LARGEST = 2**64  # whole numbers stay below it, either side of 0
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # no file name, no JSON and no terminal takes these


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


def located(value: Any, origin: str) -> Located:
    """A plain value (mappings, sequences, scalars) as a tree of one origin."""
    if isinstance(value, Mapping):
        return Located({str(key): located(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Located([located(item, origin) for item in value], origin)
    return Located(value, origin)


def parse(text: str, origin: Callable[[int], str], problems: list[Problem]) -> Located | None:
    """Read one YAML document.

    Args:
        text: the document.
        origin: the origin of a line, counted from 1.
        problems: every mistake found is appended.

    Returns:
        The tree, or None where the text is not YAML at all. An empty document is a null.
    """
    try:
        yaml, node = compose(text)
    except RefusedError as refusal:
        problems.append(Problem(origin(refusal.line), "", refusal.text, blocking=True))
        return None
    if node is None:
        return Located(None, origin(1))
    try:
        return _Reader(yaml, origin, problems).value(node, (), origin(node.start_mark.line + 1))
    except RefusedError as refusal:
        problems.append(Problem(origin(refusal.line), "", refusal.text, blocking=True))
        return None


class _Reader:
    """Turns nodes into located values; holds what every level of the recursion needs."""

    def __init__(self, yaml: YAML, origin: Callable[[int], str], problems: list[Problem]) -> None:
        self._scalars = yaml.constructor
        self._origin = origin
        self._problems = problems
        self._open: set[int] = set()  # nodes being read, to find a value that contains itself
        self._count = 0

    def value(self, node: Node, path: tuple[str, ...], origin: str) -> Located:
        self._count += 1
        if self._count > MOST_VALUES:
            line = node.start_mark.line + 1
            raise RefusedError(f"more than {MOST_VALUES} values with what its aliases stand for; write it out", line)
        if isinstance(node, ScalarNode):
            return Located(self._scalar(node, path), origin)
        if id(node) in self._open:
            self._complain(node, path, "the value contains itself through an alias; write it out")
            return Located(None, origin)
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return Located(self._mapping(node, path), origin)
            assert isinstance(node, SequenceNode)
            return Located(self._sequence(node, path), origin)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: tuple[str, ...]) -> Tree:
        if node.tag != f"{_CORE}map":
            self._complain(node, path, f"the tag {node.tag} is not read; write a plain mapping")
        result: Tree = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._complain(key_node, path, "a key must be a word, got a list or a mapping; write `key: value`")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if len(key) > LONGEST_KEY or _NO_TEXT.search(key):
                self._complain(key_node, path, f"{_quoted(key)} is no key: {_unfit(key)}; write a word")
                continue
            inside = (*path, key)
            if key_node.tag == f"{_CORE}merge":
                self._complain(key_node, path, "YAML's merge key `<<` is not read; use `base:` at the top of the file")
            elif key in result:
                first = self._origin(lines[key])
                text = f"the key is written twice, first at {first}; keep one of the two"
                self._problems.append(Problem(self._origin(line), ".".join(inside), text))
            else:
                lines[key] = line
                result[key] = self.value(value_node, inside, self._origin(line))
        return result

    def _sequence(self, node: SequenceNode, path: tuple[str, ...]) -> list[Located]:
        if node.tag != f"{_CORE}seq":
            self._complain(node, path, f"the tag {node.tag} is not read; write a plain list")
        items = enumerate(node.value)
        return [self.value(item, (*path, str(i)), self._origin(item.start_mark.line + 1)) for i, item in items]

    def _scalar(self, node: ScalarNode, path: tuple[str, ...]) -> Scalar:
        text, tag = str(node.value), str(node.tag)
        if _NO_TEXT.search(text):
            self._complain(node, path, f"{_quoted(text)} {_unfit(text)}; remove it")
            return ""
        try:
            if tag == f"{_CORE}null":
                return None
            if tag == f"{_CORE}bool":
                return bool(self._scalars.construct_yaml_bool(node))
            if tag == f"{_CORE}int":
                return self._in_range(int(self._scalars.construct_yaml_int(node)), node, path)
            if tag == f"{_CORE}float":
                return self._in_range(float(self._scalars.construct_yaml_float(node)), node, path)
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError):
            kind = tag.removeprefix(_CORE)
            self._complain(node, path, f"{_quoted(text)} is not a {kind}; quote it if it is meant as text")
            return text
        if tag not in _TEXT:
            self._complain(node, path, f"the tag {tag} is not read; write a plain value, quoted if it is text")
        return text

    def _in_range(self, number: float, node: ScalarNode, path: tuple[str, ...]) -> Scalar:
        """The number, where the machine's number is the one that was written."""
        text = str(node.value)
        if isinstance(number, int):
            fits = abs(number) < _LARGEST
        else:
            mantissa = text.lower().partition("e")[0]
            fits = (math.isfinite(number) or "inf" in mantissa or "nan" in mantissa) and (
                number != 0 or not re.search("[1-9]", mantissa)
            )
        if fits:
            return number
        self._complain(node, path, f"{_quoted(text)} is beyond any number that is read; check its digits")
        return text

    def _complain(self, node: Node, path: tuple[str, ...], text: str) -> None:
        self._problems.append(Problem(self._origin(node.start_mark.line + 1), ".".join(path), text))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _unfit(text: str) -> str:
    if _NO_TEXT.search(text):
        return "holds a zero byte or half a character"
    return f"is {len(text)} characters long"
