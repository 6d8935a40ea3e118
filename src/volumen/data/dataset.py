"""A prepared data set: the manifest that `prepare` writes and the arrays it packs, opened for reading.

Layout of the folder: `manifest.json`, `images/ID.npy` (grey values as stored), `labels/ID.npy` (uint8, canonical
codes), `surface/ID.npy` (a sample of surface voxels' coordinates); where the scan does not fill the volume also
`empty/ID.npy` (uint8, 1 where it holds nothing) and `scan/ID.npy` (a sample of coordinates where it does). Arrays are
uncompressed: cutting a patch out of one takes milliseconds, out of an LZW TIFF a quarter of a second. The manifest
carries its check, and every array is hashed before it counts (`data.packed`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import CODES, IGNORE, NAMES, SURFACE, LabelMeanings, Lesson
from volumen.data.normalise import IntensityStatistics
from volumen.data.packed import Packed, PackedArray, Volume
from volumen.data.spacing import Spacing
from volumen.errors import DamagedError, UserError
from volumen.system.names import checked_name
from volumen.system.records import open_record, parse_json, read_bounded, typed

MANIFEST = "manifest.json"
FORMAT_VERSION = 3
PARTS = ("images", "labels", "surface", "empty", "scan")
AGAIN = "run `volumen prepare` again"


@dataclass(frozen=True)
class Empty:
    """What a scan does not hold (`data.emptiness`)."""

    values: tuple[int, ...]
    """Grey values that were taken for empty."""
    voxels: int
    surface_voxels: int
    """Of these, those that are labelled as surface."""


@dataclass(frozen=True)
class Case:
    """One volume of a data set."""

    id: str
    scroll_id: str
    shape: tuple[int, int, int]
    """z, y, x."""
    dtype: str
    statistics: IntensityStatistics
    image_source: str
    """Path of the image file, relative to the data set's folder."""
    image_sha256: str
    """Of the image file as it was when it was packed."""
    label_source: str | None
    label_sha256: str | None
    label_histogram: Mapping[int, int] | None
    """Voxels by canonical code; None without a label."""
    packed: Mapping[str, Packed]
    """Packed files by part: images, labels, surface, empty, scan."""
    empty: Empty | None = None
    """None where the scan fills the volume."""
    spacing: Spacing | None = None
    """Size of a voxel, where the image's file says one."""

    @property
    def has_label(self) -> bool:
        """Whether the case has a label; test images have none."""
        return self.label_histogram is not None

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def surface_voxels(self) -> int:
        """Number of voxels labelled as surface; 0 without a label."""
        return 0 if self.label_histogram is None else self.label_histogram[SURFACE]

    @property
    def scan_voxels(self) -> int:
        """Number of voxels where the scan holds something."""
        return self.voxels - (0 if self.empty is None else self.empty.voxels)

    @property
    def scanned_surface(self) -> int:
        """Number of voxels labelled as surface where the scan holds something: those that can be learned from."""
        return self.surface_voxels - (0 if self.empty is None else self.empty.surface_voxels)

    @property
    def valid_voxels(self) -> int:
        """Number of voxels with a label other than ignore; 0 without a label."""
        return 0 if self.label_histogram is None else self.voxels - self.label_histogram[IGNORE]

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for the manifest."""
        counts = self.label_histogram
        named = None if counts is None else {NAMES[code]: count for code, count in counts.items()}
        return {**asdict(self), "label_histogram": named}

    @staticmethod
    def from_json(record: Any, where: object) -> "Case":
        """The case of a manifest's record.

        Raises:
            DamagedError: A field is missing, unknown or of another type, or its id or a source is no name.
        """
        if isinstance(record, dict) and isinstance(record.get("label_histogram"), dict):
            histogram = {str(CODES.get(name, name)): count for name, count in record["label_histogram"].items()}
            record = {**record, "label_histogram": histogram}
        case: Case = typed(record, Case, where, AGAIN)
        checked_name(case.id, "case id", where)
        for source in (case.image_source, *([] if case.label_source is None else [case.label_source])):
            for part in source.split("/"):
                checked_name(part, f"source of case {case.id}", where)
        parts = {"images"} | ({"labels", "surface"} if case.has_label else set())
        if case.empty is not None:
            parts |= {"empty", "scan"} if case.has_label else {"empty"}
        if set(case.packed) != parts or min(case.shape) < 1 or np.dtype(case.dtype).kind not in "ui":
            raise DamagedError(f"{where} is damaged (case {case.id} has other parts, shape or type): {AGAIN}")
        return case

    @property
    def content(self) -> dict[str, Any]:
        """What a network can learn of the case: neither where the files lie, nor the size of their voxels."""
        elsewhere = ("image_source", "label_source", "packed", "spacing")
        return {name: value for name, value in self.to_json().items() if name not in elsewhere}


def identity_of(meanings: LabelMeanings, cases: tuple[Case, ...]) -> str:
    """SHA-256 over label meanings and the content of all cases; independent of paths, order and versions."""
    content = {
        "labels": meanings.to_json()["labels"],
        "cases": sorted((case.content for case in cases), key=lambda record: str(record["id"])),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class PreparedDataset:
    """A data set that `volumen prepare` has verified and packed."""

    root: Path
    cases: tuple[Case, ...]
    """All cases by id, those without a label too."""
    meanings: LabelMeanings
    identity: str
    """Hash of the manifest's content; folds and checkpoints are tied to it."""
    source: str
    """Folder of the original files, as given to `prepare`."""
    notes: tuple[str, ...] = ()
    """What `prepare` assumed or found remarkable."""
    is_trusting: bool = False
    """Arrays are not verified when they are read, since `data.packed.Verification` does so meanwhile."""
    _arrays: dict[tuple[str, str], Volume] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path | str) -> "PreparedDataset":
        """Open a folder written by `volumen prepare`, checking cheaply that it is whole.

        Raises:
            UserError: there is no manifest, it is of another version or damaged, or a packed file is missing or of
                another size than recorded.
        """
        root = Path(folder)
        manifest, path = _read_manifest(root), root / MANIFEST
        cases = tuple(Case.from_json(entry, path) for entry in manifest.cases)
        meanings, declared = LabelMeanings.of_names(**vars(manifest.meanings)), manifest.meanings.labels
        if len({case.id for case in cases}) < len(cases) or len(meanings.to_json()["labels"]) < len(declared):
            raise UserError(f"{path} is damaged (a case or a label value stands in it twice): {AGAIN}")
        if identity_of(meanings, cases) != manifest.identity:
            raise UserError(f"{path} was changed by hand (identity differs): {AGAIN}")
        dataset = cls(root, cases, meanings, manifest.identity, manifest.source, manifest.notes)
        dataset._check_files()
        return dataset

    def _check_files(self) -> None:
        problems = []
        for case in self.cases:
            for part, packed in case.packed.items():
                path = self.path(case.id, part)
                if not path.is_file():
                    problems.append(f"{path} is missing")
                elif (size := path.stat().st_size) != packed.size:
                    problems.append(f"{path} has {size} bytes, expected {packed.size}")
        if problems:
            more = [f"and {len(problems) - 20} more"] * (len(problems) > 20)
            shown = "\n  ".join(["", *problems[:20], *more])
            raise UserError(f"{self.root} is not whole:{shown}\n{AGAIN} to pack what is missing")

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.has_label)

    def path(self, case_id: str, part: str) -> Path:
        """Where a case's packed part lies."""
        return self.root / part / f"{case_id}.npy"

    def case(self, case_id: str) -> Case:
        """The case of that id.

        Raises:
            UserError: there is none.
        """
        if case_id not in self._by_id:
            known = sorted(self._by_id)
            shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
            raise UserError(f"case {case_id} is not in the data set {self.root}: it has {shown}")
        return self._by_id[case_id]

    def image(self, case_id: str) -> Volume:
        """Grey values as stored, [Z, Y, X]."""
        return self._array(self.case(case_id), "images")

    def label(self, case_id: str) -> Volume:
        """Canonical codes, uint8 [Z, Y, X].

        Raises:
            UserError: the case has no label.
        """
        return self._array(self._labelled_case(case_id), "labels")

    def lesson(self, case_id: str) -> Volume | Lesson:
        """As `label`, but ignore where the scan holds nothing: what is learned from.

        Raises:
            UserError: the case has no label.
        """
        label, empty = self.label(case_id), self.empty(case_id)
        return label if empty is None else Lesson(label, empty)

    def empty(self, case_id: str) -> Volume | None:
        """Other than 0 where the scan holds nothing, uint8 [Z, Y, X]; None where it fills the volume."""
        case = self.case(case_id)
        return None if case.empty is None else self._array(case, "empty")

    def scan(self, case_id: str) -> NDArray[np.bool_] | None:
        """Where the scan holds something, bool [Z, Y, X]; None where it fills the volume."""
        empty = self.empty(case_id)
        return None if empty is None else np.asarray(empty) == 0

    def surface_positions(self, case_id: str) -> Volume:
        """Coordinates of scanned surface voxels, a fixed random sample of at most 200,000, uint16 [N, 3] in z y x.

        Raises:
            UserError: the case has no label.
        """
        return self._array(self._labelled_case(case_id), "surface")

    def scan_positions(self, case_id: str) -> Volume | None:
        """As `surface_positions`, anywhere in the scan; None where it fills the volume."""
        case = self._labelled_case(case_id)
        return None if case.empty is None else self._array(case, "scan")

    def files(self, case_ids: Sequence[str]) -> Iterator[PackedArray]:
        """All packed files of some cases."""
        for case in map(self.case, case_ids):
            for part in case.packed:
                yield self._opened(case, part, trusting=False)

    def spacing(self, case_id: str) -> Spacing | None:
        """Size of a case's voxels: what `dataset.yaml` declares of all, or what the image's file says of itself."""
        declared = self.meanings.spacing_um
        return self.case(case_id).spacing if declared is None else Spacing(*declared)

    def trusting(self) -> "PreparedDataset":
        """The same data set, whose arrays are not verified when they are read: somebody else has to."""
        return replace(self, is_trusting=True, _arrays={})

    def _labelled_case(self, case_id: str) -> Case:
        case = self.case(case_id)
        if not case.has_label:
            raise UserError(f"case {case_id} of {self.root} has no label (a test image?): choose a labelled case")
        return case

    def _array(self, case: Case, part: str) -> Volume:
        key = (case.id, part)
        if key not in self._arrays:
            self._arrays[key] = self._opened(case, part, trusting=self.is_trusting)
        return self._arrays[key]

    def _opened(self, case: Case, part: str, *, trusting: bool) -> PackedArray:
        kinds = {"images": (case.shape, case.dtype), "labels": (case.shape, "uint8"), "empty": (case.shape, "uint8")}
        shape, dtype = kinds.get(part, (None, "uint16"))
        return PackedArray(self.path(case.id, part), case.packed[part], shape, dtype, trusting=trusting)


