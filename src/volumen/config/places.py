"""Finding one's way in a schema, through pydantic's JSON schema: what may stand at a key, and how that is said.

A union of sections is told apart by its `kind`; nothing else is assumed of the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from volumen.config.describe import value_text
from volumen.config.source import Located

KIND = "kind"
_TYPES = {"boolean": "true or false", "string": "text", "array": "list", "object": "mapping"}
_RANGES = {
    "exclusiveMinimum": ">",
    "minimum": ">=",
    "exclusiveMaximum": "<",
    "maximum": "<=",
    "multipleOf": "a multiple of",
    "minLength": "of length >=",
    "minItems": "of length >=",
    "maxLength": "of length <=",
    "maxItems": "of length <=",
    "pattern": "matching",
}


@dataclass(frozen=True)
class Place:
    """What may stand at a key: a node of a JSON schema, and the schema's named definitions."""

    node: Mapping[str, Any]
    definitions: Mapping[str, Any]

    @property
    def has_default(self) -> bool:
        """Whether the key may be left out."""
        return "default" in self.node

    @property
    def default(self) -> Any:
        """As plain values; None where there is none."""
        return self.node.get("default")

    @property
    def about(self) -> str:
        """The description of the field."""
        return str(self.node.get("description", ""))

    @property
    def alternatives(self) -> list["Place"]:
        """The members of a union, references followed; this place alone where it is none."""
        if "$ref" in self.node:
            return Place(self.definitions[self.node["$ref"].rpartition("/")[2]], self.definitions).alternatives
        members = self.node.get("anyOf") or self.node.get("oneOf")
        if not members:
            return [self]
        return [one for member in members for one in Place(member, self.definitions).alternatives]

    @property
    def sections(self) -> list["Place"]:
        """The groups of keys that may stand here."""
        return [one for one in self.alternatives if "properties" in one.node]

    @property
    def fields(self) -> dict[str, "Place"]:
        """The keys of a section."""
        return {name: Place(node, self.definitions) for name, node in self.node.get("properties", {}).items()}

    @property
    def kinds(self) -> dict[str, "Place"]:
        """The sections among which a `kind` chooses; empty where there is nothing to choose."""
        sections = self.sections
        if len(sections) < 2:
            return {}
        return {str(kind): one for one in sections for kind in constants(one.node["properties"].get(KIND, {}))}

    def section(self, kind: str | None) -> "Place | None":
        """The section that stands here for a `kind`; the only one where there is no choice."""
        sections = self.sections
        return sections[0] if len(sections) == 1 else self.kinds.get(kind or "")

    def step(self, key: str | int, kind: str | None = None) -> "Place | None":
        """The place one key or index further in; `kind` chooses among sections."""
        section = self.section(kind)
        if section is not None and isinstance(key, str):
            return section.fields.get(key)
        for one in self.alternatives:
            inner = one.node.get("additionalProperties" if isinstance(key, str) else "items")
            items = one.node.get("prefixItems", ())
            if isinstance(key, int) and key < len(items):
                inner = items[key]
            if isinstance(inner, Mapping) or inner is True:
                return Place(inner if isinstance(inner, Mapping) else {}, self.definitions)
        return None

    @property
    def type(self) -> str:
        """The type in words, with the ranges written inside it: `list of 3: integer >= 1`."""
        members = self.alternatives
        if members == [self] and "properties" not in self.node:
            return self._own_type()
        section = f"mapping with kind {' | '.join(self.kinds)}" if self.kinds else "mapping"
        texts = dict.fromkeys(section if "properties" in one.node else str(one) for one in members)
        return " or ".join(sorted(texts, key=lambda text: text == "null"))

    @property
    def range(self) -> str:
        """The bounds, such as `>= 0 and < 1`; empty where there is none."""
        if "prefixItems" in self.node:
            return ""
        bounds = [(sign, self.node[name]) for name, sign in _RANGES.items() if name in self.node]
        return " and ".join(f"{sign} {bound}" for sign, bound in bounds)

    def __str__(self) -> str:
        return f"{self.type} {self.range}".strip()

    def _own_type(self) -> str:
        if choices := constants(self.node):
            return " | ".join(one if isinstance(one, str) else value_text(one) for one in choices)
        name = str(self.node.get("type", "any value"))
        if items := self.node.get("prefixItems"):
            texts = [str(Place(item, self.definitions)) for item in items]
            return f"list of {len(texts)}: {texts[0] if len(set(texts)) == 1 else ', '.join(texts)}"
        inner = self.step(0) if name == "array" else self.step("")
        if inner is not None:
            return f"list of {inner}" if name == "array" else f"mapping of text to {inner}"
        return _TYPES.get(name, name)


@cache
def place_of(model: type[BaseModel]) -> Place:
    """The place of a whole model."""
    schema = model.model_json_schema()
    return Place(schema, schema.get("$defs", {}))


def constants(node: Mapping[str, Any]) -> list[Any]:
    """The values among which a node of a JSON schema lets choose; empty where any value of a type will do."""
    return [node["const"]] if "const" in node else list(node.get("enum", ()))


def kind_in(node: Located | None) -> str | None:
    """The `kind` that a mapping names, else None."""
    written = None if node is None else node.child(KIND)
    return written.value if written is not None and isinstance(written.value, str) else None
