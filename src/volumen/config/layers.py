"""Laying layers over each other: the schema's defaults, files, and the overrides of the command line.

Mappings are merged key by key, everything else is replaced. A mapping that names another `kind` replaces the one below
it: settings of the old kind mean nothing to the new one.

All overrides (`-o training.epochs=3`) form one layer over the files, so their order matters only where two of them set
the same key (the later wins). Values are YAML, read like a file's: `1e-3` is a number, `null` is nothing.
"""

from collections.abc import Sequence

from volumen.config.describe import short_text
from volumen.config.inheritance import BASE, PROVENANCE
from volumen.config.places import KIND, Place, kind_in
from volumen.config.problems import DEFAULT, OVERRIDE, Problem
from volumen.config.source import DEEPEST, LONGEST_KEY, Located, Tree, located, parse


def merge(lower: Located, upper: Located, problems: list[Problem], path: tuple[str, ...] = ()) -> Located:
    """`upper` over `lower`; an override addresses items of a list by their index."""
    if not isinstance(upper.value, dict):
        return upper
    if isinstance(lower.value, list) and upper.origin == OVERRIDE and all(key.isdecimal() for key in upper.value):
        return Located(_merge_items(lower.value, upper.value, problems, path), lower.origin)
    if not isinstance(lower.value, dict) or (
        kind_in(lower) is not None and KIND in upper.value and kind_in(lower) != kind_in(upper)
    ):
        return upper
    merged = dict(lower.value)
    for key, item in upper.value.items():
        merged[key] = merge(merged[key], item, problems, (*path, key)) if key in merged else item
    return Located(merged, lower.origin if upper.origin == OVERRIDE and lower.origin != DEFAULT else upper.origin)


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


def with_defaults(node: Located, place: Place) -> Located:
    """The values with every default of the schema under them.

    So `optimiser: {learning_rate: 0.1}` means "the default optimiser, but", and a later layer that names another kind
    is seen to change it.
    """
    if isinstance(node.value, list):
        items = ((item, place.step(index)) for index, item in enumerate(node.value))
        return Located([with_defaults(item, at) if at else item for item, at in items], node.origin)
    if not isinstance(node.value, dict):
        return node
    if place.sections and isinstance(place.default, dict):
        node = merge(located(place.default, DEFAULT), node, [])
    kind = kind_in(node)
    section = place.section(kind)
    fields = {} if section is None else section.fields
    values: Tree = {key: located(at.default, DEFAULT) for key, at in fields.items() if at.has_default}
    values.update(node.value if isinstance(node.value, dict) else {})
    for key, item in values.items():
        at = place.step(key, kind)
        values[key] = with_defaults(item, at) if at is not None else item
    return Located(values, node.origin)


def override_layer(overrides: Sequence[str], problems: list[Problem]) -> Located:
    """All overrides as one tree, laid over each other in their order; malformed ones become problems."""
    layer = Located({}, OVERRIDE)
    for text in overrides:
        value = _parse(text, problems)
        if value is not None:
            layer = merge(layer, value, problems)
    return layer


def _parse(text: str, problems: list[Problem]) -> Located | None:
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
    for part in reversed(path):
        value = None if value is None else Located({part: value}, OVERRIDE)
    return value
