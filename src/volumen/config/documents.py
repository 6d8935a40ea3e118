"""YAML files that are no configuration of a run: read within the same bounds, as plain values."""

from pathlib import Path
from typing import Any

from volumen.config.composing import RefusedError, read_text
from volumen.config.problems import Problem
from volumen.config.source import Located, parse
from volumen.errors import UserError


def read_tree(path: Path, label: str, problems: list[Problem]) -> Located | None:
    """A YAML file as values that know their lines.

    Args:
        path: The file.
        label: What messages call it.
        problems: Every mistake found is appended.

    Returns:
        The values; None where the file is not read at all.
    """
    try:
        text = read_text(path)
    except RefusedError as refusal:
        problems.append(Problem(label, "", refusal.text, blocking=True))
        return None
    return parse(text, lambda line: f"{label}:{line}", problems)


def plain_yaml(text: str, name: object, fix: str) -> Any:
    """YAML text as dictionaries with keys of text, lists and scalars.

    Args:
        text: The text.
        name: What the error calls it, a path usually.
        fix: The way out, which ends the error.

    Raises:
        UserError: It is not YAML, or exceeds the bounds of `config.composing`; one line.
    """
    problems: list[Problem] = []
    tree = parse(text, lambda line: f"line {line}", problems)
    if tree is None or problems:
        raise UserError(f"{name} is damaged ({problems[0]}): {fix}")
    return tree.plain()


def read_yaml(path: Path, fix: str) -> Any:
    """A file as `plain_yaml`.

    Raises:
        UserError: It cannot be read, is not YAML, or exceeds a bound; one line.
    """
    try:
        text = read_text(path)
    except RefusedError as refusal:
        raise UserError(f"{path} is damaged ({refusal}): {fix}") from refusal
    return plain_yaml(text, path, fix)
