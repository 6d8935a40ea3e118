"""Read and write data sets in the folder layout of nnU-Net version 2, as TIFF.

`imagesTr/CASE_0000.tif`, `labelsTr/CASE.tif`, `imagesTs/CASE_0000.tif`, `dataset.json` with channel names, labels by
name and the file ending; beside each TIFF `CASE.json` holds the spacing, where it is known. There the label of
unlabelled voxels is called `ignore` and is the highest one, which the canonical codes are.

Source: nnU-Net's documentation of its data set format (Isensee et al. 2021; https://github.com/MIC-DKFZ/nnUNet).
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import PreparedDataset
from volumen.data.labels import CODES, NAMES
from volumen.data.listing import SUFFIXES, list_volumes
from volumen.data.meanings import FILE as MEANINGS
from volumen.data.spacing import Spacing, beside, sidecar_of, sidecar_text
from volumen.data.volumes import encode_volume, load_volume
from volumen.errors import UserError
from volumen.files import atomic_path, write_atomically
from volumen.system.locks import folder_in_the_making, hold
from volumen.system.names import checked_name, shown, some
from volumen.system.output import Progress, unheard
from volumen.system.places import writable_folder
from volumen.system.records import parse_json, read_bounded, typed

INDEX = "dataset.json"
CHANNEL = "_0000"
MOST_INDEX_BYTES = 2**20
_MOST = 20  # of anything, in a message


@dataclass(frozen=True)
class Index:
    """What is read of a `dataset.json`; nnU-Net knows more keys."""

    channel_names: dict[str, str]
    labels: dict[str, int | list[int]]
    file_ending: str


def export_nnunet(dataset: PreparedDataset, out: Path, progress: Progress = unheard) -> int:
    """Write a prepared data set as an nnU-Net data set, and count its cases; files that hold the same already are kept.

    Args:
        dataset: Its labels are written in canonical codes: 0 background, 1 surface, 2 ignore.
        out: Folder, by nnU-Net's rule called DatasetNNN_Name.
        progress: Told the case, how many are done and how many there are.

    Raises:
        UserError: The folder's name is not nnU-Net's, it cannot be written to, another process writes there, or it
            holds other cases or other voxels.
    """
    number = out.name.removeprefix("Dataset").split("_")[0]
    if not (out.name.startswith("Dataset") and re.fullmatch("[0-9]{3}", number) and "_" in out.name):
        raise UserError(f"nnU-Net wants a folder called DatasetNNN_Name, got {out.name}: such as Dataset501_Scrolls")
    writable_folder(out)
    with hold(out, "export"):
        _refuse_other_cases(dataset, out)
        for done, case in enumerate(dataset.cases):
            progress(case.id, done, len(dataset.cases))
            spacing = dataset.spacing(case.id)
            images = out / ("imagesTr" if case.has_label else "imagesTs")
            parts = {images / f"{case.id}{CHANNEL}.tif": dataset.image(case.id)}
            if case.has_label:
                parts[out / "labelsTr" / f"{case.id}.tif"] = dataset.label(case.id)
            for path, volume in parts.items():
                _write(path, np.asarray(volume), spacing)
                sidecar = path.with_name(f"{case.id}.json")
                if spacing is not None and spacing.whole is not None:
                    write_atomically(sidecar, sidecar_text(spacing))
                else:  # nothing is known, and nothing is invented
                    sidecar.unlink(missing_ok=True)
        index = {
            "channel_names": {"0": "CT"},
            "labels": dict(sorted(CODES.items(), key=lambda pair: pair[1])),
            "numTraining": len(dataset.labelled),
            "file_ending": ".tif",
            "overwrite_image_reader_writer": "Tiff3DIO",
        }
        write_atomically(out / INDEX, json.dumps(index, indent=1) + "\n")
    return len(dataset.cases)


def _refuse_other_cases(dataset: PreparedDataset, out: Path) -> None:
    """Nothing of another data set stays behind, and nothing is written through a link to elsewhere."""
    wanted = {
        "imagesTr": {f"{case.id}{CHANNEL}.tif" for case in dataset.cases if case.has_label},
        "labelsTr": {f"{case.id}.tif" for case in dataset.cases if case.has_label},
        "imagesTs": {f"{case.id}{CHANNEL}.tif" for case in dataset.cases if not case.has_label},
    }
    for case in dataset.cases:
        checked_name(case.id, "case id", dataset.root)
    for name, files in wanted.items():
        if (out / name).is_symlink():
            raise UserError(f"{out / name} is a link to another place: remove it, or choose another folder")
        for path in list_volumes(out / name).files.values() if (out / name).is_dir() else ():
            if path.name not in files:
                raise UserError(f"{path} is not of the data set {dataset.root}: remove it, or choose another folder")


def import_nnunet(folder: Path, out: Path, *, surface: Sequence[str] = ()) -> int:
    """Lay an nnU-Net data set out as `volumen prepare` reads it, with its label meanings declared, and count its cases.

    Args:
        folder: DatasetNNN_Name with `dataset.json`; its files are linked where the file system can, and else copied.
        out: New folder, in the competition's layout.
        surface: Names of the labels that are surface, where there are several beside background and ignore.

    Raises:
        UserError: No such data set, not TIFF, several channels, names that are none, or labels whose meaning is not
            clear; or `out` cannot be made, or is not empty.
    """
    index = _read_index(folder)
    channels, ending = index.channel_names, index.file_ending
    if len(channels) != 1:
        raise UserError(f"{folder} has {len(channels)} channels ({some(channels.values())}): one is read")
    if ending not in SUFFIXES:
        raise UserError(f"{folder} holds {shown(ending)} files, TIFF is read: convert them (and its file_ending) first")
    meanings = _meanings(folder, index.labels, surface)
    pairs = _files(folder, ending)
    with folder_in_the_making(out) as making:
        for source, target in pairs:
            _link(source, making / target)
        listed = "\n".join(f"  {value}: {NAMES[code]}" for value, code in sorted(meanings.items()))
        write_atomically(making / MEANINGS, f"# From an nnU-Net data set.\nlabels:\n{listed}\n")
    return sum(target.match("*_images/*.tif") for _, target in pairs)


def _read_index(folder: Path) -> Index:
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder} is no nnU-Net data set: it has no {INDEX}")
    fix = "mend it by nnU-Net's description of it (version 2), or export the data set again"
    values = parse_json(read_bounded(path, fix, MOST_INDEX_BYTES), path, fix, unique_keys=True)
    index: Index = typed(values, Index, path, fix)
    return index


def _meanings(folder: Path, labels: Mapping[str, int | list[int]], surface: Sequence[str]) -> dict[int, int]:
    """Canonical code by the data set's value; what is neither background, ignore nor named is refused, not guessed."""
    path = folder / INDEX
    values = {name: value for name, value in labels.items() if isinstance(value, int)}
    if len(values) < len(labels):
        regions = some(name for name in labels if name not in values)
        raise UserError(f"{path}: {regions} are regions of several values: give plain labels")
    value, count = Counter(values.values()).most_common(1)[0] if values else (0, 0)
    if count > 1:
        doubled = some(name for name in values if values[name] == value)
        raise UserError(f"{path}: the value {value} means {doubled}: give each its own")
    unknown = sorted(set(surface) - set(labels))
    if unknown:
        raise UserError(f"{path} has no label {some(unknown)}: it has {some(labels)}")
    others = [name for name in labels if name not in ("background", "ignore")]
    chosen = tuple(surface) or (tuple(others) if len(others) == 1 else ())
    unclear = [name for name in others if name not in chosen]
    if not chosen or unclear:
        raise UserError(
            f"{path} has the labels {some(labels)}: say which are surface (--surface {some(others[:1])}), and "
            "call the others background or ignore there"
            if others
            else f"{path} has no label beside background and ignore: there is no surface"
        )
    return {value: CODES["surface" if name in chosen else name] for name, value in values.items()}


