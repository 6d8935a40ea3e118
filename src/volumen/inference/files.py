"""Predict TIFF files into TIFF masks: nothing overwritten by accident, nothing half written, everything on record.

`prediction.json` in the output folder says what made the masks (weights by hash, tiles, threshold) and what each one
looks like. A later call goes on in that folder only with the same settings, so that its masks never are a mixture.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing
from volumen.data.normalise import Method, Normalised, occupied, statistics_of
from volumen.data.volumes import SUFFIXES, VolumeError, read_volume
from volumen.errors import UserError
from volumen.files import atomic_path, strict_json, write_atomically
from volumen.inference.accumulator import Region, region_of
from volumen.inference.degenerate import Appearance, appearance_of
from volumen.inference.predictor import Predictor, weights_identity
from volumen.postprocess import apply_pipeline

RECORD = "prediction.json"
PROBABILITIES = "probabilities"
VIEW = "view"
LARGE_BYTES = 4e9
"""Of probabilities, above which they are put into a file and not into memory."""
Progress = Callable[[str, int, int], None]


class OtherSettingsError(UserError):
    """The output folder holds masks that were made with other settings."""


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
    """Skip images whose files are whole."""


@dataclass(frozen=True)
class FilePrediction:
    """One predicted file."""

    name: str
    shape: tuple[int, ...]
    padded_to: tuple[int, ...] | None
    """The tile's shape where the volume was smaller than the tile, else None."""
    appearance: Appearance

    def to_json(self) -> dict[str, Any]:
        """As it stands in `prediction.json`."""
        return {**asdict(self), "surface_share": self.appearance.surface_share}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "FilePrediction":
        """Inverse of `to_json`."""
        padded = record["padded_to"]
        return cls(
            record["name"],
            tuple(record["shape"]),
            None if padded is None else tuple(padded),
            Appearance(**record["appearance"]),
        )


def find_images(source: Path) -> tuple[Path, ...]:
    """The TIFF files that a path names: itself, or those directly in the folder, by name.

    Raises:
        UserError: No such path, no TIFF, or a folder without any.
    """
    if source.is_dir():
        found = tuple(sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()))
        if not found:
            raise UserError(f"{source} holds no .tif or .tiff file: give a TIFF volume or a folder of them")
        return found
    if not source.exists():
        raise UserError(f"{source} does not exist: give a TIFF volume or a folder of them")
    if source.suffix.lower() not in SUFFIXES:
        raise UserError(f"{source} is no .tif or .tiff file: give a TIFF volume or a folder of them")
    return (source,)


class SideBySide(Protocol):
    """Predicts several images at a time (`inference.side_by_side.Processes`)."""

    def run(
        self, paths: Sequence[Path], job: "Job", keep: Callable[[FilePrediction], None], progress: Progress
    ) -> None:
        """Predict images, and give each result to `keep` as soon as its files are whole."""


def predict_files(
    predictor: Predictor,
    images: Sequence[Path],
    out: Path,
    wanted: Wanted,
    *,
    normalisation: Method,
    postprocessing: Postprocessing,
    origin: Mapping[str, Any],
    progress: Progress = lambda name, done, of: None,
    finished: Callable[[FilePrediction, bool], None] = lambda prediction, computed: None,
    side_by_side: "SideBySide | None" = None,
) -> tuple[FilePrediction, ...]:
    """Predict each image into `out` under its own name.

    Args:
        predictor: Model, tiles and precision.
        images: TIFF volumes.
        out: Output folder; made if need be.
        wanted: What to write besides the masks, and how to treat files that are there.
        normalisation: As in training.
        postprocessing: From probabilities to the mask.
        origin: What made the weights (run, checkpoint), for the record.
        progress: Told the image's name and how many of how many tiles are done.
        finished: Told each image whose files are whole, and whether this call made them. What it or `progress` raises
            ends the call; the images that are finished stay so.
        side_by_side: Processes that predict several images at a time; None predicts one after the other here.

    Returns:
        What was predicted, by image; with `resume` also what had been there.

    Raises:
        UserError: An output exists, would replace an input, or the folder holds masks made with other settings; or an
            image is damaged. All but the last are found before anything is computed.
    """
    settings = _settings(predictor, wanted, normalisation, postprocessing, origin)
    before = _check_output(images, out, wanted, settings)
    for folder in (out, *(out / name for name, on in _extras(wanted) if on)):
        folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, FilePrediction] = dict(before)
    _write_record(out, settings, done)  # from here on no mask of other settings counts as done, however this ends
    job = Job(out, wanted, normalisation, postprocessing)

    def keep(prediction: FilePrediction, computed: bool) -> None:
        if computed:
            done[prediction.name] = prediction
            _write_record(out, settings, done)
        finished(prediction, computed)

    missing = []
    for path in images:
        if path.name in before and _is_whole(path, job):
            keep(before[path.name], False)
        else:
            missing.append(path)
    if side_by_side is not None:
        side_by_side.run(missing, job, lambda prediction: keep(prediction, True), progress)
    else:
        for path in missing:
            keep(job.predict(predictor, path, read_volume(path), progress), True)
    return tuple(done[path.name] for path in images)