def surface_share(dataset: PreparedDataset, case_ids: Sequence[str]) -> float:
    """Share of surface among the labelled voxels, held away from 0 and 1."""
    cases = [dataset.case(case_id) for case_id in case_ids]
    share = sum(case.surface_voxels for case in cases) / max(sum(case.valid_voxels for case in cases), 1)
    return min(max(share, 1e-3), 1 - 1e-3)


@dataclass(frozen=True)
class _Meanings:
    labels: Mapping[str, str]
    spacing_um: tuple[float, float, float] | None
    description: str
    empty: tuple[int, ...] | None


@dataclass(frozen=True)
class _Manifest:
    """`manifest.json`, its cases still plain."""

    version: int
    identity: str
    source: str
    meanings: _Meanings
    versions: dict[str, str]
    notes: tuple[str, ...]
    cases: tuple[dict[str, Any], ...]


def _read_manifest(root: Path) -> _Manifest:
    path = root / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{root} is not a prepared data set: it has no {MANIFEST}. Where it was moved, name its new place with "
            f"--dataset; otherwise run `volumen prepare DATASET --out {root}` first, and let it finish"
        )
    content = read_bounded(path, AGAIN)
    plain = parse_json(content, path, AGAIN)
    version = plain.get("version") if isinstance(plain, dict) else None
    if type(version) is int and version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this volumen reads {FORMAT_VERSION}: {AGAIN} into a new folder"
        )
    record = open_record(content, path, AGAIN)
    manifest: _Manifest = typed(record, _Manifest, path, AGAIN)
    return manifest
