"""Types, ranges and values in words, the same in error messages and in the schema's table."""

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from volumen.config.places import Place, alternatives, kinds_at, unwrap

_PLAIN_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    NoneType: "null",
    Any: "any value",
}
_LONGEST = 60


def type_text(annotation: Any) -> str:
    """The type in words, with the ranges written inside it: `list of 3: integer >= 1`."""
    kinds = kinds_at(annotation)
    texts: list[str] = []
    for member in alternatives(annotation):
        bare, metadata = unwrap(member)
        if isinstance(bare, type) and issubclass(bare, BaseModel):
            text = f"mapping with kind {' | '.join(kinds)}" if kinds else "mapping"
        else:
            text = " ".join(part for part in (_bare_text(bare), range_text(metadata)) if part)
        if text not in texts:
            texts.append(text)
    return " or ".join(sorted(texts, key=lambda text: text == "null"))


def _bare_text(bare: Any) -> str:
    if bare in _PLAIN_NAMES:
        return _PLAIN_NAMES[bare]
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return " | ".join(map(_literal_text, arguments))
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        texts = [type_text(argument) for argument in arguments]
        inside = texts[0] if len(set(texts)) == 1 else ", ".join(texts)
        return f"list of {len(texts)}: {inside}"
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset) and arguments:
        return f"list of {type_text(arguments[0])}"
    if isinstance(bare, type):
        if issubclass(bare, Enum):
            return " | ".join(_literal_text(member.value) for member in bare)
        if issubclass(bare, PurePath):
            return "path"
        if issubclass(bare, Mapping):
            return "mapping"
        return "list" if issubclass(bare, Sequence | set | frozenset) else bare.__name__
    return str(bare).removeprefix("typing.")


def _literal_text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)


def range_text(metadata: Sequence[Any]) -> str:
    """Constraints in words, such as `>= 0 and < 1`; empty where there is none."""
    parts: list[str] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            parts.append(range_text(item.metadata))
            continue
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            bound = getattr(item, name, None)
            if bound is not None and not callable(bound):
                parts.append(f"{sign} {value_text(bound)}")
        if getattr(item, "multiple_of", None) is not None:
            parts.append(f"a multiple of {value_text(item.multiple_of)}")
        if getattr(item, "min_length", None):
            parts.append(f"of length >= {item.min_length}")
        if getattr(item, "max_length", None) is not None:
            parts.append(f"of length <= {item.max_length}")
        if isinstance(getattr(item, "pattern", None), str):
            parts.append(f"matching {item.pattern}")
    return " and ".join(part for part in parts if part)


def place_text(place: Place) -> str:
    """What may stand at a place: type and range."""
    constraints = range_text(place.metadata)
    return f"{type_text(place.annotation)} {constraints}".strip()


def default_text(place: Place) -> str:
    """The default as it would be written; empty where a value is required."""
    default = place.default
    if default is PydanticUndefined:
        return ""
    if isinstance(default, BaseModel):
        return str(getattr(default, "kind", "")) or "its own defaults"
    return value_text(default)


def value_text(value: Any) -> str:
    """A value as it would be written in YAML; text stands in quotes."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return value_text(value.value)
    if isinstance(value, str | PurePath):
        return repr(str(value))
    if isinstance(value, BaseModel):
        return value_text(dict(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return str(value)


def short_text(value: Any) -> str:
    """As `value_text`, cut where it is long."""
    text = value_text(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


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