def _settings(
    predictor: Predictor,
    wanted: Wanted,
    normalisation: Method,
    postprocessing: Postprocessing,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that decides what a mask looks like, for the record."""
    return {
        **origin,
        "weights_sha256": weights_identity(predictor.model),
        "normalisation": normalisation,
        "tile": list(predictor.tile),
        "overlap": predictor.overlap,
        "mirror": predictor.mirror,
        "rotate": predictor.rotate,
        "region": None if wanted.region is None else [[part.start, part.stop] for part in wanted.region],
        "postprocessing": postprocessing.model_dump(),
        "probabilities": "uint8, 255 * probability, rounded" if wanted.probabilities else None,
    }


def write_mask(path: Path, volume: NDArray[np.uint8]) -> None:
    """Write a uint8 volume [Z, Y, X] as a deflate-compressed TIFF stack, whole or not at all."""
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, volume, compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"})


@dataclass(frozen=True)
class Job:
    """What is done with each image, in this process or in another."""

    out: Path
    wanted: Wanted
    normalisation: Method
    postprocessing: Postprocessing

    def predict(self, predictor: Predictor, path: Path, image: NDArray[Any], progress: Progress) -> FilePrediction:
        """Predict an image [Z, Y, X] and write its files, the mask last: where it stands, all is whole."""
        out, wanted = self.out, self.wanted
        tiles = predictor.plan(image.shape)
        box = region_of(image.shape, wanted.region)
        there = occupied(image)
        probabilities = predictor.probabilities(
            Normalised(image, statistics_of(image), self.normalisation),
            there,
            lambda done, of: progress(path.name, done, of),
            region=wanted.region,
            scratch=out if 4 * math.prod(image[box].shape) > LARGE_BYTES else None,
        )
        mask = apply_pipeline(probabilities, self.postprocessing)
        appearance = appearance_of(path.name, mask, probabilities, there[box])
        if wanted.probabilities:
            probabilities *= 255
            np.rint(probabilities, out=probabilities)
            write_mask(out / PROBABILITIES / path.name, probabilities.astype(np.uint8))
        if wanted.view:
            write_mask(out / VIEW / path.name, mask * np.uint8(255))
        write_mask(out / path.name, mask)
        return FilePrediction(path.name, mask.shape, tiles.padded_shape if tiles.is_padded else None, appearance)


def _extras(wanted: Wanted) -> tuple[tuple[str, bool], ...]:
    return ((PROBABILITIES, wanted.probabilities), (VIEW, wanted.view))


def _targets(path: Path, out: Path, wanted: Wanted) -> list[Path]:
    return [out / path.name, *(out / folder / path.name for folder, on in _extras(wanted) if on)]


def _check_output(
    images: Sequence[Path], out: Path, wanted: Wanted, settings: Mapping[str, Any]
) -> dict[str, FilePrediction]:
    """What the folder already holds of these settings; refuses whatever would destroy something."""
    if wanted.overwrite and wanted.resume:
        raise UserError("--overwrite and --resume exclude each other: choose to replace what is there or to keep it")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the masks")
    sources = {path.resolve() for path in images}
    targets = [target for path in images for target in _targets(path, out, wanted)]
    for target in targets:
        if target.resolve() in sources:
            raise UserError(f"the mask {target} would replace an input image: choose another output folder")
    if wanted.overwrite:
        return {}
    if not wanted.resume:
        existing = [target for target in targets if target.exists()]
        if existing:
            shown = ", ".join(str(path) for path in existing[:5]) + (" ..." if len(existing) > 5 else "")
            raise UserError(
                f"{len(existing)} of {len(targets)} outputs exist already ({shown}): choose another folder, "
                "--resume to predict only what is missing, or --overwrite to replace them"
            )
    return _read_record(out, settings)


def _read_record(out: Path, settings: Mapping[str, Any]) -> dict[str, FilePrediction]:
    path = out / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before = record["settings"]
        images = {entry["name"]: FilePrediction.from_json(entry) for entry in record["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): choose another folder, or --overwrite") from error
    now = strict_json(settings)
    differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differing:
        said = "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in differing)
        raise OtherSettingsError(
            f"{out} holds masks made with other settings ({said}): choose another folder, or --overwrite"
        )
    return images


def _is_whole(path: Path, job: "Job") -> bool:
    """Whether an image's files can be read and have its shape."""
    image = read_volume(path)
    shape = image[region_of(image.shape, job.wanted.region)].shape
    try:
        return all(read_volume(target).shape == shape for target in _targets(path, job.out, job.wanted))
    except VolumeError:
        return False


def _write_record(out: Path, settings: Mapping[str, Any], done: Mapping[str, FilePrediction]) -> None:
    record = {"settings": settings, "images": [done[name].to_json() for name in sorted(done)]}
    write_atomically(out / RECORD, json.dumps(strict_json(record), indent=2) + "\n")
