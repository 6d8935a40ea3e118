"""Which values of a configuration are read.

A setting that nobody reads trains for a week unheard. `recorded` copies a configuration into twins that note each value
that is taken from them; everything else about them is as before, the classes too, so the run's own code works on them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel, PrivateAttr

from volumen.config.places import KIND

SectionT = TypeVar("SectionT", bound=BaseModel)
_NOTEBOOK, _PLACE = "_notebook", "_place"


@dataclass
class Reads:
    """What was read of a configuration so far."""

    keys: set[str] = field(default_factory=set)
    """Dotted keys of values; a mapping or a list of plain values counts as one."""
    sections: set[str] = field(default_factory=set)
    """Dotted keys at which a section was looked at: which class stands there is known to the reader since."""

    def has(self, key: str) -> bool:
        """Whether the value at a dotted key was read, alone or within a mapping; a `kind` is read with its section."""
        parts = key.split(".")
        if parts[-1] == KIND and ".".join(parts[:-1]) in self.sections:
            return True
        return any(".".join(parts[:length]) in self.keys for length in range(1, len(parts) + 1))


def recorded(config: SectionT) -> tuple[SectionT, Reads]:
    """A copy of a configuration that notes what is read of it, and the notes.

    Dumping a section passes its values on and so counts as reading them; dumping the whole configuration is a record
    of it, and does not.

    Args:
        config: Any section; sections in it, and tuples of sections, are copied in the same way.

    Returns:
        An equal configuration, every section of which is an instance of the original's class.
    """
    reads = Reads()
    return _twin(config, "", reads), reads


def _twin(section: SectionT, place: str, reads: Reads) -> SectionT:
    values = {name: _inside(getattr(section, name), _join(place, name), reads) for name in type(section).model_fields}
    twin = _recording(type(section)).model_construct(_fields_set=set(section.model_fields_set), **values)
    setattr(twin, _NOTEBOOK, reads)
    setattr(twin, _PLACE, place)
    return cast(SectionT, twin)


def _inside(value: Any, place: str, reads: Reads) -> Any:
    if isinstance(value, BaseModel):
        return _twin(value, place, reads)
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return tuple(_inside(item, _join(place, str(index)), reads) for index, item in enumerate(value))
    return value


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


@cache
def _recording(section: type[BaseModel]) -> type[BaseModel]:
    """The class of a section's twins."""
    names = frozenset(section.model_fields)

    def __getattribute__(self: Any, name: str) -> Any:
        value = section.__getattribute__(self, name)
        if name in names:
            _note(self, name, value)
        return value

    def __iter__(self: Any) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in section.model_fields)

    def model_dump(self: Any, **options: Any) -> dict[str, Any]:
        dumped = section.model_dump(self, **options)
        _note_dump(self, dumped)
        return dumped

    def model_dump_json(self: Any, **options: Any) -> str:
        _note_dump(self, section.model_dump(self, **_choices(options)))
        return section.model_dump_json(self, **options)

    contents = {
        "__module__": __name__,
        "__doc__": section.__doc__,
        "__annotations__": {_NOTEBOOK: Any, _PLACE: str},
        _NOTEBOOK: PrivateAttr(default=None),
        _PLACE: PrivateAttr(default=""),
    }
    methods = (__getattribute__, __iter__, model_dump, model_dump_json)
    metaclass: Any = type(section)
    made = metaclass(section.__name__, (section,), contents | {method.__name__: method for method in methods})
    return cast(type[BaseModel], made)


def _choices(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of a dump those that say which fields are in it."""
    chosen = ("include", "exclude", "exclude_unset", "exclude_defaults", "exclude_none")
    return {name: value for name, value in options.items() if name in chosen}


def _notes(section: Any) -> tuple[Reads | None, str]:
    private = object.__getattribute__(section, "__pydantic_private__") or {}
    return private.get(_NOTEBOOK), private.get(_PLACE, "")


def _note(section: Any, name: str, value: Any) -> None:
    reads, place = _notes(section)
    if reads is None or name == KIND:  # which kind stands here is noted with the section itself
        return
    key = _join(place, name)
    if isinstance(value, BaseModel):
        reads.sections.add(key)
    elif isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        reads.sections.update((key, *(f"{key}.{index}" for index in range(len(value)))))
    else:
        reads.keys.add(key)


def _note_dump(section: Any, dumped: Mapping[str, Any]) -> None:
    _, place = _notes(section)
    if not place:  # the whole configuration, for a record
        return
    for name, passed_on in dumped.items():
        value = getattr(section, name)
        pairs = zip(value, passed_on, strict=True) if isinstance(value, tuple) else ((value, passed_on),)
        for item, inside in pairs:
            if isinstance(item, BaseModel):
                _note_dump(item, inside)
