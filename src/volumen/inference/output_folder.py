"""The folder that masks are written to: whether they can be, and what would be lost, is known before the work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volumen.data.packed import Region
from volumen.errors import UserError
from volumen.inference.prediction_record import RECORD
from volumen.system.names import checked_name
from volumen.system.places import refusal, writable_folder

PROBABILITIES = "probabilities"
VIEW = "view"
SHOWN = 5
_FIX = "choose another output folder"


@dataclass(frozen=True)
class Wanted:
    """What to write, and what to do about what is there already."""

    probabilities: bool = False
    """Also `probabilities/NAME`: uint8, 255 times the probability, rounded."""
    view: bool = False
    """Also `view/NAME`: the mask as 0 and 255, for looking at."""
    region: Region | None = None
    """A box of every image instead of the whole."""
    overwrite: bool = False
    resume: bool = False
    """Skip images whose files are whole, and are of these images."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of what is written besides the masks."""
        return tuple(name for name, on in ((PROBABILITIES, self.probabilities), (VIEW, self.view)) if on)


def targets(image: Path, out: Path, wanted: Wanted) -> dict[str, Path]:
    """Files that an image's prediction is written to, by their path in the folder."""
    return {name: out / name for name in (image.name, *(f"{folder}/{image.name}" for folder in wanted.folders))}


def check_output(images: Sequence[Path], out: Path, wanted: Wanted) -> None:
    """Refuse whatever would destroy something, or could not be written; the folders are made.

    Raises:
        UserError: Options that exclude each other, an image whose name is none, a mask that would replace an image or
            is a link or a folder, outputs that exist, or a folder that cannot be written to.
    """
    if wanted.overwrite and wanted.resume:
        raise UserError("--overwrite and --resume exclude each other: choose to replace what is there or to keep it")
    if os.path.exists(out) and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the masks")
    for path in images:
        checked_name(path.name, "image", path.parent)
    sources = {path.resolve() for path in images}
    for target in (place for path in images for place in targets(path, out, wanted).values()):
        if target.resolve() in sources:
            raise UserError(f"the mask {target} would replace an input image: {_FIX}")
    for folder in (out, *(out / name for name in wanted.folders)):
        if folder != out and folder.is_symlink():
            raise UserError(f"{folder} is a link to another place, and masks are written here only: remove it")
        writable_folder(folder, _FIX)
    for place in (out / RECORD, *(place for path in images for place in targets(path, out, wanted).values())):
        _check_file(place)
    refuse_existing(images, out, wanted)


def _check_file(place: Path) -> None:
    """A place that a file can be written to, and that is in the folder where it stands."""
    try:
        place.lstat()
    except FileNotFoundError:
        return
    except OSError as error:  # such as a path that is too long
        raise refusal(place, error, _FIX) from error
    if place.is_symlink():
        raise UserError(f"{place} is a link to another place, and masks are written here only: remove it")
    if not place.is_file():
        raise UserError(f"{place} is no file, and one is to be written there: {_FIX}")


def refuse_existing(images: Sequence[Path], out: Path, wanted: Wanted) -> None:
    """Refuse outputs that exist, where nobody said what to do about them.

    Raises:
        UserError: Names the first ones and both ways out.
    """
    if wanted.overwrite or wanted.resume:
        return
    places = [place for path in images for place in targets(path, out, wanted).values()]
    existing = [place for place in places if place.exists()]
    if existing:
        shown = ", ".join(str(path) for path in existing[:SHOWN]) + (" ..." if len(existing) > SHOWN else "")
        raise UserError(
            f"{len(existing)} of {len(places)} outputs exist already ({shown}): choose another folder, "
            "--resume to predict only what is missing, or --overwrite to replace them"
        )
