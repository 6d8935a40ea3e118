"""The zip that is submitted: written whole or not at all, and read back before it takes its place."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from volumen.data.labels import MASK, undeclared
from volumen.data.volumes import VolumeError, decode_volume
from volumen.files import atomic_path
from volumen.system.names import checked_name, shown
from volumen.system.output import Progress, unheard

SHOWN = 10  # problems named in an error; one cause often makes one for each case


class ArchiveError(Exception):
    """A zip did not read back as it was written."""


def write_archive(
    archive: Path,
    masks: Mapping[str, Path],
    shapes: Mapping[str, tuple[int, ...]],
    hashes: Mapping[str, str],
    progress: Progress = unheard,
) -> None:
    """Zip masks and read the zip back; only one without a fault takes its place.

    Args:
        archive: The zip.
        masks: File by name in the zip.
        shapes: What each mask's shape has to be, z y x: the image's.
        hashes: SHA-256 of each mask's file, from when it was made.
        progress: Told the member's name, and how many of how many are written and checked.

    Raises:
        ArchiveError: A mask is not what was made, or what was read back is not what has to be in it; nothing is left.
        UserError: A name is a path.
        OSError: No room, or no permission; nothing is left.
    """
    steps = 2 * len(masks)
    with atomic_path(archive) as temporary:
        # Masks are compressed already. Equal masks make equal bytes: no times, no owners.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
            for number, (name, path) in enumerate(masks.items(), start=1):
                member = zipfile.ZipInfo(checked_name(name, "mask", archive))
                member.external_attr = 0o644 << 16
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest() != hashes[name]:
                    raise ArchiveError(f"{path} is not what was predicted any more: start again, and it is made anew")
                file.writestr(member, content)
                progress(name, number, steps)
        problems = problems_of(
            temporary, shapes, hashes, lambda name, done, of: progress(name, len(masks) + done, steps)
        )
        if problems:
            more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise ArchiveError(
                f"{archive} did not read back as it has to be, and was not kept: {'; '.join(problems[:SHOWN])}{more}"
            )


def problems_of(
    archive: Path,
    shapes: Mapping[str, tuple[int, ...]],
    hashes: Mapping[str, str],
    progress: Progress = unheard,
) -> tuple[str, ...]:
    """What is wrong with a zip of masks: names, contents, types, values, shapes; arguments as in `write_archive`."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            problems = [f"{name} is missing" for name in shapes if name not in names]
            problems += [
                f"{shown(name)} is not one of the images" for name in dict.fromkeys(names) if name not in shapes
            ]
            problems += [f"{name} is in it {names.count(name)} times" for name in shapes if names.count(name) > 1]
            for number, name in enumerate((name for name in shapes if name in names), start=1):
                content = file.read(name)
                if hashlib.sha256(content).hexdigest() != hashes[name]:
                    problems.append(f"{name} is not what was put in")
                problems += _of_member(name, content, shapes[name])
                progress(name, number, len(shapes))
    except OSError:
        raise
    except Exception as error:  # zipfile raises what it likes on damaged bytes
        return (f"it is no zip, or a damaged one ({type(error).__name__}: {error!s:.100})",)
    return tuple(problems)


def _of_member(name: str, content: bytes, shape: tuple[int, ...]) -> list[str]:
    try:
        mask, _ = decode_volume(content, name)
    except VolumeError as error:
        return [str(error)]
    problems = []
    if mask.dtype != np.uint8:
        problems.append(f"{name} holds {mask.dtype}, expected uint8")
    if strange := undeclared(mask, MASK):
        problems.append(f"{name} holds {strange}, expected 0 and 1 only")
    if mask.shape != shape:
        problems.append(f"{name} has shape {list(mask.shape)}, its image {list(shape)}")
    return problems
