"""The images of a submission: found, and read whole before anything is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumen.data.listing import case_of
from volumen.data.tables import ID, join_problems, read_rows
from volumen.data.volumes import load_volume
from volumen.errors import UserError
from volumen.inference.files import find_images
from volumen.system.output import Progress, counted, unheard

FOLDER, TABLE = "test_images", "test.csv"
PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Image:
    """A test image that was read whole."""

    path: Path
    shape: tuple[int, ...]
    sha256: str

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)


def find_test_images(folder: Path) -> tuple[Path, ...]:
    """The TIFF files of a folder, or of the `test_images` in it, whose table (`test.csv`) has to list the same.

    Raises:
        UserError: No such folder, none in it, or others than the table lists.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of the test images, or the one that holds {FOLDER}")
    if not (folder / FOLDER).is_dir():
        return find_images(folder)
    images, table = find_images(folder / FOLDER), folder / TABLE
    if table.is_file():
        problems: list[str] = []
        rows = read_rows(table, problems)
        if rows is not None:
            problems += join_problems(table, [row[ID] for row in rows], [case_of(path) for path in images], FOLDER)
        if problems:
            raise UserError(f"{folder}: {'; '.join(problems[:PROBLEMS_SHOWN])}")
    return images


def read_images(paths: Sequence[Path], progress: Progress = unheard) -> tuple[Image, ...]:
    """Read all images, so that a damaged one is found before anything is computed.

    Raises:
        UserError: Naming every file that cannot be used.
    """
    images, problems = [], []
    for number, path in enumerate(paths, start=1):
        progress(f"reading {path.name}", number, len(paths))
        try:
            volume = load_volume(path)
        except UserError as error:
            problems.append(str(error))
            continue
        images.append(Image(path, volume.array.shape, volume.sha256))
    if problems:
        listed = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, start=1))
        raise UserError(f"{len(problems)} of {counted(len(paths), 'test image')} cannot be used:\n{listed}")
    return tuple(images)
