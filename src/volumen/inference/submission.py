"""From a folder of test images to a zip of masks that is fit to be submitted, or to a reason why there is none.

All images are read before anything is computed, so that a damaged one is found at once and not after hours. Masks are
kept one by one in a work folder: killed and started again, no more than the volume in flight is lost. Predictions that
say nothing (all surface, none, the same everywhere, a second sigmoid) are refused before they become a zip.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen import __version__
from volumen.config.postprocessing import Postprocessing
from volumen.data.normalise import Method
from volumen.errors import UserError
from volumen.files import sha256_of, strict_json, write_atomically
from volumen.inference import pace
from volumen.inference.archive import write_archive
from volumen.inference.degenerate import Symptom, symptoms_of
from volumen.inference.files import RECORD as MASKS_RECORD
from volumen.inference.files import FilePrediction, OtherSettingsError, Progress, Wanted, predict_files
from volumen.inference.pace import Pace, ways_to_be_faster
from volumen.inference.predictor import Predictor
from volumen.inference.unlabelled import Image, find_test_images, read_images

RECORD = "submission.json"
EARLY = 2
"""Volumes after which it stops where every one of them says nothing: the others would be no better."""
CAUSES_SHOWN = 10


@dataclass(frozen=True)
class How:
    """How images become masks."""

    predictor: Predictor
    normalisation: Method
    postprocessing: Postprocessing
    origin: Mapping[str, Any]
    """What made the weights, for the record."""


@dataclass(frozen=True)
class Submission:
    """A zip that was written and read back."""

    archive: Path
    predictions: tuple[FilePrediction, ...]
    symptoms: tuple[Symptom, ...]
    """What was accepted on demand; empty for sound predictions."""
    empty_images: tuple[str, ...]
    """Names of images that hold nothing but zeros."""
    sha256: str


def work_folder_of(archive: Path) -> Path:
    """Where the masks of a zip are kept by default: beside it, `submission.zip` in `submission.masks`."""
    return archive.with_suffix(".masks")


def submit(
    how: How,
    source: Path,
    archive: Path,
    work: Path,
    *,
    overwrite: bool = False,
    accept_degenerate: bool = False,
    budget_seconds: float | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = lambda name, done, of: None,
) -> Submission:
    """Predict test images into a zip of masks.

    Args:
        how: Networks, normalisation, post-processing.
        source: Folder of the test images, or the one that holds `test_images`.
        archive: The zip.
        work: Folder in which masks are kept, one by one; a later call goes on from what is there.
        overwrite: Replace a zip that exists, and masks in `work` that were made with other settings.
        accept_degenerate: Write the zip though predictions say nothing; it is recorded.
        budget_seconds: Time that may be spent, from now on.
        say: Told what a person should know meanwhile.
        progress: Told the image's name, and how many of how many steps are done.

    Raises:
        UserError: No place for the zip, no images or a damaged one, masks that say nothing, or masks of other settings
            in `work`.
        OutOfTimeError: The budget is spent; masks that are done are kept.
        ArchiveError: The zip did not read back; nothing is left of it.
        OSError: The disk is full or fails; no zip is written, and the masks that are done are kept.
    """
    started = pace.clock()
    _check_place(archive, work, overwrite)
    images = read_images(find_test_images(source), progress)
    reserve = 2 * (pace.clock() - started)  # zipping and reading back touch as many voxels as reading did
    watch = Pace(
        {image.path.name: image.voxels for image in images},
        budget_seconds,
        started=started,
        reserve_seconds=reserve,
        faster=ways_to_be_faster(how.predictor, [image.shape for image in images]),
        say=say,
    )
    predictions = _predict(how, images, work, watch, overwrite, accept_degenerate, progress)
    symptoms = _symptoms(predictions, images)
    if symptoms and not accept_degenerate:
        raise UserError(_refusal(symptoms, work, f"{archive} was not written"))
    shapes = {image.path.name: image.shape for image in images}
    write_archive(archive, {name: work / name for name in shapes}, shapes, progress)
    empty = tuple(image.path.name for image in images if image.is_empty)
    made = Submission(archive, predictions, symptoms, empty, sha256_of(archive))
    _write_record(work, made, how)
    return made


def _check_place(archive: Path, work: Path, overwrite: bool) -> None:
    """Everything that can be known to be in the way, before hours of computing."""
    if archive.suffix.lower() != ".zip":
        raise UserError(f"{archive} must end in .zip: use {archive.with_suffix('.zip')}")
    if archive.is_dir():
        raise UserError(f"{archive} is a folder: give the name of the zip to write")
    if archive.exists() and not overwrite:
        raise UserError(f"{archive} exists already: choose another name, or --overwrite to replace it")
    for folder in (archive.parent, work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / ".volumen-probe", b"")
            (folder / ".volumen-probe").unlink()
        except OSError as error:
            raise UserError(f"{folder} cannot be written to ({error.strerror}): choose another place") from error
    if not (work / MASKS_RECORD).exists() and any(not path.name.startswith(".") for path in work.iterdir()):
        raise UserError(f"{work} holds files that no submission put there: choose an empty folder with --work")


def _predict(
    how: How,
    images: Sequence[Image],
    work: Path,
    watch: Pace,
    overwrite: bool,
    accept_degenerate: bool,
    progress: Progress,
) -> tuple[FilePrediction, ...]:
    content = "\n".join(f"{image.path.name} {image.sha256}" for image in images)
    seen: list[FilePrediction] = []

    def tile(name: str, done: int, of: int) -> None:
        progress(f"{name} ({len(seen) + 1} of {len(images)})", done, of)
        watch.tile(done, of)

    def finished(prediction: FilePrediction, computed: bool) -> None:
        seen.append(prediction)
        symptoms = _symptoms(seen, images)
        if not accept_degenerate and len(seen) == EARLY < len(images) and _all_ill(seen, symptoms):
            raise UserError(_refusal(symptoms, work, f"it was stopped after the first {EARLY} of {len(images)}"))
        watch.finished(prediction.name, computed)

    def run(wanted: Wanted) -> tuple[FilePrediction, ...]:
        return predict_files(
            how.predictor,
            [image.path for image in images],
            work,
            wanted,
            normalisation=how.normalisation,
            postprocessing=how.postprocessing,
            origin={**how.origin, "images_sha256": hashlib.sha256(content.encode()).hexdigest()},
            progress=tile,
            finished=finished,
        )

    try:
        return run(Wanted(resume=True))
    except OtherSettingsError:
        if not overwrite:
            raise
    return run(Wanted(overwrite=True))


def _symptoms(predictions: Sequence[FilePrediction], images: Sequence[Image]) -> tuple[Symptom, ...]:
    """Of the images that hold anything: the mask of an empty one has to be empty."""
    empty = {image.path.name for image in images if image.is_empty}
    return symptoms_of([one.appearance for one in predictions if one.name not in empty])


def _all_ill(predictions: Sequence[FilePrediction], symptoms: Sequence[Symptom]) -> bool:
    ill = {case for symptom in symptoms for case in symptom.cases}
    return all(one.name in ill for one in predictions)


def _refusal(symptoms: Sequence[Symptom], work: Path, consequence: str) -> str:
    listed = "\n".join(f"  {number}. {one.sentence}" for number, one in enumerate(symptoms[:CAUSES_SHOWN], start=1))
    more = f"\n  and {len(symptoms) - CAUSES_SHOWN} more" if len(symptoms) > CAUSES_SHOWN else ""
    return (
        f"the predictions say nothing, so {consequence}:\n{listed}{more}\n"
        f"  the masks are in {work}; choose other weights (`volumen select RUN` compares them), or --accept-degenerate "
        "to submit these all the same"
    )


def _write_record(work: Path, made: Submission, how: How) -> None:
    record = {
        "volumen": __version__,
        "archive": made.archive.name,
        "sha256": made.sha256,
        "origin": dict(how.origin),
        "masks": {one.name: list(one.shape) for one in made.predictions},
        "empty_images": list(made.empty_images),
        "accepted_degenerate": [asdict(symptom) for symptom in made.symptoms],
    }
    write_atomically(work / RECORD, json.dumps(strict_json(record), indent=2) + "\n")
