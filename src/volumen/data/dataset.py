"""A prepared data set: the manifest that `prepare` writes and the arrays it packs, opened for reading.

Layout of the folder: `manifest.json`, `images/ID.npy` (grey values as stored), `labels/ID.npy` (uint8, canonical
codes), `surface/ID.npy` (a sample of surface voxels' coordinates). Arrays are memory-mapped: cutting a patch out of a
mapped array takes milliseconds, out of an LZW TIFF a quarter of a second.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volumen.data.labels import CODES, IGNORE, NAMES, SURFACE, LabelMeanings
from volumen.data.normalise import IntensityStatistics
from volumen.errors import UserError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
PARTS = ("images", "labels", "surface")


@dataclass(frozen=True)
class Packed:
    """A packed array's file: its size in bytes and its SHA-256."""

    size: int
    sha256: str


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
    """Packed files by part: images, labels, surface."""

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
    def valid_voxels(self) -> int:
        """Number of voxels with a label other than ignore; 0 without a label."""
        return 0 if self.label_histogram is None else self.voxels - self.label_histogram[IGNORE]

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for the manifest."""
        record = asdict(self)
        record["shape"] = list(self.shape)
        if self.label_histogram is not None:
            record["label_histogram"] = {NAMES[code]: count for code, count in self.label_histogram.items()}
        return record

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "Case":
        """The case of a manifest's record; a missing or unknown key is a KeyError or TypeError."""
        fields = dict(record)
        z, y, x = (int(side) for side in fields.pop("shape"))
        histogram = fields.pop("label_histogram")
        return Case(
            **{name: fields.pop(name) for name in tuple(fields) if name not in ("statistics", "packed")},
            shape=(z, y, x),
            statistics=IntensityStatistics(**fields["statistics"]),
            label_histogram=None if histogram is None else {CODES[name]: int(n) for name, n in histogram.items()},
            packed={part: Packed(**entry) for part, entry in fields["packed"].items()},
        )

    @property
    def content(self) -> dict[str, Any]:
        """What makes the case the same case, wherever the files lie."""
        kept = ("id", "scroll_id", "shape", "dtype", "image_sha256", "label_sha256", "label_histogram")
        record = self.to_json()
        return {name: record[name] for name in kept}


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
    _maps: dict[tuple[str, str], NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path | str) -> "PreparedDataset":
        """Open a folder written by `volumen prepare`, checking cheaply that it is whole.

        Raises:
            UserError: there is no manifest, it is of another version or damaged, or a packed file is missing or of
                another size than recorded.
        """
        root = Path(folder)
        record = _read_manifest(root)
        try:
            described = record["meanings"]
            spacing = described["spacing_um"]
            meanings = LabelMeanings(
                codes={int(value): CODES[name] for value, name in described["labels"].items()},
                spacing_um=None if spacing is None else tuple(spacing),
                description=described["description"],
            )
            cases = tuple(Case.from_json(entry) for entry in record["cases"])
            recorded, source, notes = str(record["identity"]), str(record["source"]), tuple(record["notes"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{root / MANIFEST} is damaged ({error!r}): run `volumen prepare` again") from error
        if identity_of(meanings, cases) != recorded:
            raise UserError(f"{root / MANIFEST} was changed by hand (identity differs): run `volumen prepare` again")
        dataset = cls(root, cases, meanings, recorded, source, notes)
        dataset._check_files()
        return dataset

    def _check_files(self) -> None:
        problems = []
        for case in self.cases:
            for part, packed in case.packed.items():
                path = self.path(case.id, part)
                size = path.stat().st_size if path.is_file() else None
                if size is None:
                    problems.append(f"{path} is missing")
                elif size != packed.size:
                    problems.append(f"{path} has {size} bytes, expected {packed.size}")
        if problems:
            shown = "\n  ".join(problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else []))
            raise UserError(
                f"{self.root} is not whole:\n  {shown}\nrun `volumen prepare` again to pack what is missing"
            )

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a label."""
        return tuple(case for case in self.cases if case.has_label)

    def path(self, case_id: str, part: str) -> Path:
        """Where a case's packed part (`images`, `labels`, `surface`) lies."""
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

    def image(self, case_id: str) -> NDArray[Any]:
        """Grey values as stored, memory-mapped, [Z, Y, X]."""
        case = self.case(case_id)
        return self._map(case, "images", case.shape, case.dtype)

    def label(self, case_id: str) -> NDArray[np.uint8]:
        """Canonical codes, memory-mapped, uint8 [Z, Y, X].

        Raises:
            UserError: the case has no label.
        """
        case = self.case(case_id)
        if not case.has_label:
            raise UserError(f"case {case_id} of {self.root} has no label (a test image?): choose a labelled case")
        return self._map(case, "labels", case.shape, "uint8")

    def surface_positions(self, case_id: str) -> NDArray[np.uint16]:
        """Coordinates of surface voxels, a fixed random sample of at most 200,000, uint16 [N, 3] in z y x."""
        case = self.case(case_id)
        if not case.has_label:
            raise UserError(f"case {case_id} of {self.root} has no label (a test image?): choose a labelled case")
        return self._map(case, "surface", None, "uint16")

    def _map(self, case: Case, part: str, shape: tuple[int, ...] | None, dtype: str) -> NDArray[Any]:
        key = (case.id, part)
        if key not in self._maps:
            path = self.path(case.id, part)
            try:
                array = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read ({error}): run `volumen prepare` again") from error
            if array.dtype != np.dtype(dtype) or (shape is not None and array.shape != shape):
                raise UserError(
                    f"{path} holds {array.dtype} {list(array.shape)}, the manifest says {dtype} {list(shape or ())}: "
                    "run `volumen prepare` again"
                )
            self._maps[key] = array
        return self._maps[key]

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped arrays: a worker process maps the files itself instead of being sent their content."""
        state = dict(self.__dict__)
        state["_maps"] = {}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{root} is not a prepared data set: it has no {MANIFEST}. "
            f"Run `volumen prepare DATASET --out {root}` first, and let it finish"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): run `volumen prepare` again") from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this volumen reads {FORMAT_VERSION}: run `volumen prepare` again "
            "into a new folder"
        )
    return dict(record)
