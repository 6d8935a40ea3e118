"""Writing an experiment's file: whole and in one step; what people wrote into it, comments too, stays."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from volumen.config.dump import config_values, dump_yaml
from volumen.config.load import model_of
from volumen.errors import UserError
from volumen.files import write_atomically
from volumen.ledger.entry import Entry, read_entry
from volumen.system.locks import hold
from volumen.system.places import writable_folder

HEADER = "# An experiment, see docs/experiments.md; `volumen experiment show {name}` says how it stands.\n"
WORK = "ledger"
_ALWAYS = ("name", "hypothesis", "status")


def write_new(folder: Path, entry: Entry) -> Path:
    """Write the file of a new experiment.

    Raises:
        UserError: There is one of that name, or no place to write to.
    """
    writable_folder(folder)
    path = folder / f"{entry.name}.yaml"
    with hold(folder, WORK):
        if path.exists():
            raise UserError(f"{path} exists already: choose another name, or edit that file")
        write_atomically(path, HEADER.format(name=entry.name) + dump_yaml(_told(entry)))
    return path


def edit(path: Path, change: Callable[[CommentedMap], None]) -> Entry:
    """Change some keys of an experiment's file and leave the rest as it stands.

    Raises:
        UserError: No such file, a mistake in it, or a change that makes one; the file is then as before.
    """
    read_entry(path)  # its mistakes have lines
    with hold(path.parent, WORK):
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.width = 2**20
        yaml.indent(mapping=2, sequence=4, offset=2)
        document = yaml.load(path.read_text(encoding="utf-8-sig"))
        change(document)
        stream = io.StringIO()
        yaml.dump(document, stream)
        changed = YAML(typ="safe", pure=True).load(stream.getvalue())
        entry = model_of(Entry, changed, (), str(path)).config
        write_atomically(path, stream.getvalue())
    return entry


def put(document: CommentedMap, key: str, value: Any) -> None:
    """Set a key, at the place that the order of keys gives it."""
    if key in document:
        document[key] = value
        return
    order = list(Entry.model_fields)
    place = sum(order.index(known) < order.index(key) for known in document if known in order)
    document.insert(place, key, value)


def append(document: CommentedMap, key: str, value: Any) -> None:
    """Add an item to a list, which is made where there is none."""
    if not document.get(key):
        put(document, key, CommentedSeq([]))
    document[key].append(value)


def _told(entry: Entry) -> dict[str, Any]:
    """The values that say something, in the order of the keys."""
    values = config_values(entry)
    for outcome in values["outcomes"]:
        for key in [key for key, value in outcome.items() if value is None]:
            del outcome[key]
    told = {key: value for key, value in values.items() if key in _ALWAYS or value not in (None, [], "")}
    return {key: CommentedSeq(value) if isinstance(value, list) else value for key, value in told.items()}
