"""Values in words, and the word that was probably meant: the same in error messages and in the schema's table."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_LONGEST_VALUE = 60
_LONGEST_WORD = 64  # no key and no choice is longer, and searching takes time


def value_text(value: Any) -> str:
    """A value as it would be written in YAML; text stands in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return str(value)


def short_text(value: Any) -> str:
    """As `value_text`, cut where it is long."""
    text = value_text(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def got_text(value: Any) -> str:
    """A value in an error message: shortened, and with its type where that is the point."""
    if value is None:
        return "nothing (null)"
    text = short_text(value)
    if isinstance(value, str):
        return f"text {text}"
    if isinstance(value, Mapping):
        return f"a mapping {text}"
    return f"a list of {len(value)}, {text}" if isinstance(value, list | tuple) else text


def close_to(word: str, words: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The closest of `words`, best first; case, `-` for `_`, and the order of what they join do not count."""
    if len(word) > _LONGEST_WORD:
        return []
    plain = {_sorted(candidate): candidate for candidate in reversed(list(words))}
    key = _sorted(word)
    return [plain[close] for close in ([key] if key in plain else difflib.get_close_matches(key, plain, most, cutoff))]


def _sorted(word: str) -> str:
    return "_".join(sorted(word.lower().replace("-", "_").split("_")))