def _files(folder: Path, ending: str) -> list[tuple[Path, Path]]:
    """Every file and where it goes, the JSON with the voxel size beside its volume."""
    pairs: list[tuple[Path, Path]] = []
    problems: list[str] = []
    for source, target, mark in (
        ("imagesTr", "train_images", CHANNEL),
        ("labelsTr", "train_labels", ""),
        ("imagesTs", "test_images", CHANNEL),
    ):
        if not (folder / source).is_dir():
            continue
        found = list_volumes(folder / source, mark=mark)
        problems += [f"{source}: {problem}" for problem in found.problems]
        for case_id, path in found.files.items():
            if not path.is_file() or path.suffix != ending:
                problems.append(f"{source}: {shown(path.name)} is no {ending} file, as file_ending says")
            pairs.append((path, Path(target) / f"{case_id}.tif"))
            sidecar = sidecar_of(path)
            if sidecar is not None and beside(path) is not None:
                pairs.append((sidecar, Path(target) / f"{case_id}.json"))
    if problems:
        more = f" (and {len(problems) - _MOST} more)" if len(problems) > _MOST else ""
        raise UserError(f"{folder} holds no cases under some names: {'; '.join(problems[:_MOST])}{more}: rename them")
    if not pairs:
        raise UserError(f"{folder / 'imagesTr'} holds no case: expected CASE{CHANNEL}{ending}")
    return pairs


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _write(path: Path, volume: NDArray[Any], spacing: Spacing | None) -> None:
    """Write a volume; one that is there stays where it is the same, and is an error where it is another."""
    if path.is_file():
        if not np.array_equal(load_volume(path).array, volume):
            raise UserError(
                f"{path} holds other voxels than the prepared data set: remove it, or choose another folder"
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode_volume(volume, spacing))
