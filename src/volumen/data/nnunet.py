"""Read and write data sets in the folder layout of nnU-Net version 2, as TIFF.

`imagesTr/CASE_0000.tif`, `labelsTr/CASE.tif`, `imagesTs/CASE_0000.tif`, `dataset.json` with channel names, labels by
name and the file ending; beside each TIFF `CASE.json` holds the spacing. There the label of unlabelled voxels is called
`ignore` and is the highest one, which the canonical codes are.

Source: nnU-Net's documentation of its data set format (Isensee et al. 2021; https://github.com/MIC-DKFZ/nnUNet).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.data.dataset import PreparedDataset
from volumen.data.labels import CODES, NAMES
from volumen.data.meanings import FILE as MEANINGS
from volumen.data.volumes import SUFFIXES
from volumen.errors import UserError
from volumen.files import atomic_path, write_atomically

INDEX = "dataset.json"
CHANNEL = "_0000"
Progress = Callable[[str, int, int], None]


def export_nnunet(dataset: PreparedDataset, out: Path, progress: Progress = lambda name, done, of: None) -> int:
    """Write a prepared data set as an nnU-Net data set; files that are there already are kept.

    Args:
        dataset: Its labels are written in canonical codes: 0 background, 1 surface, 2 ignore.
        out: Folder, by nnU-Net's rule called DatasetNNN_Name.
        progress: Told the case, how many are done and how many there are.

    Returns:
        The number of cases.

    Raises:
        UserError: The folder's name is not as nnU-Net wants it.
    """
    number = out.name.removeprefix("Dataset").split("_")[0]
    if not (out.name.startswith("Dataset") and number.isdecimal() and len(number) == 3 and "_" in out.name):
        raise UserError(f"nnU-Net wants a folder called DatasetNNN_Name, got {out.name}: such as Dataset501_Scrolls")
    spacing = json.dumps({"spacing": list(dataset.meanings.spacing_um or (1.0, 1.0, 1.0))}) + "\n"
    for done, case in enumerate(dataset.cases):
        progress(case.id, done, len(dataset.cases))
        images = out / ("imagesTr" if case.has_label else "imagesTs")
        _write(images / f"{case.id}{CHANNEL}.tif", np.asarray(dataset.image(case.id)))
        write_atomically(images / f"{case.id}.json", spacing)
        if case.has_label:
            _write(out / "labelsTr" / f"{case.id}.tif", np.asarray(dataset.label(case.id)))
            write_atomically(out / "labelsTr" / f"{case.id}.json", spacing)
    index = {
        "channel_names": {"0": "CT"},
        "labels": dict(sorted(CODES.items(), key=lambda pair: pair[1])),
        "numTraining": len(dataset.labelled),
        "file_ending": ".tif",
        "overwrite_image_reader_writer": "Tiff3DIO",
    }
    write_atomically(out / INDEX, json.dumps(index, indent=1) + "\n")
    return len(dataset.cases)


def import_nnunet(folder: Path, out: Path, *, surface: Sequence[str] = ()) -> int:
    """Lay an nnU-Net data set out as `volumen prepare` reads it, with its label meanings declared.

    Files are linked where the file system can, and copied elsewhere.

    Args:
        folder: DatasetNNN_Name with `dataset.json`.
        out: New folder, in the competition's layout.
        surface: Names of the labels that are surface; only needed where there are several beside background and ignore.

    Returns:
        The number of cases.

    Raises:
        UserError: No such data set, not TIFF, several channels, or labels whose meaning is not clear.
    """
    index = _read_index(folder)
    channels = index.get("channel_names", {})
    if len(channels) != 1:
        raise UserError(
            f"{folder} has {len(channels)} channels ({', '.join(map(str, channels.values()))}): one is read"
        )
    if index.get("file_ending") not in SUFFIXES:
        raise UserError(
            f"{folder} holds {index.get('file_ending')} files, TIFF is read: convert them (and its file_ending) first"
        )
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another folder")
    meanings = _meanings(folder, index["labels"], surface)
    pairs = list(_files(folder, str(index["file_ending"])))
    if not pairs:
        raise UserError(f"{folder / 'imagesTr'} holds no case: expected CASE{CHANNEL}{index['file_ending']}")
    for source, target in pairs:
        _link(source, out / target)
    listed = "\n".join(f"  {value}: {NAMES[code]}" for value, code in sorted(meanings.items()))
    write_atomically(out / MEANINGS, f"# From {folder.name}/{INDEX}.\nlabels:\n{listed}\n")
    return sum(target.parts[0].endswith("images") for _, target in pairs)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise UserError(f"{folder} is no nnU-Net data set: it has no {INDEX}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index["labels"], dict):
            raise TypeError("labels must be a mapping")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged, or of nnU-Net version 1 ({error!r})") from error
    return dict(index)


def _meanings(folder: Path, labels: dict[str, Any], surface: Sequence[str]) -> dict[int, int]:
    """Canonical code by the data set's value; what is neither background, ignore nor named is refused, not guessed."""
    regions = [name for name, value in labels.items() if not isinstance(value, int)]
    if regions:
        raise UserError(f"{folder / INDEX}: {', '.join(regions)} are regions of several values: give plain labels")
    unknown = sorted(set(surface) - set(labels))
    if unknown:
        raise UserError(f"{folder / INDEX} has no label {', '.join(unknown)}: it has {', '.join(labels)}")
    others = [name for name in labels if name not in ("background", "ignore")]
    chosen = tuple(surface) or (tuple(others) if len(others) == 1 else ())
    unclear = [name for name in others if name not in chosen]
    if not chosen or unclear:
        raise UserError(
            f"{folder / INDEX} has the labels {', '.join(labels)}: say which are surface (--surface {others[0]}), and "
            "call the others background or ignore there"
            if others
            else f"{folder / INDEX} has no label beside background and ignore: there is no surface"
        )
    return {value: CODES["surface" if name in chosen else name] for name, value in labels.items()}


def _files(folder: Path, ending: str) -> Iterator[tuple[Path, Path]]:
    """Every file and where it goes."""
    for source, target, mark in (
        ("imagesTr", "train_images", CHANNEL),
        ("labelsTr", "train_labels", ""),
        ("imagesTs", "test_images", CHANNEL),
    ):
        for path in sorted((folder / source).glob(f"*{mark}{ending}")):
            yield path, Path(target) / f"{path.name.removesuffix(ending).removesuffix(mark)}.tif"


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _write(path: Path, volume: NDArray[Any]) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, volume, compression="zlib", photometric="minisblack")
