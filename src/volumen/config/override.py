"""Overrides of the command line: `-o training.epochs=3`.

All overrides form one layer over the files, so their order matters only where two of them set the same key (the later
wins). Values are YAML, read like a file's: `1e-3` is a number, `null` is nothing, `[1, 2]` a list.
"""

from collections.abc import Sequence

from volumen.config.composing import DEEPEST
from volumen.config.describe import short_text
from volumen.config.inheritance import BASE, PROVENANCE
from volumen.config.merge import merge
from volumen.config.problems import OVERRIDE, Problem
from volumen.config.source import LONGEST_KEY, Located, parse


def parse_overrides(overrides: Sequence[str], problems: list[Problem]) -> list[tuple[tuple[str, ...], Located]]:
    """Path and value of each override; malformed ones become problems."""
    parsed = (_parse(text, problems) for text in overrides)
    return [pair for pair in parsed if pair is not None]


def _parse(text: str, problems: list[Problem]) -> tuple[tuple[str, ...], Located] | None:
    key, equals, written = (part.strip() for part in text.partition("="))
    path = tuple(part.strip() for part in key.split("."))
    malformed = ""
    if not equals:
        malformed = "there is no `=`; write KEY=VALUE, such as training.epochs=3"
    elif not all(path) or any(len(part.split()) > 1 or not part.isprintable() for part in path):
        malformed = "the key is not words joined by dots; write it like training.epochs=3"
    elif len(path) > DEEPEST or max(map(len, path)) > LONGEST_KEY:
        malformed = f"no key has more than {DEEPEST} words, or one of more than {LONGEST_KEY} letters"
    elif path[0] in (BASE, PROVENANCE):
        malformed = f"`{path[0]}` is not a setting; write it in a file"
    elif not written:
        malformed = f"there is no value; write {key}=null for none, or {key}='\"\"' for empty text"
    if malformed:
        problems.append(Problem(OVERRIDE, "", f"cannot read {short_text(text)}: {malformed}"))
        return None
    found: list[Problem] = []
    value = parse(written, lambda _: OVERRIDE, found)
    for problem in found:
        inside = ".".join(part for part in (*path, problem.key) if part)
        problems.append(Problem(OVERRIDE, inside, f"in {short_text(text)}: {problem.text}"))
    return None if value is None else (path, value)


def override_layer(parsed: Sequence[tuple[tuple[str, ...], Located]], problems: list[Problem]) -> Located:
    """All overrides as one tree, laid over each other in their order."""
    layer = Located({}, OVERRIDE)
    for path, value in parsed:
        for part in reversed(path):
            value = Located({part: value}, OVERRIDE)
        layer = merge(layer, value, problems)
    return layer
