"""The schema for readers: every key with its type, default, range and description, as JSON schema and as a table."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from inspect import cleandoc
from typing import Any

from volumen.config.describe import default_text, range_text, type_text
from volumen.config.places import KIND, ModelClass, Place, field_place, inner_place, kinds_of, models_at
from volumen.config.suggest import close_to
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

    def as_dictionary(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


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
            hint = f"did you mean {close}?" if close else f"keys at the top: {', '.join(_top(self.rows))}"
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


def schema_document(model: ModelClass) -> SchemaDocument:
    """Describe every key of a model, section by section."""
    return SchemaDocument(model.model_json_schema(), tuple(_rows(model, "", "", ())))


def _top(rows: tuple[KeyRow, ...]) -> list[str]:
    return [row.key for row in rows if "." not in row.key and "[]" not in row.key]


def _rows(model: ModelClass, prefix: str, when: str, inside: tuple[ModelClass, ...]) -> Iterator[KeyRow]:
    """Rows of a model's fields; `inside` holds the models that led here, so that a model within itself ends."""
    for name in model.model_fields:
        place = field_place(model, name)
        if place is not None:
            yield from _place_rows(place, f"{prefix}{name}", when, (*inside, model))


def _place_rows(place: Place, key: str, when: str, inside: tuple[ModelClass, ...]) -> Iterator[KeyRow]:
    models = models_at(place.annotation)
    if place.field is not None:
        description = cleandoc(place.field.description or "") or _about(models)
        default = default_text(place)
        limits = range_text(place.metadata)
        yield KeyRow(key, when, type_text(place.annotation), default, limits, place.field.is_required(), description)
    for model in models:
        if model not in inside:
            condition = f"{key}.{KIND} = {' | '.join(kinds_of(model))}" if len(models) > 1 else ""
            yield from _rows(model, f"{key}.", " and ".join(part for part in (when, condition) if part), inside)
    for step, mark in ((0, "[]"), ("*", ".*")):
        inner = inner_place(place.annotation, step)
        if inner is not None and _holds_models(inner.annotation):
            yield from _place_rows(inner, key + mark, when, inside)


def _holds_models(annotation: Any) -> bool:
    inner = (inner_place(annotation, step) for step in (0, "*"))
    return bool(models_at(annotation)) or any(place is not None and _holds_models(place.annotation) for place in inner)


def _about(models: list[ModelClass]) -> str:
    """First line of the model's docstring, where a field has no words of its own and no choice of models."""
    return cleandoc(models[0].__doc__ or "").split("\n")[0] if len(models) == 1 else ""
