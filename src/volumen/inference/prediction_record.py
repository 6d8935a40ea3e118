"""`prediction.json`: what made the masks of a folder, and the hashes of all that went in and came out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.data.emptiness import Declared
from volumen.data.normalise import Method
from volumen.data.spacing import Spacing
from volumen.errors import DamagedError, UserError
from volumen.files import strict_json
from volumen.inference.degenerate import Appearance
from volumen.inference.tiles import Triple
from volumen.system.names import checked_name
from volumen.system.records import read_record, write_record

RECORD = "prediction.json"
FIX = "choose another folder, or --overwrite to predict all of it again"


class OtherSettingsError(UserError):
    """The output folder holds masks that were made with other settings."""


@dataclass(frozen=True)
class Origin:
    """What made the weights: a run or a bundle; the same bundle under another file name is the same."""

    run: str | None = None
    which: str | None = None
    bundle: str | None = None
    members: tuple[str, ...] | None = None
    precision: str | None = None
    engine: str | None = None


@dataclass(frozen=True)
class Settings(Origin):
    """Everything that decides what a mask looks like."""

    weights_sha256: str = ""
    normalisation: Method = "zscore"
    empty: Declared = None
    """Grey values that were declared to be empty; None where they are found, which each image's appearance tells."""
    tile: Triple = (0, 0, 0)
    overlap: float = 0.0
    mirror: bool = False
    rotate: bool = False
    region: tuple[tuple[int | None, int | None], ...] | None = None
    postprocessing: Mapping[str, Any] | None = None
    probabilities: str | None = None


@dataclass(frozen=True)
class FilePrediction:
    """One predicted file."""

    name: str
    shape: tuple[int, ...]
    padded_to: tuple[int, ...] | None
    """The tile's shape where the volume was smaller than the tile, else None."""
    appearance: Appearance
    image_sha256: str
    """Of the image's bytes, the very ones that were predicted."""
    files: Mapping[str, str]
    """SHA-256 of what was written, by its path in the folder."""
    spacing: Spacing | None = None
    """Size of a voxel, where the image says one; all that was written says it too."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in `prediction.json`."""
        return {**asdict(self), "surface_share": self.appearance.surface_share}


@dataclass(frozen=True)
class _Record:
    settings: Settings
    images: tuple[FilePrediction, ...]


def write_predictions(out: Path, settings: Settings, done: Sequence[FilePrediction]) -> None:
    """Write what a folder holds.

    Raises:
        OSError: No room, or no permission; the record is as it was.
    """
    images = [one.to_json() for one in sorted(done, key=lambda one: one.name)]
    write_record(out / RECORD, {"settings": asdict(settings), "images": images})


def read_predictions(out: Path, settings: Settings) -> dict[str, FilePrediction]:
    """What a folder holds, by image; nothing where it has no record.

    Raises:
        DamagedError: The record is not what was written.
        OtherSettingsError: It was made with other settings; names them.
    """
    path = out / RECORD
    if not path.is_file():
        return {}
    record: _Record = read_record(path, _Record, FIX)
    for image in record.images:
        checked_name(image.name, "image", path)
        look = image.appearance
        voxels, counts = look.voxels, (look.surface_voxels, look.empty_voxels)
        if voxels < 1 or voxels != math.prod(image.shape) or not 0 <= min(counts) <= max(counts) <= voxels:
            raise DamagedError(f"{path} is damaged ({image.name} has {voxels} voxels in {list(image.shape)}): {FIX}")
    before, now = (strict_json(asdict(one)) for one in (record.settings, settings))
    differing = [name for name in now if before.get(name) != now[name]]
    if differing:
        said = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in differing)
        raise OtherSettingsError(f"{out} holds masks made with other settings ({said}): {FIX}")
    return {image.name: image for image in record.images}
