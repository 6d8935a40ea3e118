"""The stamp that a run folder's `config.yaml` carries: which run it is, and what its configuration was."""

import json
from dataclasses import dataclass
from pathlib import Path

from volumen.config.inheritance import PROVENANCE
from volumen.config.problems import ConfigError, Problem
from volumen.config.source import parse
from volumen.system.records import open_record, read_bounded, typed

_FIX = "restore the file, or start a new run"


@dataclass(frozen=True)
class Stamp:
    """What `provenance` holds."""

    run: str
    """The run's own name for itself; its records belong to this name."""
    hash: str
    """`config_hash` of the configuration that the run began with."""
    versions: dict[str, str | None]
    """Of volumen, Python and the libraries."""


def read_stamp(path: Path) -> Stamp:
    """The stamp of a `config.yaml`.

    Raises:
        DamagedError: There is none, or it is not what was written.
        ConfigError: The file is no YAML.
    """
    problems: list[Problem] = []
    try:
        text = read_bounded(path, _FIX, 2**20).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [Problem(str(path), "", "not UTF-8 text; restore the file")]) from error
    tree = parse(text, lambda line: f"{path}:{line}", problems)
    if tree is None:
        raise ConfigError(str(path), problems)
    plain = tree.plain()
    given = plain.get(PROVENANCE) if isinstance(plain, dict) else None
    name = f"`{PROVENANCE}` of {path}"
    content = open_record(json.dumps(given if isinstance(given, dict) else {}), name, _FIX)
    stamp: Stamp = typed(content, Stamp, name, _FIX)
    return stamp
