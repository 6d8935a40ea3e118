"""The schema for readers: every key with its type, default, range and description."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from volumen.config.describe import close_to, value_text
from volumen.config.places import KIND, Place, constants, place_of
from volumen.errors import UserError


@dataclass(frozen=True)
class KeyRow:
    """One key of the schema."""

    key: str
    """Dotted; `[]` stands for an index, `*` for a key that the user names."""
    when: str
    """The kinds under which the key exists, such as `optimiser.kind = sgd`; empty where it always does."""
    type: str
    default: str
    """As it would be written; empty where a value is required."""
    range: str
    required: bool
    description: str


def schema_rows(model: type[BaseModel], key: str | None = None) -> list[KeyRow]:
    """Every key of a model, section by section, or one key and everything inside it.

    Raises:
        UserError: the schema has no such key.
    """
    rows = list(_inside(place_of(model), "", "", ()))
    if key is None:
        return rows
    found = [row for row in rows if row.key == key or row.key.startswith((f"{key}.", f"{key}[]"))]
    if not found:
        close = close_to(key, [row.key for row in rows])
        hint = f"did you mean {close[0]}?" if close else f"keys at the top: {', '.join(model.model_fields)}"
        raise UserError(f"the schema has no key {key!r}; {hint}")
    return found


def default_text(place: Place) -> str:
    """The default as it would be written; empty where a value is required."""
    if not place.has_default:
        return ""
    if place.sections and isinstance(place.default, dict):
        return str(place.default.get(KIND, "its own defaults"))
    return value_text(place.default)


def _inside(place: Place, key: str, when: str, above: tuple[Place, ...]) -> Iterator[KeyRow]:
    """Rows of the keys inside a place; `above` holds the sections that led here, so that one within itself ends."""
    sections = place.sections
    for section in sections:
        if section in above:
            continue
        kinds = constants(section.node["properties"].get(KIND, {}))
        chosen = f"{key}.{KIND} = {' | '.join(kinds)}" if place.kinds else ""
        condition = " and ".join(part for part in (when, chosen) if part)
        for name, field in section.fields.items():
            inner = f"{key}.{name}" if key else name
            about = field.about or (field.sections[0].about.split("\n")[0] if len(field.sections) == 1 else "")
            yield KeyRow(inner, condition, field.type, default_text(field), field.range, not field.has_default, about)
            yield from _inside(field, inner, condition, (*above, section))
    if not sections:
        for step, mark in ((0, "[]"), ("", ".*")):
            item = place.step(step)
            if item is not None:
                yield from _inside(item, key + mark, when, above)
