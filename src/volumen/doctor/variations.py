"""Other valid values for one key of a configuration, the nearer ones first.

The schema itself says what is valid: candidates are made from the present value and its type, and each is put through
the same check as a file's value. What the check refuses is passed over.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from volumen.config.dump import Step, canonical, config_values, dotted, leaves
from volumen.config.places import KIND, Place, constants, place_of
from volumen.config.schema import Config

MOST = 12  # values tried before a setting is called dead; they span six orders of magnitude
FACTORS = (1.5, 0.5, 10.0, 0.1, 1e3, 1e-3)
NUMBERS = (0.0, 0.5, 1.0, 0.01, 10.0, 1000.0)
ADDED_VOXELS = (16, -16, 32, -32, 64, 8, -8)  # one of them leads to a multiple of the model's divisor

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
        return place.default.get(KIND, ABSENT) if place is not None and place.default else ABSENT
    place = _place(values, path)
    if place is None or not place.has_default or (place.sections and place.default is not None):
        return ABSENT
    return place.default


def _changed(values: Values, path: tuple[Step, ...], place: Place) -> Iterator[Values]:
    """The whole configuration's values, with something else at one path."""
    if path[-1] != KIND:
        for candidate in _candidates(_at(values, path), place):
            yield _with(values, path, candidate)
        return
    section, at = _at(values, path[:-1]), _place(values, path[:-1])
    for kind, other in at.kinds.items() if at is not None else ():
        kept = {name: value for name, value in section.items() if name in other.fields}
        yield _with(values, path[:-1], {**kept, KIND: kind})


def _candidates(value: Any, place: Place) -> Iterator[Any]:
    """Values that might stand in place of one, valid or not."""
    members = [member.node for member in place.alternatives]
    for member in members:
        yield from constants(member)
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
    if {"type": "null"} in members:
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


def _of_type(member: Mapping[str, Any]) -> Iterator[Any]:
    """Values of a type, for a place that is empty."""
    if member.get("type") in ("integer", "number"):
        yield from (int(number) if member["type"] == "integer" else number for number in NUMBERS)
    elif "properties" in member:
        yield {}
    elif member.get("type") == "string" and not constants(member):
        yield "other"


def _place(values: Values, path: tuple[Step, ...]) -> Place | None:
    """What the schema says about a path."""
    place: Place | None = place_of(Config)
    for length, key in enumerate(path):
        node = _at(values, path[:length])
        kind = node.get(KIND) if isinstance(node, Mapping) else None
        place = None if place is None else place.step(key, kind)
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
