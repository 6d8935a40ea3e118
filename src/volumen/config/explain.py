"""From pydantic's errors to problems a reader can act on: where, which key, what is wrong, expected, got, fix."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from volumen.config.describe import default_text, got_text, place_text, short_text
from volumen.config.places import KIND, ModelClass, Place, child, kind_in, kinds_at, model_for, step
from volumen.config.problems import DEFAULT, Problem
from volumen.config.source import Located
from volumen.config.suggest import close_to, unknown_key_text

MOST = 100
"""Mistakes that are put into words; each takes a search through the schema."""
_OWN_WORDS = ("value_error", "assertion_error")
_NO_EXPECTATION = (*_OWN_WORDS, "frozen_field", "recursion_loop")


def explain(error: ValidationError, tree: Located, model: ModelClass) -> list[Problem]:
    """One problem for each of pydantic's errors, at the line its value was written on.

    Args:
        error: what pydantic raised.
        tree: the merged tree that was validated.
        model: the schema.
    """
    found = error.errors(include_url=False, include_context=False)
    problems = [_explain(item, tree, model) for item in found[:MOST]]
    if len(found) > MOST:
        problems.append(Problem(tree.origin, "", f"{len(found) - MOST} more mistakes; mend the others first"))
    return list(dict.fromkeys(problems))


def _explain(item: ErrorDetails, tree: Located, model: ModelClass) -> Problem:
    spot = _Spot(tree, model)
    for element in item["loc"]:
        spot.enter(element)
    if item["type"] == "missing" and isinstance(item["loc"][-1], str):
        spot.enter_missing(item["loc"][-1])
    return Problem(spot.origin, ".".join(spot.path), _text(item, spot, model))


class _Spot:
    """Follows an error's location through tree and schema at once.

    pydantic's locations hold more than keys: the kind of a union, the name of a union's member, `[key]`. What is no key
    of the tree is passed over.
    """

    def __init__(self, tree: Located, model: ModelClass) -> None:
        self.path: tuple[str, ...] = ()
        self.node: Located | None = tree
        self.place: Place | None = Place(model)
        self.origin = tree.origin
        self.section: Place = Place(model)
        self.section_kind: Any = None
        self._kind_due = False

    def enter(self, element: int | str) -> None:
        """Go one element of the location further in."""
        if self._kind_due:
            self._kind_due = False
            return
        inner = child(self.node, element)
        if inner is None:
            return
        self._advance(element)
        self.node = inner
        if inner.origin != DEFAULT:
            self.origin = inner.origin
        if self.place is not None and isinstance(inner.value, dict):
            kinds = kinds_at(self.place.annotation)
            self._kind_due = bool(kinds) and kind_in(inner) in kinds

    def enter_missing(self, name: str) -> None:
        """Go to a key that should be there and is not."""
        self._advance(name)
        self.node = None

    def _advance(self, element: int | str) -> None:
        self.path = (*self.path, str(element))
        if self.place is not None:
            self.section, self.section_kind = self.place, kind_in(self.node)
            self.place = step(self.place, element, self.section_kind)


def _text(item: ErrorDetails, spot: _Spot, model: ModelClass) -> str:
    kind, got = item["type"], item["input"]
    if kind == "extra_forbidden":
        return unknown_key_text(model, spot.section, spot.section_kind, spot.path)
    if kind in ("union_tag_invalid", "union_tag_not_found") and spot.place is not None:
        return _kind_text(spot.place, spot.node)
    expected = place_text(spot.place) if spot.place is not None else ""
    if kind == "missing" and spot.node is None:
        return f"required and missing; expected {expected}{_about(spot.place)}; add the key"
    if kind in _OWN_WORDS:
        return item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind in _NO_EXPECTATION or not expected:
        return f"{item['msg']}; got {got_text(got)}"
    value = spot.node.plain() if spot.node is not None else got
    return f"expected {expected}, got {got_text(value)}{_fix(spot.place, value)}"


def _fix(place: Place | None, value: Any) -> str:
    """What to write instead, where that is more than the expectation says."""
    if place is None:
        return ""
    choices = place_text(place).split(" | ")
    close = close_to(value, choices) if isinstance(value, str) and len(choices) > 1 else None
    if close:
        return f"; did you mean {close}?"
    kinds = kinds_at(place.annotation)
    if kinds:
        return f"; write {KIND}: and one of {', '.join(kinds)} inside it"
    model = model_for(place.annotation, None)
    if model is not None:
        return f"; write keys inside it: {', '.join(model.model_fields)}"
    if isinstance(value, str) and _is_number(value):
        return "; remove the quotes" if "number" in choices[0] or "integer" in choices[0] else ""
    default = default_text(place)
    return f"; the default is {default}" if default else ""


def _kind_text(place: Place, node: Located | None) -> str:
    kinds = kinds_at(place.annotation)
    known = ", ".join(kinds)
    written = child(node, KIND)
    if written is None:
        return f"{KIND} is missing; add {KIND}: and one of {known}"
    close = close_to(str(written.value), kinds)
    hint = f"did you mean {close}? " if close else ""
    return f"unknown {KIND} {short_text(written.plain())}; {hint}kinds: {known}"


def _about(place: Place | None) -> str:
    """The first line of the field's description, in brackets."""
    words = place.field.description if place is not None and place.field is not None else None
    return f" ({words.splitlines()[0].rstrip('.')})" if words else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
