"""Other valid values for one key of a configuration, the nearer ones first.

The schema itself says what is valid: candidates are made from the present value and its type, and each is put through
the same check as a file's value. What the check refuses is passed over.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from volumen.config.dump import Step, canonical, config_values, dotted, leaves
from volumen.config.places import KIND, Place, alternatives, kinds_at, model_for, step, unwrap
from volumen.config.schema import Config

MOST = 12  # values tried before a setting is called dead; they span six orders of magnitude
FACTORS = (1.5, 0.5, 10.0, 0.1, 1e3, 1e-3)
NUMBERS = (0.0, 0.5, 1.0, 0.01, 10.0, 1000.0)
ADDED_VOXELS = (16, -16, 32, -32, 64, 8, -8)  # one of them leads to a multiple of the model's divisor
SIDES = (32, 64, 96, 128)  # of a patch or tile, voxels

ABSENT = "(no default)"

Values = dict[str, Any]


def variations(config: Config, key: str) -> Iterator[tuple[Any, Config]]:
    """Other valid values of a key, each with the configuration that has it.

    A null is given a value and a value that may be null is taken away; another `kind` keeps the settings that both
    kinds know.

    Args:
        config: A valid configuration.
        key: Dotted key of one of its leaves, see `flat_values`.
    """
    path = next(path for path, _ in leaves(config) if dotted(path) == key)
    values = config_values(config)
    place = _place(values, path)
    if place is None:
        return
    seen = {canonical(_at(values, path))}
    for changed in _changed(values, path, place):
        try:
            varied = Config.model_validate_json(json.dumps(changed))
        except ValidationError:
            continue
        value = _at(config_values(varied), path)
        if canonical(value) in seen:
            continue
        seen.add(canonical(value))
        yield value, varied
        if len(seen) > MOST:
            return


def default_of(config: Config, key: str) -> Any:
    """The schema's default of a key, a plain value; `ABSENT` where it has none."""
    path = next(path for path, _ in leaves(config) if dotted(path) == key)
    values = config_values(config)
    if path[-1] == KIND:
        place = _place(values, path[:-1])
        return getattr(None if place is None else place.default, KIND, ABSENT)
    place = _place(values, path)
    default = PydanticUndefined if place is None else place.default
    if default is PydanticUndefined or isinstance(default, BaseModel):
        return ABSENT
    return list(default) if isinstance(default, tuple) else default


def _changed(values: Values, path: tuple[Step, ...], place: Place) -> Iterator[Values]:
    """The whole configuration's values, with something else at one path."""
    if path[-1] != KIND:
        for candidate in _candidates(_at(values, path), place.annotation):
            yield _with(values, path, candidate)
        return
    section, at = _at(values, path[:-1]), _place(values, path[:-1])
    for kind in () if at is None else kinds_at(at.annotation):
        model = None if at is None else model_for(at.annotation, kind)
        if model is not None:
            kept = {name: value for name, value in section.items() if name in model.model_fields}
            yield _with(values, path[:-1], {**kept, KIND: kind})


def _candidates(value: Any, annotation: Any) -> Iterator[Any]:
    """Values that might stand in place of one, valid or not."""
    members = [unwrap(member)[0] for member in alternatives(annotation)]
    for member in members:
        if get_origin(member) is Literal:
            yield from get_args(member)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        whole = isinstance(value, int)
        yield from _numbers(value, whole=whole)
    elif isinstance(value, str):
        yield f"{value}_other"
    elif isinstance(value, list):
        yield from _lists(value)
    elif value is None:
        yield from (candidate for member in members for candidate in _of_type(member))
    if NoneType in members:
        yield None


def _numbers(value: float, *, whole: bool) -> Iterator[float]:
    nearby = [value + 1, value - 1] if whole else []
    for number in (value * FACTORS[0], value * FACTORS[1], *nearby, *(value * factor for factor in FACTORS[2:])):
        yield round(number) if whole else number
    for number in NUMBERS:
        if not whole:
            yield number
        elif number.is_integer():
            yield int(number)


def _lists(value: Sequence[Any]) -> Iterator[list[Any]]:
    if value and all(isinstance(item, int) for item in value):
        yield from ([item + added for item in value] for added in ADDED_VOXELS)
    elif value and all(isinstance(item, int | float) for item in value):
        # No thousandfold ranges: a patch magnified by 0.001 would be cut from a region of terabytes.
        yield from ([item * factor for item in value] for factor in FACTORS[:2])
        yield from ([*value[:-1], number] for number in NUMBERS if number <= 1)
    else:
        yield []
        yield ["*"]


def _of_type(member: Any) -> Iterator[Any]:
    """Values of a type, for a place that is empty."""
    if member in (int, float):
        yield from (member(number) for number in NUMBERS)
    elif isinstance(member, type) and issubclass(member, BaseModel):
        yield {}
    elif member is str:
        yield "other"
    elif get_origin(member) is tuple and set(get_args(member)) == {int}:
        yield from ([side] * len(get_args(member)) for side in SIDES)


def _place(values: Values, path: tuple[Step, ...]) -> Place | None:
    """What the schema says about a path."""
    place: Place | None = Place(Config)
    for length, key in enumerate(path):
        node = _at(values, path[:length])
        kind = node.get(KIND) if isinstance(node, Mapping) else None
        place = None if place is None else step(place, key, kind)
    return place


def _at(values: Any, path: tuple[Step, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


def _with(values: Any, path: tuple[Step, ...], value: Any) -> Any:
    """A copy of nested values with another value at a path."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(values, list):
        return [_with(item, rest, value) if index == key else item for index, item in enumerate(values)]
    return {**values, key: _with(values[key], rest, value)}
