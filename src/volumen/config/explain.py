"""From pydantic's errors to problems a reader can act on: where, which key, what is wrong, expected, got, fix."""

import re
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from volumen.config.describe import close_to, got_text, short_text
from volumen.config.document import default_text, schema_rows
from volumen.config.places import KIND, Place, kind_in, place_of
from volumen.config.problems import DEFAULT, Problem
from volumen.config.source import Located

MOST = 100
"""Mistakes that are put into words; each takes a search through the schema."""
_OWN_WORDS = ("value_error", "assertion_error")
_NUMBER = re.compile(r"\s*[-+]?\d*\.?\d+(e[-+]?\d+)?\s*", re.IGNORECASE)


def explain(error: ValidationError, tree: Located, model: type[BaseModel]) -> list[Problem]:
    """One problem for each of pydantic's errors, at the line its value was written on.

    Args:
        error: what pydantic raised.
        tree: the merged tree that was validated.
        model: the schema.
    """
    found = error.errors(include_url=False, include_context=False)
    problems = []
    for item in found[:MOST]:
        spot = _find(item, tree, place_of(model))
        problems.append(Problem(spot.origin, ".".join(spot.path), _text(item, spot, model)))
    if len(found) > MOST:
        problems.append(Problem(tree.origin, "", f"{len(found) - MOST} more mistakes; correct the others first"))
    return list(dict.fromkeys(problems))


@dataclass(frozen=True)
class _Spot:
    """Where an error is, in the tree and in the schema at once."""

    path: tuple[str, ...]
    node: Located | None
    place: Place | None
    section: Place
    """In which the last key of `path` stands."""
    kind: str | None
    """Of that section."""
    origin: str


def _find(item: ErrorDetails, tree: Located, root: Place) -> _Spot:
    """Follow an error's location.

    pydantic's locations hold more than keys: the kind of a union, the name of a union's member, `[key]`. What is no key
    of the tree is passed over.
    """
    spot = _Spot((), tree, root, root, None, tree.origin)
    missing = len(item["loc"]) - 1 if item["type"] == "missing" and isinstance(item["loc"][-1], str) else None
    kind_due = False
    for index, element in enumerate(item["loc"]):
        node = None if spot.node is None else spot.node.child(element)
        if kind_due or (node is None and index != missing):
            kind_due = False
            continue
        kind, section = kind_in(spot.node), spot.place or spot.section
        place = None if spot.place is None else spot.place.step(element, kind)
        origin = spot.origin if node is None or node.origin == DEFAULT else node.origin
        spot = _Spot((*spot.path, str(element)), node, place, section, kind, origin)
        kind_due = place is not None and kind_in(node) in place.kinds
    return spot


def _text(item: ErrorDetails, spot: _Spot, model: type[BaseModel]) -> str:
    error, place = item["type"], spot.place
    if error == "extra_forbidden":
        return _unknown_key(spot, model)
    if error in _OWN_WORDS:
        return item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if place is None:
        return f"{item['msg']}; got {got_text(item['input'])}"
    if error in ("union_tag_invalid", "union_tag_not_found"):
        return _kind_text(place, spot.node)
    if error == "missing" and spot.node is None:
        about = f" ({place.about.splitlines()[0].rstrip('.')})" if place.about else ""
        return f"required and missing; expected {place}{about}; add the key"
    value = spot.node.plain() if spot.node is not None else item["input"]
    return f"expected {place}, got {got_text(value)}{_fix(place, value)}"


def _unknown_key(spot: _Spot, model: type[BaseModel]) -> str:
    """A key of another kind, a neighbour, or the same word in another section: each under its short names."""
    key, kinds, section = spot.path[-1], spot.section.kinds, spot.section.section(spot.kind)
    allowed = [] if section is None else list(section.fields)
    hint = "remove it"
    if owners := [kind for kind, one in kinds.items() if key in one.fields]:
        hint = f"it belongs to kind {' | '.join(owners)} and this is {spot.kind}; change the kind or remove the key"
    elif near := close_to(key, allowed, 2):
        hint = f"did you mean {' or '.join('.'.join((*spot.path[:-1], name)) for name in near)}?"
    else:
        named: dict[str, str] = {}
        for row in schema_rows(model):
            parts = row.key.replace("[]", "").split(".")
            for name in ("_".join(parts[-2:]), parts[-1]):
                named.setdefault(name, row.key)
        if meant := close_to(key, named, 2, 0.7):
            hint = f"did you mean {' or '.join(dict.fromkeys(named[name] for name in meant))}?"
    return f"unknown key {key!r}; {hint} (keys here: {', '.join(allowed)})"


def _fix(place: Place, value: object) -> str:
    """What to write instead, where that is more than the expectation says."""
    choices = str(place).split(" | ")
    close = close_to(value, choices) if isinstance(value, str) and len(choices) > 1 else []
    if close:
        return f"; did you mean {close[0]}?"
    if place.kinds:
        return f"; write {KIND}: and one of {', '.join(place.kinds)} inside it"
    section = place.section(None)
    if section is not None:
        return f"; write keys inside it: {', '.join(section.fields)}"
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return "; remove the quotes" if "number" in choices[0] or "integer" in choices[0] else ""
    default = default_text(place)
    return f"; the default is {default}" if default else ""


def _kind_text(place: Place, node: Located | None) -> str:
    known = ", ".join(place.kinds)
    written = None if node is None else node.child(KIND)
    if written is None:
        return f"{KIND} is missing; add {KIND}: and one of {known}"
    close = close_to(str(written.value), place.kinds)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown {KIND} {short_text(written.plain())}; {hint}kinds: {known}"
