"""YAML text to nodes, within bounds: no file, however made, takes more than moments, memory or levels to read.

A few lines can nest thousands of levels, or name through aliases of aliases more values than a machine can hold. What
volumen reads is small: a configuration has some hundred values in ten levels. So size, depth and number of values are
bounded long before they matter, and whatever the parser makes of a damaged text comes back as one sentence.
"""

import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node

from volumen.system.names import one_line

MOST_BYTES = 2**20
DEEPEST = 64
MOST_VALUES = 20_000
"""Keys, items and scalars of one document; what an alias stands for counts each time that it is named."""


class RefusedError(Exception):
    """A text that is not read; says why, and on which line counted from 1."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.text, self.line = text, line


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
            raise RefusedError(f"nested deeper than {DEEPEST} levels; write it flatter", line)
        if self.nodes > MOST_VALUES:
            raise RefusedError(f"more than {MOST_VALUES} values; shorten it", line)
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


def compose(text: str) -> tuple[YAML, Node | None]:
    """The root node of a document, None for an empty one, and what interprets its scalars.

    Raises:
        RefusedError: It is not YAML, or exceeds a bound.
    """
    if len(text) > MOST_BYTES:
        raise RefusedError(f"{len(text)} characters long, at most {MOST_BYTES} are read; shorten it")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _BoundedComposer
    try:
        return yaml, yaml.compose(text)
    except RefusedError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(" ".join(part for part in (error.context, error.problem) if part).split())
        line = mark.line + 1 if mark is not None else 1
        raise RefusedError(f"not valid YAML: {one_line(what)}; mend the line or quote the value", line) from error
    except Exception as error:
        # A parser for people's own files raises what it likes on damaged ones; all of it means the same to the user.
        raise RefusedError(f"not valid YAML: {one_line(str(error) or type(error).__name__)}") from error


def read_text(path: Path) -> str:
    """A YAML file's text.

    Raises:
        RefusedError: It cannot be read, is no UTF-8 text, or is longer than a megabyte.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RefusedError(f"cannot be read: {reason}; check the path and its permissions", 0) from error
    if len(content) > MOST_BYTES:
        raise RefusedError(f"longer than {MOST_BYTES} bytes, which no configuration is; check the path", 0)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedError(f"not UTF-8 text (byte {error.start}); save the file as UTF-8", 0) from error


def is_file(path: Path) -> bool:
    """Whether a file is there; what is no path at all, such as one that is too long, is none."""
    return os.path.isfile(path)
