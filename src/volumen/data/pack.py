"""Verify one case and pack it: arrays that can be memory-mapped, and a record of what they were made from.

A record (`cases/ID.json`) is written last, so a case that has one is whole; after an interruption all others are
packed again. Everything that is wrong with a case is collected, not only the first thing.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import AGAIN, FORMAT_VERSION, MANIFEST, Case, Empty
from volumen.data.emptiness import Emptiness, find_emptiness, in_words
from volumen.data.labels import IGNORE, NAMES, SURFACE, LabelMeanings, count_values, to_canonical
from volumen.data.layout import RawCase
from volumen.data.meanings import FILE as MEANINGS
from volumen.data.normalise import statistics_of
from volumen.data.packed import Packed
from volumen.data.randomness import generator
from volumen.data.spacing import beside
from volumen.data.volumes import Volume, load_volume
from volumen.errors import UserError
from volumen.files import sha256_of, write_atomically
from volumen.system.records import open_record, read_bounded, write_record

MOST_POSITIONS = 200_000
RECORDS = "cases"
OUTDATED = "manifest.outdated.json"


@dataclass(frozen=True)
class Examined:
    """What came of a case: the packed case, or problems; the label's own values either way, where it was readable."""

    case: Case | None
    problems: tuple[str, ...] = ()
    values: Mapping[int, int] | None = None
    mended: bool = False
    """True where the case had been packed from the same files, but a packed file was not what had been written."""


def pack_case(
    source: RawCase, dataset: Path, out: Path, meanings: LabelMeanings | None, *, accept_changes: bool = False
) -> Examined:
    """Verify a case and pack it into `out`; without meanings only verify it.

    Args:
        source: its files.
        dataset: folder of the data set; sources are recorded relative to it.
        out: folder of the prepared data set.
        meanings: declared meanings of the label values.
        accept_changes: pack a file again that has changed since it was packed, instead of calling that a problem.
    """
    before, mended = _read_record(out, source.id), False
    if before is not None and meanings is not None:
        packed, declared = before
        if not accept_changes and (changed := changed_sources(packed, dataset)):
            return Examined(None, tuple(changed))
        if declared == _declared(meanings) and _is_current(packed, source):
            if _is_whole(packed, out):
                return Examined(_as_found(packed, source, dataset))
            mended = True
    problems: list[str] = []
    image = _load(source.image, problems)
    label = None if source.label is None else _load(source.label, problems)
    if image is not None:
        emptiness = find_emptiness(image.array, None if meanings is None else meanings.empty)
        problems += _image_problems(source.image, image.array, emptiness)
    values = None if label is None else count_values(label.array)
    if source.label is not None and label is not None and values is not None:
        if image is not None:
            problems += _pair_problems(source.label, image, label, meanings)
        if meanings is not None:
            problems += _label_problems(source.label, values, meanings)
    if problems or meanings is None or image is None:
        return Examined(None, tuple(problems), values)
    try:
        case = _pack(source, dataset, out, image, label, meanings, emptiness)
    except UserError as error:
        return Examined(None, (str(error),), values)
    return Examined(case, values=values, mended=mended)


def changed_sources(case: Case, dataset: Path) -> list[str]:
    """Files of a case whose content is not what was packed, one message each; missing files are left to others."""
    messages = []
    for relative, recorded in ((case.image_source, case.image_sha256), (case.label_source, case.label_sha256)):
        path = None if relative is None else dataset / relative
        if path is None or not path.is_file():
            continue
        found = sha256_of(path)
        if found != recorded:
            messages.append(
                f"{path} has changed since it was packed (SHA-256 {found[:12]}, recorded {str(recorded)[:12]}): "
                "restore it, or pass --accept-changes to pack it again"
            )
    return messages


def _load(path: Path, problems: list[str]) -> Volume | None:
    try:
        return load_volume(path)
    except UserError as error:
        problems.append(str(error))
        return None


def _image_problems(path: Path, image: NDArray[Any], emptiness: Emptiness) -> list[str]:
    low, high = int(image.min()), int(image.max())
    if low == high:
        return [f"{path} is constant (every voxel is {low}): an empty export? remove the case or export it again"]
    if emptiness.share == 1:
        said = in_words(emptiness.values, emptiness.share)
        return [f"{path}: {said}: remove the case, or say in {MEANINGS} what is empty (empty: ...)"]
    return []


def _pair_problems(path: Path, image: Volume, label: Volume, meanings: LabelMeanings | None) -> list[str]:
    problems = []
    if image.array.shape != label.array.shape:
        problems.append(
            f"{path} has shape {list(label.array.shape)}, its image has {list(image.array.shape)}: export both from "
            "the same volume"
        )
    is_declared = meanings is not None and meanings.spacing_um is not None
    if not is_declared and image.spacing and label.spacing and not image.spacing.agrees(label.spacing):
        problems.append(
            f"{path} says that its voxels are {label.spacing}, its image {image.spacing}: is it of another volume? "
            "otherwise declare spacing_um in dataset.yaml, which counts for all"
        )
    return problems


def _label_problems(path: Path, values: Mapping[int, int], meanings: LabelMeanings) -> list[str]:
    problems = [
        f"{path} holds the value {value} in {count} voxels, declared are {meanings.written}: "
        f"declare it in dataset.yaml (labels: {{{value}: background | surface | ignore}}) or mend the file"
        for value, count in values.items()
        if meanings.code_of(value) is None
    ]
    if not problems and all(meanings.code_of(value) == IGNORE for value in values):
        problems.append(f"{path}: every voxel is ignored, nothing can be learned from it: remove the case or label it")
    return problems


