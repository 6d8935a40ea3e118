"""Which files of a folder are volumes: one rule for training data, images to predict, masks and labels to score.

Hidden files and folders (`._x.tif` that a Mac leaves, `.DS_Store`) are not looked at; what is of another kind is
counted and left out; a name that is no case id, and two files of one case, are problems.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumen.errors import UserError
from volumen.system.names import problem_of, shown

SUFFIXES = (".tif", ".tiff")
COMPANIONS = frozenset(("thumbs.db", "desktop.ini"))
_SIDECAR = ".json"  # nnU-Net's, beside a TIFF
_SECOND_SUFFIXES = (".ome",)  # ID.ome.tif and ID.ome.zarr are of the case ID
_MOST = 20  # problems told at once


@dataclass(frozen=True)
class Listing:
    """The volumes of a folder."""

    folder: Path
    files: dict[str, Path]
    """By case id, in the order of their names."""
    problems: tuple[str, ...]
    others: tuple[str, ...]
    """Names of what is no volume, and belongs to none."""

    def checked(self) -> dict[str, Path]:
        """The files.

        Raises:
            UserError: There are problems; tells them all.
        """
        if self.problems:
            more = " ..." if len(self.problems) > _MOST else ""
            raise UserError(f"{self.folder}: " + "; ".join(self.problems[:_MOST]) + more)
        return self.files


def list_volumes(folder: Path, suffixes: Sequence[str] = SUFFIXES, mark: str = "") -> Listing:
    """The volumes that lie directly in a folder.

    Args:
        folder: The folder; UserError where it cannot be read.
        suffixes: What their names end with, in lower case.
        mark: What stands between id and suffix, such as nnU-Net's `_0000`; a volume without it is a problem.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check the path and its permissions") from error
    files: dict[str, Path] = {}
    problems: list[str] = []
    volumes = [path for path in paths if path.suffix.lower() in suffixes]
    for path in volumes:
        case_id = case_of(path)
        if not case_id.endswith(mark):
            problems.append(f"{shown(path.name)} does not end in {mark}{path.suffix}: rename or remove it")
            continue
        case_id = case_id.removesuffix(mark)
        if problem := problem_of(case_id):
            problems.append(f"the file {shown(path.name)} {problem}, and is to be called by a case id: rename it")
        elif case_id in files:
            problems.append(f"{path} and {files[case_id].name} are both of case {case_id}: remove or rename one")
        else:
            files[case_id] = path
    beside = {f"{case_id}{_SIDECAR}" for case_id in files}
    rest = [path.name for path in paths if path not in set(volumes) and path.name.lower() not in COMPANIONS]
    return Listing(folder, files, tuple(problems), tuple(name for name in rest if name not in beside))


def case_of(path: Path) -> str:
    """The case id in the name of a file."""
    stem = Path(path.stem)
    return id_text(stem.stem if stem.suffix.lower() in _SECOND_SUFFIXES else stem.name)


def id_text(text: str) -> str:
    """An id in the one form in which ids are compared: a Mac writes an umlaut in a file's name as two characters."""
    return unicodedata.normalize("NFC", text)
