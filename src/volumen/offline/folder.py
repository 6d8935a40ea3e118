"""Fill a folder with wheels, one at a time, each recorded with its hash: killed and started again, it goes on.

`requirements.txt` holds every package with version and SHA-256 and is written last, so that a folder with one is whole.
`wheels.json` is the record in between. Neither says anything about this machine.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

import volumen
from volumen import __version__
from volumen.errors import UserError
from volumen.files import PARTIAL, sha256_of, write_atomically
from volumen.offline.closure import ROOT, Pin, Target, closure, installed
from volumen.system.locks import hold
from volumen.system.names import one_line, problem_of, shown
from volumen.system.places import writable_folder
from volumen.system.records import parse_json, read_record, typed, write_record

REQUIREMENTS = "requirements.txt"
RECORD = "wheels.json"
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")
"""What a wheel of volumen is built from."""


@dataclass(frozen=True)
class Filled:
    """A folder that is whole."""

    fetched: int
    kept: int
    megabytes: float
    without: tuple[str, ...]


@dataclass(frozen=True)
class Wheel:
    """A wheel in the folder."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """What `wheels.json` says: whom the folder is for, and each wheel by its pin."""

    target: str
    wheels: dict[str, Wheel]


@dataclass(frozen=True)
class Repository:
    """Where a package's source is kept."""

    vcs: str
    commit_id: str


@dataclass(frozen=True)
class Origin:
    """What is read of a `direct_url.json` (PEP 610)."""

    url: str
    vcs_info: Repository | None = None
    dir_info: dict[str, Any] | None = None


