"""Predict TIFF files into TIFF masks: nothing overwritten by accident, nothing half written, everything on record.

`prediction.json` in the output folder says what made the masks (weights by hash, tiles, threshold), of which bytes of
which images, and what was written. A later call goes on in that folder only with the same settings, and keeps a mask
only if the image and the mask are still the ones on record, so that its masks never are a mixture.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from volumen.config.postprocessing import Postprocessing
from volumen.data.emptiness import Emptiness, find_emptiness
from volumen.data.listing import SUFFIXES, list_volumes
from volumen.data.normalise import IntensityStatistics, statistics_of
from volumen.data.spacing import Spacing
from volumen.data.volumes import Volume, encode_volume, load_volume
from volumen.errors import UserError
from volumen.files import sha256_of, write_atomically
from volumen.inference.accumulator import region_of
from volumen.inference.degenerate import appearance_of
from volumen.inference.output_folder import PROBABILITIES, VIEW, Wanted, check_output, refuse_existing, targets
from volumen.inference.overlapped import Overlapped, result_of
from volumen.inference.prediction_record import FilePrediction, Settings, read_predictions, write_predictions
from volumen.inference.recipe import Recipe
from volumen.postprocess import apply_pipeline
from volumen.runtime import physical_cores, tune_allocator
from volumen.system.locks import hold, sweep
from volumen.system.output import Progress, Warn, counted, unheard
from volumen.system.processes import pool_of

LOCK = "predict"
LARGE_BYTES = 4e9
"""Of probabilities, above which they are put into a file and not into memory."""


def find_images(source: Path) -> tuple[Path, ...]:
    """The TIFF files that a path names: itself, or those directly in the folder, by name.

    Raises:
        UserError: No such path, no TIFF, or a folder without any, or that cannot be read.
    """
    fix = "give a TIFF volume or a folder of them"
    try:
        if source.is_dir():
            found = tuple(list_volumes(source).checked().values())
            if not found:
                raise UserError(f"{source} holds no .tif or .tiff file: {fix}")
            return found
        exists = source.exists()
    except OSError as error:
        raise UserError(f"{source} cannot be read ({error.strerror}): {fix}") from error
    if not exists:
        raise UserError(f"{source} does not exist: {fix}")
    if source.suffix.lower() not in SUFFIXES:
        raise UserError(f"{source} is no .tif or .tiff file: {fix}")
    return (source,)


def predict_files(
    recipe: Recipe,
    images: Sequence[Path],
    out: Path,
    wanted: Wanted,
    *,
    say: Warn = unheard,
    progress: Progress = unheard,
    finished: Callable[[FilePrediction, bool], None] = lambda prediction, computed: None,
    side_by_side: "Processes | None" = None,
) -> tuple[FilePrediction, ...]:
    """Predict each image into `out` under its own name; returns what was predicted, and what had been there to resume.

    Args:
        recipe: How an image becomes a mask.
        images: TIFF volumes.
        out: Output folder; made if need be. One process at a time predicts into it.
        wanted: What to write besides the masks, and how to treat files that are there.
        say: Told which masks that were there are predicted again, and why.
        progress: Told the image's name and how many of how many tiles are done.
        finished: Told each image whose files are whole, and whether this call made them; what it raises ends the call.
        side_by_side: Processes that predict several images at a time; None predicts one after the other here.

    Raises:
        UserError: An output exists, would replace an input, cannot be written, or the folder holds masks made with
            other settings or is in use (all before anything is computed); or an image is damaged.
        OSError: The disk is full. However it ends, images that are finished stay so.
    """
    check_output(images, out, wanted)
    recipe.predictor.say = say
    outputs, settings = Outputs(out, wanted), _settings(recipe, wanted)
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

        missing = _missing(images, before, outputs, say)
        for path in images:
            if path not in missing:
                keep(before[path.name], False)
        try:
            if side_by_side is not None:
                side_by_side.run(missing, outputs, lambda prediction: keep(prediction, True), progress)
            elif recipe.predictor.sums and len(missing) > 1:  # a device that predicts, beside processors that do not
                _overlapped(recipe, outputs, progress).run(missing, lambda prediction: keep(prediction, True))
            else:
                for path in missing:
                    keep(outputs.make(recipe, path.name, load_volume(path), progress), True)
        finally:
            sweep(out)  # what processes had not finished writing when they were ended
    return tuple(done[path.name] for path in images)


def _overlapped(
    recipe: Recipe, outputs: "Outputs", progress: Progress
) -> "Overlapped[Seen, Predicted, FilePrediction]":
    return Overlapped(
        lambda path: seen(recipe, path.name, load_volume(path)),
        lambda image: outputs.predict(recipe, image, progress),
        partial(outputs.write, postprocessing=recipe.postprocessing),
        lambda predicted: isinstance(predicted.probabilities, np.memmap),
    )


def _settings(recipe: Recipe, wanted: Wanted) -> Settings:
    """What every mask of a folder is made with: the recipe, and what was asked for."""
    region = None if wanted.region is None else tuple((part.start, part.stop) for part in wanted.region)
    kept = "uint8, 255 * probability, rounded" if wanted.probabilities else None
    return replace(recipe.settings, region=region, probabilities=kept)


def write_mask(path: Path, volume: NDArray[np.uint8], spacing: Spacing | None = None) -> str:
    """Write a uint8 volume [Z, Y, X], with its image's voxel size, whole or not at all; the file's SHA-256."""
    content = encode_volume(volume, spacing)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Outputs:
    """What is written of each image, in this process or in another."""

    out: Path
    wanted: Wanted

    def make(self, recipe: Recipe, name: str, volume: Volume, progress: Progress) -> FilePrediction:
        """Predict an image [Z, Y, X] and write its files, the mask last: where it stands, all is whole."""
        return self.write(self.predict(recipe, seen(recipe, name, volume), progress), recipe.postprocessing)

    def predict(self, recipe: Recipe, image: "Seen", progress: Progress) -> "Predicted":
        """The part that wants the network."""
        name, stored, scan = image.name, image.volume.array, image.emptiness.scan
        tiles = recipe.predictor.plan(stored.shape)
        box = region_of(stored.shape, self.wanted.region)
        probabilities = recipe.predictor.probabilities(
            recipe.normalised(stored, image.statistics),
            scan,
            lambda done, of: progress(name, done, of),
            region=self.wanted.region,
            scratch=self.out if 4 * math.prod(stored[box].shape) > LARGE_BYTES else None,
        )
        return Predicted(
            name,
            probabilities,
            None if scan is None else scan[box],
            image.emptiness.values,
            tiles.padded_shape if tiles.is_padded else None,
            image.volume.sha256,
            image.volume.spacing,
        )

    def write(self, predicted: "Predicted", postprocessing: Postprocessing) -> FilePrediction:
        """The part that wants a processor; the probabilities may be written over."""
        name, probabilities, scan, wanted = predicted.name, predicted.probabilities, predicted.scan, self.wanted
        mask = apply_pipeline(probabilities, postprocessing, scan)
        appearance = appearance_of(name, mask, probabilities, scan, predicted.empty)
        files = {}
        if wanted.probabilities:
            probabilities *= 255
            np.rint(probabilities, out=probabilities)
            files[f"{PROBABILITIES}/{name}"] = probabilities.astype(np.uint8)
        if wanted.view:
            files[f"{VIEW}/{name}"] = mask * np.uint8(255)
        files[name] = mask
        spacing = predicted.spacing
        written = {place: write_mask(self.out / place, content, spacing) for place, content in files.items()}
        return FilePrediction(name, mask.shape, predicted.padded, appearance, predicted.image_sha256, written, spacing)


@dataclass(frozen=True)
class Seen:
    """An image, and what has to be known of all of it before it is predicted."""

    name: str
    volume: Volume
    emptiness: Emptiness
    statistics: IntensityStatistics


@dataclass(frozen=True)
class Predicted:
    """An image's probabilities, and what is known of the image itself."""

    name: str
    probabilities: NDArray[np.float32]
    scan: NDArray[np.bool_] | None
    """Where the scan holds something in the box that is wanted; None: everywhere."""
    empty: tuple[int, ...]
    padded: tuple[int, int, int] | None
    image_sha256: str
    spacing: Spacing | None


