"""What a run folder's `config.yaml` carries beside the settings: which run it is, and what its configuration was."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from volumen._version import __version__
from volumen.config.dump import config_hash, config_values, dump_yaml
from volumen.config.inheritance import PROVENANCE
from volumen.config.problems import ConfigError, Problem
from volumen.config.source import read_tree
from volumen.system.records import open_record, sealed, typed

_FIX = "restore the file, or start a new run"
_PACKAGES = ("torch", "numpy")


@dataclass(frozen=True)
class Stamp:
    """What `provenance` holds."""

    run: str
    """The run's own name for itself; its records belong to this name."""
    hash: str
    """`config_hash` of the configuration that the run began with."""
    versions: dict[str, str | None]
    """Of volumen, Python and the libraries."""


def dump_resolved(config: BaseModel, run: str = "") -> str:
    """The text of a run folder's `config.yaml`: every value, and under `provenance` the stamp with its check.

    Loading it again gives an equal configuration; `provenance` is no part of it.

    Args:
        config: any of the schema's models.
        run: the run's own name for itself, which its records carry in their checks.
    """
    versions: dict[str, str | None] = {"volumen": __version__, "python": platform.python_version()}
    versions.update((package, _installed(package)) for package in _PACKAGES)
    stamp = Stamp(run, config_hash(config), versions)
    return dump_yaml({PROVENANCE: sealed(asdict(stamp)), **config_values(config)})


def read_stamp(path: Path) -> Stamp:
    """The stamp of a `config.yaml`.

    Raises:
        DamagedError: There is none, or it is not what was written.
        ConfigError: The file cannot be read, or is no YAML.
    """
    problems: list[Problem] = []
    tree = read_tree(path, str(path), problems)
    if tree is None:
        raise ConfigError(str(path), problems)
    given = tree.child(PROVENANCE)
    name = f"`{PROVENANCE}` of {path}"
    record = given.plain() if given is not None and isinstance(given.value, dict) else {}
    stamp: Stamp = typed(open_record(json.dumps(record), name, _FIX), Stamp, name, _FIX)
    return stamp


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
