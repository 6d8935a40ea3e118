"""From a folder of test images to a zip of masks that is fit to be submitted, or to a reason why there is none.

All images are read before anything is computed, so that a damaged one is found at once and not after hours. Masks are
kept one by one in a work folder: killed and started again, no more than the volume in flight is lost. Predictions that
say nothing (all surface, none, the same everywhere, a second sigmoid) are refused before they become a zip.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from volumen import __version__
from volumen.errors import DamagedError, UserError
from volumen.files import sha256_of
from volumen.inference.degenerate import Symptom, symptoms_of
from volumen.inference.files import LOCK, predict_files
from volumen.inference.output_folder import Wanted, check_output
from volumen.inference.prediction_record import RECORD as MASKS_RECORD
from volumen.inference.prediction_record import FilePrediction, OtherSettingsError
from volumen.inference.recipe import Recipe
from volumen.submission import pace
from volumen.submission.archive import write_archive
from volumen.submission.images import Image, find_test_images, read_images
from volumen.submission.pace import Pace, ways_to_be_faster
from volumen.system.locks import hold
from volumen.system.output import Progress, Warn, unheard
from volumen.system.places import writable_file, writable_folder
from volumen.system.records import write_record

RECORD = "submission.json"
EARLY = 2
"""Volumes after which it stops where every one of them says nothing: the others would be no better."""
CAUSES_SHOWN = 10


@dataclass(frozen=True)
class Submission:
    """A zip that was written and read back."""

    archive: Path
    predictions: tuple[FilePrediction, ...]
    symptoms: tuple[Symptom, ...]
    """What was accepted on demand; empty for sound predictions."""
    sha256: str


def work_folder_of(archive: Path) -> Path:
    """Where the masks of a zip are kept by default: beside it, `submission.zip` in `submission.masks`."""
    return archive.with_suffix(".masks")


def submit(
    recipe: Recipe,
    source: Path,
    archive: Path,
    work: Path,
    *,
    overwrite: bool = False,
    accept_degenerate: bool = False,
    budget_seconds: float | None = None,
    say: Warn = unheard,
    progress: Progress = unheard,
) -> Submission:
    """Predict test images into a zip of masks.

    Args:
        recipe: How an image becomes a mask.
        source: Folder of the test images, or the one that holds `test_images`.
        archive: The zip.
        work: Folder in which masks are kept, one by one; a later call goes on from what is there.
        overwrite: Replace a zip that exists, and masks in `work` that were made with other settings.
        accept_degenerate: Write the zip though predictions say nothing; it is recorded.
        budget_seconds: Time that may be spent, from now on.
        say: Told what a person should know meanwhile.

    Raises:
        UserError: No place for the zip, no images or a damaged one, masks that say nothing or of other settings.
        OutOfTimeError: The budget is spent; masks that are done are kept.
        ArchiveError: The zip did not read back; nothing is left of it.
        OSError: The disk is full or fails; no zip is written, and the masks that are done are kept.
    """
    started = pace.clock()
    check_place(archive, work, overwrite)
    with hold(work, "submit"):
        images = read_images(find_test_images(source), progress)
        check_output([image.path for image in images], work, Wanted(resume=True))
        watch = Pace(
            {image.path.name: image.voxels for image in images},
            budget_seconds,
            started=started,
            reserve_seconds=2
            * (pace.clock() - started),  # zipping and reading back touch as many voxels as reading did
            faster=ways_to_be_faster(recipe.predictor, [image.shape for image in images]),
            say=say,
        )
        predictions = _predict(recipe, images, work, watch, overwrite, accept_degenerate, say, progress)
        symptoms = _symptoms(predictions)
        if symptoms and not accept_degenerate:
            raise UserError(_refusal(symptoms, work, f"{archive} was not written"))
        _zip(images, predictions, archive, work, progress)
        made = Submission(archive, predictions, symptoms, sha256_of(archive))
        _write_record(work, made, recipe)
    return made


def _zip(
    images: Sequence[Image], predictions: Sequence[FilePrediction], archive: Path, work: Path, progress: Progress
) -> None:
    """Write the zip of masks, of images that are still the ones that were read at the beginning."""
    for prediction, image in zip(predictions, images, strict=True):
        if prediction.image_sha256 != image.sha256:
            raise UserError(f"{image.path} was changed while the images were predicted: start again")
    shapes = {image.path.name: image.shape for image in images}
    hashes = {one.name: one.files[one.name] for one in predictions}
    write_archive(archive, {name: work / name for name in shapes}, shapes, hashes, progress)


def check_place(archive: Path, work: Path, overwrite: bool) -> None:
    """Everything that can be known to be in the way, before hours of computing; the folders are made.

    Raises:
        UserError: The zip's name or place does not do, or the work folder is somebody else's or in use.
    """
    if archive.suffix.lower() != ".zip":
        raise UserError(f"{archive} must end in .zip: use {archive.with_suffix('.zip')}")
    writable_file(archive)
    if archive.exists() and not overwrite:
        raise UserError(f"{archive} exists already: choose another name, or --overwrite to replace it")
    writable_folder(work)
    if not (work / MASKS_RECORD).exists() and any(not path.name.startswith(".") for path in work.iterdir()):
        raise UserError(f"{work} holds files that no submission put there: choose an empty folder with --work")
    for kind in ("submit", LOCK):
        with hold(work, kind):
            pass


def _predict(
    recipe: Recipe,
    images: Sequence[Image],
    work: Path,
    watch: Pace,
    overwrite: bool,
    accept_degenerate: bool,
    say: Warn,
    progress: Progress,
) -> tuple[FilePrediction, ...]:
    seen: list[FilePrediction] = []

    def tile(name: str, done: int, of: int) -> None:
        progress(f"{name} ({len(seen) + 1} of {len(images)})", done, of)
        watch.tile(done, of)

    def finished(prediction: FilePrediction, computed: bool) -> None:
        seen.append(prediction)
        symptoms = _symptoms(seen)
        if not accept_degenerate and len(seen) == EARLY < len(images) and _all_ill(seen, symptoms):
            raise UserError(_refusal(symptoms, work, f"it was stopped after the first {EARLY} of {len(images)}"))
        watch.finished(prediction.name, computed)

    def run(wanted: Wanted) -> tuple[FilePrediction, ...]:
        return predict_files(
            recipe,
            [image.path for image in images],
            work,
            wanted,
            say=say,
            progress=tile,
            finished=finished,
        )

    try:
        return run(Wanted(resume=True))
    except (OtherSettingsError, DamagedError):
        if not overwrite:
            raise
    return run(Wanted(overwrite=True))


def _symptoms(predictions: Sequence[FilePrediction]) -> tuple[Symptom, ...]:
    return symptoms_of([one.appearance for one in predictions])


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


def _write_record(work: Path, made: Submission, recipe: Recipe) -> None:
    record = {
        "volumen": __version__,
        "archive": made.archive.name,
        "sha256": made.sha256,
        "origin": asdict(recipe.origin),
        "masks": {one.name: list(one.shape) for one in made.predictions},
        "empty": {
            one.name: list(one.appearance.empty_values) for one in made.predictions if one.appearance.empty_voxels
        },
        "accepted_degenerate": [asdict(symptom) for symptom in made.symptoms],
    }
    write_record(work / RECORD, record)
