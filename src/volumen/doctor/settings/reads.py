"""Which values of a configuration are read.

A setting that nobody reads trains for a week unheard. `recorded` copies a configuration into twins that note each value
that is taken from them; everything else about them is as before, the classes too, so the run's own code works on them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast

import torch
from pydantic import BaseModel, PrivateAttr

from volumen.config.schema import Config
from volumen.doctor.context import Context, Parts
from volumen.runtime import Precision

KIND = "kind"
SectionT = TypeVar("SectionT", bound=BaseModel)


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

    Another value that was put in place of one (`model_copy`) is not the configuration's, and reading it is not noted.
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
    twin._note = _noting(values, place, reads)  # type: ignore[attr-defined]
    return cast(SectionT, twin)


def _inside(value: Any, place: str, reads: Reads) -> Any:
    if isinstance(value, BaseModel):
        return _twin(value, place, reads)
    if _are_sections(value):
        return tuple(_inside(item, _join(place, str(index)), reads) for index, item in enumerate(value))
    return value


def _are_sections(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _noting(values: Mapping[str, Any], place: str, reads: Reads) -> Callable[[str, Any], None]:
    """What a twin calls with a name and the value that is read there."""

    def note(name: str, value: Any) -> None:
        if name == KIND or value is not values[name]:  # which kind stands here is noted with the section itself
            return
        key = _join(place, name)
        if isinstance(value, BaseModel):
            reads.sections.add(key)
        elif _are_sections(value):
            reads.sections.update((key, *(f"{key}.{index}" for index in range(len(value)))))
        else:
            reads.keys.add(key)

    return note


@cache
def _recording(section: type[BaseModel]) -> type[BaseModel]:
    """The class of a section's twins."""
    names = frozenset(section.model_fields)

    def __getattribute__(self: Any, name: str) -> Any:
        value = section.__getattribute__(self, name)
        if name in names:
            _note_of(self)(name, value)
        return value

    def model_dump(self: Any, **options: Any) -> dict[str, Any]:
        dumped = section.model_dump(self, **options)
        _note_dump(self, dumped)
        return dumped

    contents = {
        "__module__": __name__,
        "__doc__": section.__doc__,
        "__annotations__": {"_note": Any},
        "_note": PrivateAttr(default=None),
        "__getattribute__": __getattribute__,
        "model_dump": model_dump,
    }
    metaclass: Any = type(section)
    return cast(type[BaseModel], metaclass(section.__name__, (section,), contents))


def _note_of(section: Any) -> Callable[[str, Any], None]:
    private = object.__getattribute__(section, "__pydantic_private__") or {}
    return private.get("_note") or (lambda name, value: None)


def _note_dump(section: Any, dumped: Mapping[str, Any]) -> None:
    if isinstance(section, Config):  # the whole configuration, for a record
        return
    for name, passed_on in dumped.items():
        value = getattr(section, name)
        pairs = zip(value, passed_on, strict=True) if isinstance(value, tuple) else ((value, passed_on),)
        for item, inside in pairs:
            if isinstance(item, BaseModel):
                _note_dump(item, inside)


def unread(context: Context) -> frozenset[str]:
    """Keys that the package's own makers of objective and state read, and the run's do not."""
    own = Parts()
    if (context.parts.objective, context.parts.state) == (own.objective, own.state):
        return frozenset()
    theirs, ours = _reads_of(context.parts, context), _reads_of(own, context)
    keys = ours.keys | {f"{section}.{KIND}" for section in ours.sections}
    return frozenset(key for key in keys if not theirs.has(key))


def _reads_of(parts: Parts, context: Context) -> Reads:
    """What is read of the configuration where a run's objectives and its state are made and used for a step.

    The state has no memory for its weights: only what it does with the settings is wanted.
    """
    config, reads = recorded(context.config)
    for _, epoch in context.phases:
        parts.objective(config.loss, epoch)
    nowhere = torch.device("meta")
    with torch.random.fork_rng(), nowhere:
        state = parts.state(config, nowhere, Precision("fp32", "cpu"), steps_per_epoch=1, prior=context.prior)
        state.rate.apply(0.3 * context.config.training.epochs, context.config.training.epochs)
        if state.average is not None:
            state.average.update(state.model)
        if state.swa is not None:
            state.swa.after_epoch(state.model, state.swa.settings.start_epoch)
    return reads
