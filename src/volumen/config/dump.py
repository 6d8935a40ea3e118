"""A configuration as values, text and identity."""

import hashlib
import io
import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

Step = str | int
_COMMENT_WIDTH = 100


def config_values(config: BaseModel) -> dict[str, Any]:
    """The whole configuration, defaults included, as dictionaries, lists and scalars in the schema's order."""
    return {name: _plain(value) for name, value in config.model_dump(mode="python", by_alias=False).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a configuration holds text, numbers, lists and mappings, got {type(value).__name__}")


def leaves(config: BaseModel) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Path and value of everything that is not itself a group; a list of plain values is one value."""
    return _leaves(config_values(config), ())


def _leaves(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    inner: Iterator[tuple[Step, Any]] | None = None
    if isinstance(value, dict) and value:
        inner = iter(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        inner = iter(enumerate(value))
    if inner is None:
        yield path, value
        return
    for key, item in inner:
        yield from _leaves(item, (*path, key))


def flat_values(config: BaseModel) -> dict[str, Any]:
    """The leaves by their dotted keys."""
    return {dotted(path): value for path, value in leaves(config)}


def dotted(path: tuple[Step, ...]) -> str:
    """A path as one key; a part that itself holds a dot stands in quotes."""
    return ".".join(json.dumps(part) if isinstance(part, str) and "." in part else str(part) for part in path)


def config_hash(config: BaseModel) -> str:
    """SHA-256 (hexadecimal) of the values as canonical JSON: equal configurations have equal hashes.

    Keys are sorted and whole numbers are written as integers, since 1 == 1.0; where a value came from does not count.
    """
    return hashlib.sha256(canonical(config_values(config)).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Plain values as the one text that all equal values share, and no others: True is not 1, but 1 is 1.0."""
    return json.dumps(_whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def dump_config(config: BaseModel, *, comments: bool = False) -> str:
    """The whole configuration as YAML, in the schema's order.

    Args:
        config: any of the schema's models.
        comments: put each field's description above its key.
    """
    plain = config_values(config)
    return dump_yaml(_commented(plain, config) if comments else plain)


def dump_yaml(value: Any) -> str:
    """Plain values as block YAML; lists of plain values stand on one line."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 2**20  # a folded line reads worse than a long one
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


class _Representer(RoundTripRepresenter):
    """Writes null as a word, since an empty place after a key reads like a mistake, lists of plain values on one line,
    and text so that it comes back: a separator such as U+0085 is folded like a line break but in double quotes.
    """

    def represent_str(self, text: str) -> Any:
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def represent_null(self, _: None) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_list(self, items: list[Any]) -> Any:
        sequence = CommentedSeq(items)
        if not any(isinstance(item, dict | list) for item in items):
            sequence.fa.set_flow_style()
        return self.represent_sequence("tag:yaml.org,2002:seq", sequence)

    def ignore_aliases(self, _: Any) -> bool:
        return True


_Representer.add_representer(type(None), _Representer.represent_null)
_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(list, _Representer.represent_list)


def _commented(plain: dict[str, Any], config: BaseModel, depth: int = 0) -> CommentedMap:
    result = CommentedMap(plain)
    for name, field in type(config).model_fields.items():
        inner = getattr(config, name)
        if isinstance(inner, BaseModel):
            result[name] = _commented(plain[name], inner, depth + 1)
        if field.description:
            lines = [textwrap.fill(line, _COMMENT_WIDTH) for line in field.description.splitlines()]
            result.yaml_set_comment_before_after_key(name, before="\n".join(lines), indent=2 * depth)
    return result
