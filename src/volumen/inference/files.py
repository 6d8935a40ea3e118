"""Predict TIFF files into TIFF masks: nothing overwritten by accident, nothing half written, everything on record.

`prediction.json` in the output folder says what made the masks (weights by hash, tiles, threshold), of which bytes of
which images, and what was written. A later call goes on in that folder only with the same settings, and keeps a mask
only if the image and the mask are still the ones on record, so that its masks never are a mixture.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing
from volumen.data.emptiness import Declared, find_emptiness
from volumen.data.listing import SUFFIXES, list_volumes
from volumen.data.normalise import Method, Normalised, statistics_of
from volumen.data.spacing import Spacing
from volumen.data.volumes import Volume, encode_volume, load_volume
from volumen.errors import UserError
from volumen.files import sha256_of, write_atomically
from volumen.inference.accumulator import region_of
from volumen.inference.degenerate import appearance_of
from volumen.inference.output_folder import PROBABILITIES, VIEW, Wanted, check_output, refuse_existing, targets
from volumen.inference.prediction_record import (
    FilePrediction,
    Origin,
    Settings,
    read_predictions,
    write_predictions,
)
from volumen.inference.predictor import Predictor, weights_identity
from volumen.postprocess import apply_pipeline
from volumen.system.locks import hold, sweep
from volumen.system.output import Progress, Warn, unheard

LOCK = "predict"
LARGE_BYTES = 4e9
"""Of probabilities, above which they are put into a file and not into memory."""


def find_images(source: Path) -> tuple[Path, ...]:
    """The TIFF files that a path names: itself, or those directly in the folder, by name.

    Raises:
        UserError: No such path, no TIFF, or a folder without any, or that cannot be read.
    """
    try:
        if source.is_dir():
            found = list_volumes(source).checked()
            if not found:
                raise UserError(f"{source} holds no .tif or .tiff file: give a TIFF volume or a folder of them")
            return tuple(found.values())
        exists = source.exists()
    except OSError as error:
        raise UserError(
            f"{source} cannot be read ({error.strerror}): give a TIFF volume or a folder of them"
        ) from error
    if not exists:
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
    origin: Origin,
    empty: Declared = None,
    say: Warn = unheard,
    progress: Progress = unheard,
    finished: Callable[[FilePrediction, bool], None] = lambda prediction, computed: None,
    side_by_side: "SideBySide | None" = None,
) -> tuple[FilePrediction, ...]:
    """Predict each image into `out` under its own name.

    Args:
        predictor: Model, tiles and precision.
        images: TIFF volumes.
        out: Output folder; made if need be. One process at a time predicts into it.
        wanted: What to write besides the masks, and how to treat files that are there.
        normalisation: As in training.
        postprocessing: From probabilities to the mask.
        origin: What made the weights, for the record.
        empty: Grey values where an image holds nothing; None finds them.
        say: Told which masks that were there are predicted again, and why.
        progress: Told the image's name and how many of how many tiles are done.
        finished: Told each image whose files are whole, and whether this call made them. What it or `progress` raises
            ends the call; the images that are finished stay so.
        side_by_side: Processes that predict several images at a time; None predicts one after the other here.

    Returns:
        What was predicted, by image; with `resume` also what had been there.

    Raises:
        UserError: An output exists, would replace an input, cannot be written, or the folder holds masks made with
            other settings or is in use; or an image is damaged. All but the last are found before anything is computed.
        OSError: The disk is full; what is finished stays so.
    """
    check_output(images, out, wanted)
    job = Job(out, wanted, normalisation, postprocessing, empty)
    settings = _settings(predictor, job, origin)
    with hold(out, LOCK):
        refuse_existing(images, out, wanted)
        before = {} if wanted.overwrite else read_predictions(out, settings)
        done: dict[str, FilePrediction] = dict(before)
        write_predictions(out, settings, list(done.values()))  # from here on no mask of other settings counts as done

        def keep(prediction: FilePrediction, computed: bool) -> None:
            if computed:
                done[prediction.name] = prediction
                write_predictions(out, settings, list(done.values()))
            finished(prediction, computed)

        missing = []
        for path in images:
            reason = _why_again(path, before.get(path.name), job)
            if reason is None:
                keep(before[path.name], False)
                continue
            if reason and not wanted.overwrite:
                say(f"{path.name} is predicted again: {reason}")
            missing.append(path)
        try:
            if side_by_side is not None:
                side_by_side.run(missing, job, lambda prediction: keep(prediction, True), progress)
            else:
                for path in missing:
                    keep(job.predict(predictor, path.name, load_volume(path), progress), True)
        finally:
            sweep(out)  # what processes had not finished writing when they were ended
    return tuple(done[path.name] for path in images)


def _settings(predictor: Predictor, job: "Job", origin: Origin) -> Settings:
    wanted = job.wanted
    region = None if wanted.region is None else tuple((part.start, part.stop) for part in wanted.region)
    return Settings(
        **asdict(origin),
        weights_sha256=weights_identity(predictor.model),
        normalisation=job.normalisation,
        empty=job.empty,
        tile=predictor.tile,
        overlap=predictor.overlap,
        mirror=predictor.mirror,
        rotate=predictor.rotate,
        region=region,
        postprocessing=job.postprocessing.model_dump(mode="json"),
        probabilities="uint8, 255 * probability, rounded" if wanted.probabilities else None,
    )


def write_mask(path: Path, volume: NDArray[np.uint8], spacing: Spacing | None = None) -> str:
    """Write a uint8 volume [Z, Y, X], with its image's voxel size, whole or not at all; the file's SHA-256."""
    content = encode_volume(volume, spacing)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Job:
    """What is done with each image, in this process or in another."""

    out: Path
    wanted: Wanted
    normalisation: Method
    postprocessing: Postprocessing
    empty: Declared = None

    def predict(self, predictor: Predictor, name: str, volume: Volume, progress: Progress) -> FilePrediction:
        """Predict an image [Z, Y, X] and write its files, the mask last: where it stands, all is whole."""
        image, wanted = volume.array, self.wanted
        tiles = predictor.plan(image.shape)
        box = region_of(image.shape, wanted.region)
        emptiness = find_emptiness(image, self.empty)
        scan = None if emptiness.scan is None else emptiness.scan[box]
        probabilities = predictor.probabilities(
            Normalised(image, statistics_of(image, emptiness.scan), self.normalisation),
            emptiness.scan,
            lambda done, of: progress(name, done, of),
            region=wanted.region,
            scratch=self.out if 4 * math.prod(image[box].shape) > LARGE_BYTES else None,
        )
        mask = apply_pipeline(probabilities, self.postprocessing, scan)
        appearance = appearance_of(name, mask, probabilities, scan, emptiness.values)
        files = {}
        if wanted.probabilities:
            probabilities *= 255
            np.rint(probabilities, out=probabilities)
            files[f"{PROBABILITIES}/{name}"] = probabilities.astype(np.uint8)
        if wanted.view:
            files[f"{VIEW}/{name}"] = mask * np.uint8(255)
        files[name] = mask
        written = {place: write_mask(self.out / place, content, volume.spacing) for place, content in files.items()}
        padded = tiles.padded_shape if tiles.is_padded else None
        return FilePrediction(name, mask.shape, padded, appearance, volume.sha256, written, volume.spacing)


def _why_again(path: Path, before: FilePrediction | None, job: Job) -> str | None:
    """Why an image has to be predicted: empty where nothing of it was there, None where its files are whole."""
    places = targets(path, job.out, job.wanted)
    if before is None:
        return "the record does not know its files" if any(place.exists() for place in places.values()) else ""
    if _sha256(path) != before.image_sha256:
        return "the image is not the one that its mask was made of"
    for name, place in places.items():
        found = _sha256(place)
        if found is None or found != before.files.get(name):
            return f"{name} is {'gone' if found is None else 'not what was written'}"
    return None


def _sha256(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None