def fill_folder(
    folder: Path,
    target: Target,
    *,
    without: Sequence[str] = (),
    extras: Sequence[str] = (),
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> Filled:
    """Put volumen and all that it needs into a folder, as wheels.

    Args:
        folder: Made if need be; whole wheels that it holds are kept.
        target: The machine that will install.
        without: Packages that are there already.
        extras: Optional parts of volumen.
        progress: Told the package, and how many of how many are there.

    Raises:
        UserError: Something needed is not installed here, pip has no wheel of it, or the folder is for another machine.
    """
    pins = closure(installed(), target.environment, without=without, extras=extras)
    writable_folder(folder)
    with hold(folder, "wheels"):
        return _fill(folder, target, pins, without, progress)


def _fill(
    folder: Path, target: Target, pins: Sequence[Pin], without: Sequence[str], progress: Callable[[str, int, int], None]
) -> Filled:
    for torn in folder.glob(f"{PARTIAL}*"):  # of a call that was killed
        if torn.is_dir() and not torn.is_symlink():
            shutil.rmtree(torn)
    wheels = _read_record(folder, target)
    (folder / REQUIREMENTS).unlink(missing_ok=True)  # a folder with one is whole
    kept = {str(pin) for pin in pins if _is_whole(folder, pin, wheels.get(str(pin)))}
    for number, pin in enumerate(pins):
        progress(pin.name, number, len(pins) + 1)
        if str(pin) not in kept:
            options = ["download", "--no-deps", "--only-binary", ":all:", *target.pip_options, str(pin)]
            wheels[str(pin)] = _fetch(folder, options, pin)
            _write_record(folder, target, wheels)
    own = Pin(ROOT, __version__)
    progress(ROOT, len(pins), len(pins) + 1)
    wheels[str(own)] = _own_wheel(folder, own)
    _write_record(folder, target, wheels)
    everything = [*pins, own]
    lines = [f"{pin} --hash=sha256:{wheels[str(pin)].sha256}" for pin in everything]
    head = f"# volumen {__version__} and all that it needs, for {target}."
    omitted = [f"# Not here, and needed: {', '.join(sorted(without))}."] if without else []
    write_atomically(folder / REQUIREMENTS, "\n".join([head, *omitted, *lines]) + "\n")
    size = sum((folder / wheels[str(pin)].file).stat().st_size for pin in everything)
    return Filled(len(everything) - len(kept), len(kept), size / 1e6, tuple(sorted(without)))


def run_pip(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run this Python's pip; its output comes back."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def own_source() -> Path | str | None:
    """Where the running volumen comes from: its checkout, the URL that it was installed from, or None for an index.

    Raises:
        UserError: It was installed from a folder that is gone.
    """
    here = Path(volumen.__file__).resolve().parents[2]
    if (here / "pyproject.toml").is_file():
        return here
    text = metadata.distribution(ROOT).read_text("direct_url.json")
    if text is None:
        return None
    what, fix = f"direct_url.json of {ROOT}", f"install {ROOT} again"
    origin: Origin = typed(parse_json(text, what, fix), Origin, what, fix)
    url, vcs = origin.url, origin.vcs_info
    if not re.match("[a-z+]+://", url):
        raise UserError(f"{what} is damaged (the url {shown(url)} is none): {fix}")
    if vcs is not None:
        return f"{vcs.vcs}+{url}@{vcs.commit_id}"
    if origin.dir_info is None:
        return url
    source = Path(url2pathname(urlparse(url).path))
    if not (source / "pyproject.toml").is_file():
        raise UserError(f"volumen was installed from {source}, which is gone: install it from its checkout again")
    return source


def _own_wheel(folder: Path, pin: Pin) -> Wheel:
    source = own_source()
    if source is None:
        return _fetch(folder, ["download", "--no-deps", "--only-binary", ":all:", str(pin)], pin)
    if isinstance(source, str):
        return _fetch(folder, ["wheel", "--no-deps", source], pin)
    with tempfile.TemporaryDirectory() as place:  # a build leaves files behind, and takes up those of earlier ones
        copy = Path(place) / ROOT
        copy.mkdir()
        for name in SOURCES:
            if (source / name).is_dir():
                shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif (source / name).is_file():
                shutil.copy(source / name, copy / name)
        return _fetch(folder, ["wheel", "--no-deps", str(copy)], pin)


def _fetch(folder: Path, arguments: Sequence[str], pin: Pin) -> Wheel:
    """Have pip put one wheel into the folder, whole or not at all.

    Raises:
        UserError: pip failed, or gave something else than one wheel of that version.
    """
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as place:
        option = "--wheel-dir" if arguments[0] == "wheel" else "--dest"
        result = run_pip([*arguments, option, place])
        if result.returncode != 0:
            said = [line for line in result.stderr.splitlines() if line.strip()]
            told = "\n".join(f"  pip: {line}" for line in said[-5:])
            raise UserError(
                f"pip could not get a wheel of {pin}; if the other machine has {pin.name} already, use --without "
                f"{pin.name}; what was fetched is kept:\n{told}"
            )
        files = sorted(Path(place).iterdir())
        if len(files) != 1 or not files[0].name.endswith(".whl") or f"-{pin.version}-" not in files[0].name:
            names = ", ".join(path.name for path in files) or "nothing"
            raise UserError(f"pip gave {names} for {pin}, expected one wheel of that version: fetch it by hand")
        digest = sha256_of(files[0])
        files[0].replace(folder / files[0].name)
        return Wheel(files[0].name, digest)


def _is_whole(folder: Path, pin: Pin, wheel: Wheel | None) -> bool:
    """Whether the folder holds the wheel of a package that its record tells of, byte by byte."""
    if wheel is None or problem_of(wheel.file):
        return False
    try:
        name, version, _, _ = parse_wheel_filename(wheel.file)
    except (InvalidWheelFilename, InvalidVersion):
        return False
    path = folder / wheel.file
    if name != pin.name or version != Version(pin.version) or not path.is_file():
        return False
    return sha256_of(path) == wheel.sha256


def _read_record(folder: Path, target: Target) -> dict[str, Wheel]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    record: Record = read_record(
        path, Record, "remove it, and what is whole is fetched again; or choose another folder"
    )
    if record.target != str(target):
        made_for = one_line(record.target)
        raise UserError(f"{folder} holds wheels for {made_for}, not for {target}: choose another folder")
    return record.wheels


def _write_record(folder: Path, target: Target, wheels: Mapping[str, Wheel]) -> None:
    entries = {pin: {"file": wheel.file, "sha256": wheel.sha256} for pin, wheel in sorted(wheels.items())}
    write_record(folder / RECORD, {"target": str(target), "wheels": entries})
