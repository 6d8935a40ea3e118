"""Which packages volumen needs, through all levels, on this machine or on another one.

The requirements are those of the installed packages' own metadata; a marker such as `python_version < "3.12"` is judged
for the machine that will install. Versions are the installed ones: what was tested here is what runs there.
"""

import platform as this_platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from volumen.errors import UserError
from volumen.system.names import one_line, shown

ROOT = "volumen"
SYSTEMS = {  # beginning of a platform tag: sys_platform, platform_system, os_name
    "manylinux": ("linux", "Linux", "posix"),
    "musllinux": ("linux", "Linux", "posix"),
    "linux": ("linux", "Linux", "posix"),
    "macosx": ("darwin", "Darwin", "posix"),
    "win": ("win32", "Windows", "nt"),
}
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
MACHINES = {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}


@dataclass(frozen=True)
class Pin:
    """A package at the version that is installed here."""

    name: str
    """Normalised: lower case, words joined by hyphens."""
    version: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Target:
    """The machine that will install.

    Raises:
        UserError: A version that is not like 3.12, or platforms of several systems or machines.
    """

    python_version: str | None = None
    """Such as 3.12; None is this machine's."""
    platforms: tuple[str, ...] = ()
    """Tags as wheels carry them, such as manylinux_2_28_x86_64; none is this machine's."""

    def __post_init__(self) -> None:
        if self.python_version is not None and not re.fullmatch(r"3\.\d+(\.\d+)?", self.python_version):
            raise UserError(f"--python-version must be like 3.12 or 3.12.4, got {self.python_version!r}")
        kinds = {(_system(tag), _machine(tag)) for tag in self.platforms}
        if len(kinds) > 1:
            raise UserError(f"--platform names several machines ({', '.join(self.platforms)}): a folder is for one")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of requirement markers, as on that machine."""
        environment = {name: str(value) for name, value in default_environment().items()}
        if self.python_version is not None:
            short = ".".join(self.python_version.split(".")[:2])
            full = self.python_version if self.python_version.count(".") == 2 else f"{short}.0"
            environment |= {"python_version": short, "python_full_version": full, "implementation_version": full}
        for tag in self.platforms[:1]:
            sys_platform, system, os_name = _system(tag)
            environment |= {"sys_platform": sys_platform, "platform_system": system, "os_name": os_name}
            environment |= {"platform_machine": _machine(tag)}
        return environment

    @property
    def pip_options(self) -> list[str]:
        """The same for `pip download`."""
        version = [] if self.python_version is None else ["--python-version", self.python_version]
        tags = dict.fromkeys(fitting for tag in self.platforms for fitting in _fitting(tag))
        return [*version, *(part for tag in tags for part in ("--platform", tag))]

    def __str__(self) -> str:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        system = ", ".join(self.platforms) or f"{this_platform.system()} {this_platform.machine()}"
        return f"Python {self.python_version or here}, {system}"


def _fitting(tag: str) -> list[str]:
    """The platform tags of wheels that run on a platform, best first: those for older C libraries too (PEP 600)."""
    modern = "manylinux_2_17_" + tag.removeprefix("manylinux2014_") if tag.startswith("manylinux2014_") else tag
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", modern)
    if found is None:
        return [tag]
    machine = found.group(2)
    fitting = []
    for minor in range(int(found.group(1)), 4, -1):
        fitting.append(f"manylinux_2_{minor}_{machine}")
        if minor in LEGACY:
            fitting.append(f"{LEGACY[minor]}_{machine}")
    return fitting


def _system(tag: str) -> tuple[str, str, str]:
    for start, variables in SYSTEMS.items():
        if tag.startswith(start) and re.fullmatch("[a-z0-9_]{1,100}", tag):
            return variables
    raise UserError(
        f"--platform {tag!r} is no platform tag of wheels: use one such as manylinux_2_28_x86_64, macosx_11_0_arm64 or "
        "win_amd64"
    )


def _machine(tag: str) -> str:
    found = re.search(r"(x86_64|aarch64|arm64|i686|ppc64le|s390x|armv7l)$", tag)
    machine = MACHINES.get(tag) or (found.group(1) if found else None)
    if machine is None:
        raise UserError(f"--platform {tag!r} does not end in a machine, such as x86_64, aarch64 or arm64")
    return machine


class Distribution(Protocol):
    """What is asked of an installed package."""

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def requires(self) -> list[str] | None:
        """Its requirements, with markers."""
        ...


def installed() -> dict[str, Distribution]:
    """The installed packages by normalised name; of two alike, the one that Python would import."""
    found: dict[str, Distribution] = {}
    for one in metadata.distributions():
        if name := one.metadata["Name"]:  # what an interrupted installation left behind has none
            found.setdefault(canonicalize_name(name), one)
    return found


def closure(
    packages: Mapping[str, Distribution],
    environment: Mapping[str, str],
    *,
    without: Iterable[str] = (),
    extras: Iterable[str] = (),
) -> tuple[Pin, ...]:
    """All that volumen needs, without volumen itself, by name.

    Args:
        packages: What is installed, by normalised name.
        environment: Variables of markers, of the machine that will install.
        without: Packages that are there already; what only they need is left out too.
        extras: Optional parts of volumen.

    Raises:
        UserError: volumen is not installed, a package is needed and not installed here, an installed version is not
            the required one, or a name in `without` is no requirement at all.
    """
    if ROOT not in packages:
        raise UserError("volumen is not installed here, so its requirements are not known: pip install it first")
    left_out = {str(canonicalize_name(name)) for name in without}
    used: set[str] = set()
    needed: dict[str, Pin] = {}
    todo: list[tuple[str, str]] = [(ROOT, extra) for extra in ("", *extras)]
    done = set(todo)
    problems: list[str] = []
    while todo:
        name, extra = todo.pop()
        for requirement in _requirements(packages[name], extra, environment):
            wanted = str(canonicalize_name(requirement.name))
            if wanted in left_out:
                used.add(wanted)
                continue
            if wanted not in packages:
                problems.append(f"{wanted}, which {name} needs there, is not installed here: install it, or --without")
                continue
            version = packages[wanted].version
            if not _is_version(version):
                problems.append(f"{wanted} is installed with the damaged version {shown(version)}: install it again")
            elif not requirement.specifier.contains(version, prereleases=True):
                problems.append(f"{wanted} {version} is installed, {name} needs {requirement.specifier}: mend that")
            needed[wanted] = Pin(wanted, version)
            steps = [(wanted, one) for one in ("", *sorted(requirement.extras))]
            todo += [step for step in steps if step not in done]
            done.update(steps)
    problems += [f"--without {name}: nothing needs it; check the name" for name in sorted(left_out - used)]
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)))
    return tuple(needed[name] for name in sorted(needed))


def _requirements(package: Distribution, extra: str, environment: Mapping[str, str]) -> Sequence[Requirement]:
    """The requirements that hold there: with an extra the ones that it adds, else the plain ones."""
    try:
        found = [Requirement(text) for text in package.requires or []]
    except InvalidRequirement as error:
        raise UserError(f"an installed package names a requirement that is none ({one_line(str(error))})") from error
    plain = [one for one in found if _holds(one, environment, "")]
    return plain if not extra else [one for one in found if one not in plain and _holds(one, environment, extra)]


def _is_version(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(Version(text))
    except InvalidVersion:
        return False


def _holds(requirement: Requirement, environment: Mapping[str, str], extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**environment, "extra": extra})