def _pack(
    source: RawCase,
    dataset: Path,
    out: Path,
    image: Volume,
    label: Volume | None,
    meanings: LabelMeanings,
    emptiness: Emptiness,
) -> Case:
    scan, histogram, codes = emptiness.scan, None, None
    surface = np.zeros(image.array.shape, dtype=bool)
    if label is not None:
        codes = to_canonical(label.array, meanings)
        histogram = {code: count_values(codes).get(code, 0) for code in NAMES}
        surface = codes == SURFACE
        if scan is not None and np.all(codes[scan] == IGNORE):
            raise UserError(
                f"{source.label}: every labelled voxel lies where the scan holds nothing "
                f"({in_words(emptiness.values, emptiness.share)}): remove the case, or say in {MEANINGS} what is empty"
            )
    _retire_manifest(out)
    depth, height, width = image.array.shape
    lost = None if scan is None else Empty(emptiness.values, _count(~scan), _count(surface & ~scan))
    case = Case(
        id=source.id,
        scroll_id=source.scroll_id,
        shape=(depth, height, width),
        dtype=image.array.dtype.name,
        statistics=statistics_of(image.array, scan),
        image_source=_relative(source.image, dataset),
        image_sha256=image.sha256,
        label_source=None if source.label is None else _relative(source.label, dataset),
        label_sha256=None if label is None else label.sha256,
        label_histogram=histogram,
        packed=_save_parts(out, source.id, image.array, codes, scan),
        empty=lost,
        spacing=image.spacing,
    )
    record = {"version": FORMAT_VERSION, "meanings": _declared(meanings), "case": case.to_json()}
    path = out / RECORDS / f"{case.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, record)
    return case


def _save_parts(
    out: Path, case_id: str, image: NDArray[Any], codes: NDArray[np.uint8] | None, scan: NDArray[np.bool_] | None
) -> dict[str, Packed]:
    arrays = {"images": image}
    if scan is not None:
        arrays["empty"] = (~scan).view(np.uint8)
    if codes is not None:
        scanned = codes == SURFACE if scan is None else (codes == SURFACE) & scan
        arrays |= {"labels": codes, "surface": sample_positions(scanned, "surface", case_id)}
        if scan is not None:
            arrays["scan"] = sample_positions(scan, "scan", case_id)
    return {part: _save(out, part, case_id, array) for part, array in arrays.items()}


def _count(where: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(where))


def _declared(meanings: LabelMeanings) -> dict[str, Any]:
    """What a data set says that a packed case depends on."""
    record = meanings.to_json()
    return {"labels": record["labels"], "empty": record["empty"]}


def sample_positions(where: NDArray[np.bool_], kind: str, case_id: str) -> NDArray[np.uint16]:
    """Coordinates uint16 [N, 3] (z y x, in the array's order) of at most 200,000 voxels, the same at each call.

    `kind` and `case_id` name the random stream; sides of `where` [Z, Y, X] are below 65,536.
    """
    found = np.flatnonzero(where)
    if found.size > MOST_POSITIONS:
        random = generator(0, 0, 0, f"{kind} positions of {case_id}")
        found = np.sort(random.choice(found, MOST_POSITIONS, replace=False, shuffle=False))
    return np.stack(np.unravel_index(found, where.shape), axis=1).astype(np.uint16)


def was_complete(out: Path) -> bool:
    """Whether the folder once held a whole data set: from then on, a file that changes is a matter to be told."""
    return (out / MANIFEST).is_file() or (out / OUTDATED).is_file()


def _retire_manifest(out: Path) -> None:
    """Before an array changes, the manifest that describes it goes; no reader ever sees the two disagree."""
    with suppress(FileNotFoundError):
        os.replace(out / MANIFEST, out / OUTDATED)


def _save(out: Path, part: str, case_id: str, array: NDArray[Any]) -> Packed:
    path = out / part / f"{case_id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    content = stream.getbuffer()
    write_atomically(path, content)
    return Packed(len(content), hashlib.sha256(content).hexdigest())  # of what was to be written, not of what was


def _read_record(out: Path, case_id: str) -> tuple[Case, dict[str, Any]] | None:
    """A case's record with the meanings it was packed under; None where there is none that can be used."""
    path = out / RECORDS / f"{case_id}.json"
    if not path.is_file():
        return None
    try:
        record = open_record(read_bounded(path, AGAIN), path, AGAIN)
        if record["version"] != FORMAT_VERSION:
            return None
        return Case.from_json(record["case"], path), dict(record["meanings"])
    except (UserError, KeyError, TypeError, ValueError):
        return None  # it will be packed anew, which is always right


def _is_current(case: Case, source: RawCase) -> bool:
    """Whether the case was packed from the files as they are now."""
    if case.has_label != (source.label is not None) or sha256_of(source.image) != case.image_sha256:
        return False
    return source.label is None or sha256_of(source.label) == case.label_sha256


def _is_whole(case: Case, out: Path) -> bool:
    """Whether the packed files are what was written."""
    paths = {part: out / part / f"{case.id}.npy" for part in case.packed}
    return all(path.is_file() and sha256_of(path) == case.packed[part].sha256 for part, path in paths.items())


def _as_found(case: Case, source: RawCase, dataset: Path) -> Case:
    """Scroll, file names and the voxel size beside a file may have been corrected since; that needs no packing."""
    return replace(
        case,
        scroll_id=source.scroll_id,
        image_source=_relative(source.image, dataset),
        label_source=None if source.label is None else _relative(source.label, dataset),
        spacing=beside(source.image) or case.spacing,
    )


def _relative(path: Path, dataset: Path) -> str:
    return path.relative_to(dataset).as_posix()
