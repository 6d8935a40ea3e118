"""A folder from which volumen installs without internet, fetched and checked by pip."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from volumen._version import __version__
from volumen.errors import UserError
from volumen.files import sha256_of, write_atomically
from volumen.system.locks import hold

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")  # of a wheel of volumen
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def fill_folder(
    folder: Path, python_version: str | None, platforms: Sequence[str], without: Sequence[str], extras: Sequence[str]
) -> tuple[int, str]:
    """Fetch the wheels that are missing and check all of them: how many there are, and the command that installs them.

    Args:
        folder: Where to; made, and held while it is filled. `requirements.txt` in it says that it is whole.
        python_version: Of the other machine; this one's for None.
        platforms: Tags of Linux that the other machine accepts; this one's for none.
        without: Packages that the other machine has.
        extras: Optional parts of volumen.

    Raises:
        UserError: A package is unknown, or pip cannot fetch or check a wheel.
    """
    pins = needed(environment_of(python_version, platforms), without, extras)
    options = [] if python_version is None else ["--python-version", python_version]
    options += [part for tag in platforms for fitting in fitting_tags(tag) for part in ("--platform", fitting)]
    options += ["--no-deps", "--only-binary", ":all:"]
    listed = folder / "requirements.txt"
    with hold(folder, "wheels"), tempfile.TemporaryDirectory() as place:
        listed.unlink(missing_ok=True)  # a folder with one is whole
        run_pip("download", *options, "--dest", str(folder), *(f"{name}=={one}" for name, one in pins.items()))
        run_pip("wheel", "--no-deps", "--wheel-dir", str(folder), own_source(Path(place)))
        lines = [hashed(folder, name, one) for name, one in {**pins, "volumen": __version__}.items()]
        write_atomically(Path(place) / "requirements.txt", "\n".join(lines) + "\n")
        install = ["install", "--no-index", "--find-links", str(folder), "-r"]
        check = ["--require-hashes", "--dry-run", "--ignore-installed", "--target", place, *options]
        run_pip(*install, str(Path(place) / "requirements.txt"), *check)
        write_atomically(listed, "\n".join(lines) + "\n")
    return len(lines), shlex.join(["pip", *install, str(listed)])


def environment_of(python_version: str | None, platforms: Sequence[str]) -> dict[str, str]:
    """The variables of requirement markers, as on the machine that will install."""
    environment = {name: str(value) for name, value in default_environment().items()}
    if python_version is not None:
        found = re.fullmatch(r"(3\.\d+)(\.\d+)?", python_version)
        if found is None:
            raise UserError(f"--python-version must be like 3.12 or 3.12.4, got {python_version!r}")
        environment |= {"python_version": found[1], "python_full_version": found[1] + (found[2] or ".0")}
    for tag in platforms:
        environment |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
        environment["platform_machine"] = libraries_of(tag)[1]
    return environment


def libraries_of(tag: str) -> tuple[int, str]:
    """Of a Linux: the minor version of its C library, and the machine."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag.replace("manylinux2014_", "manylinux_2_17_"))
    if found is None:
        raise UserError(f"--platform must be a tag such as manylinux_2_28_x86_64, got {tag!r}")
    return int(found[1]), found[2]


def fitting_tags(tag: str) -> list[str]:
    """The platform tags of wheels that run on a Linux, best first: those for older C libraries too (PEP 600)."""
    newest, machine = libraries_of(tag)
    names = [(f"manylinux_2_{minor}", LEGACY.get(minor)) for minor in range(newest, 4, -1)]
    return [f"{name}_{machine}" for pair in names for name in pair if name]


def needed(environment: Mapping[str, str], without: Sequence[str], extras: Sequence[str]) -> dict[str, str]:
    """The installed version of all that volumen needs there, through all levels, by normalised name."""
    left_out = {str(canonicalize_name(name)) for name in without}
    pins: dict[str, str] = {}
    used: set[str] = set()
    done: set[tuple[str, str]] = set()
    todo = [("volumen", extra) for extra in ("", *extras)]
    while todo:
        package, extra = step = todo.pop()
        done.add(step)
        for requirement in map(Requirement, metadata.distribution(package).requires or ()):
            name = str(canonicalize_name(requirement.name))
            if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": extra}):
                continue
            if name in left_out:
                used.add(name)
                continue
            try:
                pins[name] = metadata.version(name)
            except metadata.PackageNotFoundError as error:
                problem = f"{name}, which {package} needs there, is not installed here: install it, or --without {name}"
                raise UserError(problem) from error
            todo += [(name, one) for one in ("", *requirement.extras) if (name, one) not in done]
    if strange := sorted(left_out - used):
        raise UserError(f"--without {', '.join(strange)}: nothing needs it; check the name")
    return dict(sorted(pins.items()))


def own_source(place: Path) -> str:
    """What pip makes the running volumen's wheel of: a copy of its checkout, or where it was installed from."""
    here = Path(__file__).resolve().parents[3]
    if not (here / "pyproject.toml").is_file():
        origin = json.loads(metadata.distribution("volumen").read_text("direct_url.json") or "{}")
        if git := origin.get("vcs_info"):
            return f"{git['vcs']}+{origin['url']}@{git['commit_id']}"
        return str(origin.get("url", f"volumen=={__version__}"))
    for name in SOURCES:  # a build leaves files behind, and takes up those of earlier ones
        if (here / name).is_dir():
            shutil.copytree(here / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(here / name, place)
    return str(place)


def run_pip(*arguments: str) -> None:
    """Run this Python's pip.

    Raises:
        UserError: It failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        told = "\n".join(f"  pip: {line}" for line in result.stderr.splitlines()[-5:] if line.strip())
        raise UserError(
            f"pip could not {arguments[0]} the wheels; what the other machine has already is left out with --without, "
            f"what was fetched is kept:\n{told}"
        )


def hashed(folder: Path, name: str, version: str) -> str:
    """The line of a requirements file for a package: its version, and the hash of each wheel of it in the folder."""
    found = sorted(folder.glob(f"*-{version}-*.whl"))
    hashes = [sha256_of(path) for path in found if parse_wheel_filename(path.name)[0] == name]
    return " ".join([f"{name}=={version}", *(f"--hash=sha256:{one}" for one in hashes)])
