"""The schema for readers: every key with its type, default, range and description, as JSON schema and as a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class SchemaDocument:
    """A schema for programs (`json_schema`) and for readers (`rows`)."""

    json_schema: dict[str, Any]
    rows: tuple[KeyRow, ...]

    def under(self, key: str) -> tuple[KeyRow, ...]:
        """The rows of a key and of everything inside it.

        Raises:
            UserError: the schema has no such key.
        """
        rows = tuple(row for row in self.rows if row.key == key or row.key.startswith((f"{key}.", f"{key}[]")))
        if not rows:
            close = close_to(key, [row.key for row in self.rows])
            top = [row.key for row in self.rows if "." not in row.key and "[]" not in row.key]
            hint = f"did you mean {close[0]}?" if close else f"keys at the top: {', '.join(top)}"
            raise UserError(f"the schema has no key {key!r}; {hint}")
        return rows

    def markdown(self, key: str | None = None) -> str:
        """The rows as a Markdown table, of the whole schema or of one key."""
        lines = ["| key | when | type | default | range | description |", "| --- | --- | --- | --- | --- | --- |"]
        for row in self.rows if key is None else self.under(key):
            default = row.default or "*required*"
            cells = (f"`{row.key}`", row.when, row.type, default, row.range, row.description)
            lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def schema_document(model: type[BaseModel]) -> SchemaDocument:
    """Describe every key of a model, section by section."""
    place = place_of(model)
    return SchemaDocument(dict(place.node), tuple(_inside(place, "", "", ())))


def default_text(place: Place) -> str:
    """The default as it would be written; empty where a value is required."""
    if not place.has_default:
        return ""
    if place.sections and isinstance(place.default, dict):
        return str(place.default.get(KIND, "its own defaults"))
    return value_text(place.default)


def _inside(place: Place, key: str, when: str, above: tuple[Place, ...]) -> Iterator[KeyRow]:
    """Rows of the keys inside a place; `above` holds the sections that led here, so that one within itself ends."""
    sections = [section for section in place.sections if section not in above]
    for section in sections:
        kinds = constants(section.node["properties"].get(KIND, {}))
        chosen = f"{key}.{KIND} = {' | '.join(kinds)}" if place.kinds else ""
        condition = " and ".join(part for part in (when, chosen) if part)
        for name, field in section.fields.items():
            inner = f"{key}.{name}" if key else name
            yield _row(field, inner, condition)
            yield from _inside(field, inner, condition, (*above, section))
    if not sections:
        for step, mark in ((0, "[]"), ("", ".*")):
            item = place.step(step)
            if item is not None:
                yield from _inside(item, key + mark, when, above)


def _row(place: Place, key: str, when: str) -> KeyRow:
    sections = place.sections
    about = place.about or (sections[0].about.split("\n")[0] if len(sections) == 1 else "")
    return KeyRow(key, when, place.type, default_text(place), place.range, place.required, about)
