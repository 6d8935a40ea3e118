"""Laying layers over each other, and knowing about the schema's defaults while doing so.

Mappings are merged key by key, everything else is replaced. A mapping that names another `kind` replaces the one below
it: settings of the old kind mean nothing to the new one.
"""

from typing import Any

from pydantic import BaseModel

from volumen.config.places import KIND, ModelClass, Place, child, inner_place, kind_in, model_for, models_at, step
from volumen.config.problems import DEFAULT, OVERRIDE, Problem
from volumen.config.source import Located, Tree, located


def merge(lower: Located, upper: Located, problems: list[Problem], path: tuple[str, ...] = ()) -> Located:
    """`upper` over `lower`; an override addresses items of a list by their index."""
    if not isinstance(upper.value, dict):
        return upper
    if isinstance(lower.value, list) and upper.origin == OVERRIDE and all(key.isdecimal() for key in upper.value):
        return Located(_merge_items(lower.value, upper.value, problems, path), lower.origin)
    if not isinstance(lower.value, dict) or _changes_kind(lower, upper):
        return upper
    merged = dict(lower.value)
    for key, item in upper.value.items():
        merged[key] = merge(merged[key], item, problems, (*path, key)) if key in merged else item
    return Located(merged, lower.origin if upper.origin == OVERRIDE else upper.origin)


def _merge_items(items: list[Located], upper: Tree, problems: list[Problem], path: tuple[str, ...]) -> list[Located]:
    merged = list(items)
    for key, item in upper.items():
        if int(key) < len(merged):
            merged[int(key)] = merge(merged[int(key)], item, problems, (*path, key))
        else:
            count = f"it has {len(items)} items, 0 to {len(items) - 1}" if items else "it is empty"
            text = f"there is no item {key} in this list ({count}); give an index it has, or the whole list"
            problems.append(Problem(OVERRIDE, ".".join((*path, key)), text))
    return merged


def _changes_kind(lower: Located, upper: Located) -> bool:
    return isinstance(upper.value, dict) and KIND in upper.value and kind_in(lower) not in (None, kind_in(upper))


def fill_kinds(node: Located, place: Place) -> Located:
    """Write the default's `kind` into every mapping that leaves it out.

    `optimiser: {learning_rate: 0.1}` then means "the default optimiser, but", and a later layer that names another
    kind is seen to change it.
    """
    return _complete(node, place, place.default, values=False)


def fill_defaults(node: Located, place: Place) -> Located:
    """Put under each mapping what its field's default instance sets beyond its own model's defaults.

    A field may default to `Training(epochs=5)` though `Training` alone has 200 epochs: naming another key of that
    section must not bring the 200 back.
    """
    return _complete(node, place, place.default, values=True)


def _complete(node: Located, place: Place, default: Any, *, values: bool) -> Located:
    if isinstance(node.value, list):
        places = ((item, inner_place(place.annotation, index)) for index, item in enumerate(node.value))
        items = [_complete(item, at, None, values=values) if at else item for item, at in places]
        return Located(items, node.origin)
    if not isinstance(node.value, dict):
        return node
    mapping = dict(node.value)
    if KIND not in mapping and len(models_at(place.annotation)) > 1 and hasattr(default, KIND):
        mapping[KIND] = located(getattr(default, KIND), DEFAULT)
    kind = kind_in(Located(mapping, node.origin))
    model = model_for(place.annotation, kind)
    own = default if model is not None and isinstance(default, model) else None
    if values and own is not None:
        for name in sorted(own.model_fields_set - set(mapping)):
            mapping[name] = located(_dumped(getattr(own, name)), DEFAULT)
    for key, item in mapping.items():
        at = step(place, key, kind)
        if at is not None:
            inner = getattr(own, key) if own is not None else at.default
            mapping[key] = _complete(item, at, inner, values=values)
    return Located(mapping, node.origin)


def _dumped(value: Any) -> Any:
    """A default as plain values; of a section only what it sets and its `kind`."""
    if isinstance(value, BaseModel):
        names = [name for name in type(value).model_fields if name in value.model_fields_set or name == KIND]
        return {name: _dumped(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {key: _dumped(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_dumped(item) for item in value]
    return value


def write_default(tree: Located, model: ModelClass, path: tuple[str, ...]) -> Located:
    """The tree with the default list written out that `path` reaches into (`terms.0.weight`), if no layer gave one."""
    return _write_default(tree, Place(model), path)


def _write_default(node: Located, place: Place, path: tuple[str, ...]) -> Located:
    if not path or not isinstance(node.value, dict):
        return node
    key, rest = path[0], path[1:]
    at = step(place, key, kind_in(node))
    if at is None:
        return node
    below = child(node, key)
    if below is None:
        default = at.default
        if not isinstance(default, BaseModel | list | tuple):
            return node
        below = located(_dumped(default), DEFAULT)
    return Located({**node.value, key: _write_default(below, at, rest)}, node.origin)
