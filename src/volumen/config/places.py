"""Finding one's way in a pydantic schema: which model stands at a key, and what its default is.

A union of models is told apart by its `kind`; nothing else is assumed of the schema.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from volumen.config.source import Located

KIND = "kind"
ModelClass = type[BaseModel]


@dataclass(frozen=True)
class Place:
    """What may stand at a key: an annotation, its constraints, and the field it belongs to (None inside a list)."""

    annotation: Any
    metadata: tuple[Any, ...] = ()
    field: FieldInfo | None = None

    @property
    def default(self) -> Any:
        """The field's default, or pydantic's `PydanticUndefined` where it has none."""
        if self.field is None or self.field.default_factory_takes_validated_data:
            return PydanticUndefined
        return self.field.get_default(call_default_factory=True)


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The annotation without `Annotated` and type aliases, and the metadata those carried."""
    metadata: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata += tuple(more)
        elif hasattr(annotation, "__value__"):  # `type X = ...`
            annotation = annotation.__value__
        else:
            return annotation, metadata


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, each still with its own metadata; any other annotation alone."""
    bare, _ = unwrap(annotation)
    if get_origin(bare) in (Union, UnionType):
        return [member for part in get_args(bare) for member in alternatives(part)]
    return [annotation]


def models_at(annotation: Any) -> list[ModelClass]:
    """The models that may stand here."""
    bare = (unwrap(member)[0] for member in alternatives(annotation))
    return [member for member in bare if isinstance(member, type) and issubclass(member, BaseModel)]


def kinds_of(model: ModelClass) -> tuple[str, ...]:
    """The values of `kind` by which a union picks this model; empty where it has none."""
    if KIND not in model.model_fields:
        return ()
    bare, _ = unwrap(model.model_fields[KIND].annotation)
    return tuple(map(str, get_args(bare))) if get_origin(bare) is Literal else ()


def kinds_at(annotation: Any) -> tuple[str, ...]:
    """Every `kind` that a union of models knows; empty where there is nothing to choose."""
    models = models_at(annotation)
    return tuple(kind for model in models for kind in kinds_of(model)) if len(models) > 1 else ()


def model_for(annotation: Any, kind: Any) -> ModelClass | None:
    """The model that stands here for a `kind`; the only one where there is no choice."""
    models = models_at(annotation)
    if len(models) == 1:
        return models[0]
    return next((model for model in models if kind in kinds_of(model)), None)


def kind_in(node: Located | None) -> Any:
    """The `kind` that a mapping names, else None."""
    if node is not None and isinstance(node.value, dict) and KIND in node.value:
        return node.value[KIND].value
    return None


def field_place(model: ModelClass, name: str) -> Place | None:
    """The place of a model's field."""
    field = model.model_fields.get(name)
    return None if field is None else Place(field.annotation, tuple(field.metadata), field)


def inner_place(annotation: Any, key: str | int) -> Place | None:
    """The place of a free mapping's value or of a list's item."""
    for member in alternatives(annotation):
        bare, _ = unwrap(member)
        origin, arguments = get_origin(bare), get_args(bare)
        if not (isinstance(origin, type) and arguments):
            continue
        if issubclass(origin, Mapping) and isinstance(key, str):
            return Place(arguments[1])
        if issubclass(origin, Sequence | set | frozenset) and isinstance(key, int):
            if origin is tuple and arguments[-1] is not Ellipsis:
                return Place(arguments[key]) if key < len(arguments) else None
            return Place(arguments[0])
    return None


def step(place: Place, key: str | int, kind: Any) -> Place | None:
    """The place one key or index further in; `kind` chooses among models that may stand here."""
    model = model_for(place.annotation, kind)
    if model is not None and isinstance(key, str):
        return field_place(model, key)
    return inner_place(place.annotation, key)


def child(node: Located | None, key: str | int) -> Located | None:
    """The value at a key or index of a tree, or None where there is nothing."""
    if node is None:
        return None
    if isinstance(node.value, dict) and isinstance(key, str):
        return node.value.get(key)
    if isinstance(node.value, list) and isinstance(key, int) and 0 <= key < len(node.value):
        return node.value[key]
    return None