def seen(recipe: Recipe, name: str, volume: Volume) -> Seen:
    """Look at an image before it is predicted."""
    emptiness = find_emptiness(volume.array, recipe.empty)
    return Seen(name, volume, emptiness, statistics_of(volume.array, emptiness.scan))


def _missing(images: Sequence[Path], before: Mapping[str, FilePrediction], outputs: Outputs, say: Warn) -> list[Path]:
    """The images that have to be predicted; why some are predicted again is said."""
    reasons = {path: _why_again(path, before.get(path.name), outputs) for path in images}
    for path, reason in reasons.items():
        if reason and not outputs.wanted.overwrite:
            say(f"{path.name} is predicted again: {reason}")
    return [path for path, reason in reasons.items() if reason is not None]


def _why_again(path: Path, before: FilePrediction | None, outputs: Outputs) -> str | None:
    """Why an image has to be predicted: empty where nothing of it was there, None where its files are whole."""
    places = targets(path, outputs.out, outputs.wanted)
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


_make: Callable[[], Recipe] | None = None  # of this process, where it is one of several
_recipe: Recipe | None = None


@dataclass(frozen=True)
class Processes:
    """Processes that predict.

    One volume at a time leaves cores idle while it is read, cleaned and written; two or three fill the gaps. Every
    process needs the memory of a prediction.
    """

    count: int
    make: Callable[[], Recipe]
    """Opens the recipe anew in each process; has to be picklable."""

    def run(
        self, paths: Sequence[Path], out: Outputs, keep: Callable[[FilePrediction], None], progress: Progress
    ) -> None:
        """Predict images, and give each result to `keep` as soon as its files are whole. No process stays.

        Raises:
            UserError: An image is damaged, or a process was killed, whose image is named.
        """
        if not paths:
            return
        threads = max(1, physical_cores() // self.count)
        with pool_of(min(self.count, len(paths)), _begin, (self.make, threads)) as pool:
            futures: dict[Future[FilePrediction], Path] = {
                pool.schedule(_predict, args=(path, out)): path for path in paths
            }
            for number, future in enumerate(as_completed(futures), start=1):
                which = f"that predicted {futures[future].name}"
                prediction = result_of(future, which, "use a smaller --parallel; ")
                keep(prediction)
                progress(f"{counted(self.count, 'volume')} side by side", number, len(paths))


def _begin(make: Callable[[], Recipe], threads: int) -> None:
    global _make
    tune_allocator()
    torch.set_num_threads(threads)
    _make = make


def _predict(path: Path, out: Outputs) -> FilePrediction:
    global _recipe
    if _recipe is None:  # here and not when the process begins, where an error would have nobody to be told to
        if _make is None:
            raise RuntimeError("the process was not begun")
        _recipe = _make()
    return out.make(_recipe, path.name, load_volume(path), lambda name, done, of: None)
