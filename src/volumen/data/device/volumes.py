"""Where the volumes of a training lie: in the device's memory, as many as there is room for, the others in files.

A volume is loaded when the first patch of it is made, and its files are believed or verified as everywhere
(`data.packed`). Of volumes that stay in files, which the system keeps in its memory, the region of each patch is cut by
the host and copied over from page-locked memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.data.augment import Shape
from volumen.data.dataset import Case
from volumen.data.device.filling import fill_in
from volumen.data.device.grid import Field, Source, pinned
from volumen.data.labels import IGNORE
from volumen.data.normalise import normalise
from volumen.data.sampling import PatchDataset

BLOCK = 16
"""Side of the cubes in which labelled and empty voxels are counted."""
SHARE_OF_FREE = 0.6
"""Of the memory that is free on a device before the first step, what volumes may take."""
KEPT_FREE = 0.1
"""Of a device's memory: no volume is loaded into it, whatever the steps have taken meanwhile."""


@dataclass(frozen=True)
class _Held:
    """A volume on the device."""

    image: Tensor
    lesson: Tensor
    empty: Tensor | None
    labelled: NDArray[np.int64]
    """Sums of labelled voxels over all cubes before a corner."""
    emptied: NDArray[np.int64] | None


class Volumes:
    """The volumes that patches are cut from.

    Args:
        patches: Whose cases they are.
        device: Where the patches are made.
        budget_bytes: What the volumes may take there; None is a share of what is free.
    """

    def __init__(self, patches: PatchDataset, device: torch.device, budget_bytes: int | None = None) -> None:
        self.patches, self.device = patches, device
        left = _free_bytes(device) if budget_bytes is None else budget_bytes
        self.resident: dict[str, int] = {}
        """Bytes of each case that lies on the device, or will."""
        for case in patches.cases:
            wanted = _bytes_of(case)
            if wanted <= left:
                self.resident[case.id], left = wanted, left - wanted
        self._held: dict[str, _Held] = {}
        self._tables: dict[str, Tensor] = {}

    @property
    def note(self) -> str:
        """What lies where, in a sentence."""
        where = "GPU memory" if self.device.type == "cuda" else "memory"
        count, of = len(self.resident), len(self.patches.cases)
        rest = "" if count == of else "; of the others, each patch's region is copied from the host"
        return f"volumes in {where}: {count} of {of}, {sum(self.resident.values()) / 1e9:.1f} GB{rest}"

    def share(self, case: Case, origin: Shape) -> float:
        """Share of a patch that is labelled, or less where that is enough; exact where it is not."""
        held = self._load(case)
        if held is not None:
            first = [-(-max(one, 0) // BLOCK) for one in origin]
            last = [min(one + side, of) // BLOCK if one + side < of else -(-of // BLOCK)
                    for one, side, of in zip(origin, self.patches.patch, case.shape, strict=True)]  # fmt: skip
            found = _between(held.labelled, first, last) / float(np.prod(self.patches.patch))
            if found >= self.patches.config.sampling.minimum_valid_share:
                return found
        return self.patches.valid_share(case, origin)

    def source(self, case: Case, start: Shape, region: Shape) -> Source:
        """What the patch of a region is cut from."""
        held = self._load(case)
        if held is None:
            raw, codes = self.patches.cut(case, start, region)
            grey, table = self._stored(raw, case)
            here = (0, 0, 0)
            return Source(Field(pinned(grey, self.device), here), Field(pinned(codes, self.device), here), table)
        _, table = self._stored(np.zeros((1, 1, 1), case.dtype), case)
        source = Source(Field(held.image, start), Field(held.lesson, start), table)
        if held.empty is None or not _touches(held.emptied, start, region):
            return source
        filled = fill_in(_region(held.image, start, region), _region(held.empty, start, region) == 0)
        return Source(Field(filled, (0, 0, 0)), source.lesson, table)

    def _stored(self, image: NDArray[Any], case: Case) -> tuple[NDArray[Any], Tensor | None]:
        """Grey values as they lie on the device, and the table that normalises them."""
        method = self.patches.config.normalisation
        if image.dtype not in (np.uint8, np.uint16):
            return normalise(image, case.statistics, method), None
        if case.id not in self._tables:
            every = np.arange(np.iinfo(image.dtype).max + 1).astype(image.dtype)
            self._tables[case.id] = pinned(normalise(every, case.statistics, method), self.device)
        return (image if image.dtype == np.uint8 else image.view(np.int16)), self._tables[case.id]

    def _load(self, case: Case) -> _Held | None:
        """A case on the device; None where it stays in files."""
        if case.id in self.resident and case.id not in self._held:
            try:
                held = self._read(case) if _has_room(self.device, self.resident[case.id]) else None
            except torch.OutOfMemoryError:  # what is free lies in pieces
                held = None
            if held is None:
                del self.resident[case.id]
                return None
            self._held[case.id] = held
        return self._held.get(case.id)

    def _read(self, case: Case) -> _Held:
        prepared = self.patches.prepared
        grey, _ = self._stored(np.asarray(prepared.image(case.id)).copy(), case)
        image = torch.from_numpy(grey).to(self.device)
        lesson = torch.from_numpy(np.asarray(prepared.label(case.id)).copy()).to(self.device)
        stored, empty, emptied = prepared.empty(case.id), None, None
        if stored is not None:
            empty = torch.from_numpy(np.asarray(stored).copy()).to(self.device)
            lesson, emptied = lesson.masked_fill(empty != 0, IGNORE), _sums(empty != 0)
        return _Held(image, lesson, empty, _sums(lesson != IGNORE), emptied)


def _has_room(device: torch.device, wanted_bytes: int) -> bool:
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    return bool(free - wanted_bytes > KEPT_FREE * total)


def _free_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return 2**62
    return int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE)


def _bytes_of(case: Case) -> int:
    kind = np.dtype(case.dtype)
    grey = kind.itemsize if kind in (np.uint8, np.uint16) else 4
    return case.voxels * (grey + 1 + (case.empty is not None))


def _sums(where: Tensor) -> NDArray[np.int64]:
    """Sums over the cubes before each corner of the lattice of cubes, the last ones cut off at the border."""
    z, y, x = where.shape
    padded = torch.nn.functional.pad(where, [0, -x % BLOCK, 0, -y % BLOCK, 0, -z % BLOCK])
    sides = [side // BLOCK for side in padded.shape]
    cubes = padded.view(sides[0], BLOCK, sides[1], BLOCK, sides[2], BLOCK)
    counts = cubes.sum((1, 3, 5), dtype=torch.int32).cpu().numpy()
    sums = np.zeros([side + 1 for side in sides], np.int64)
    sums[1:, 1:, 1:] = counts.cumsum(0, dtype=np.int64).cumsum(1).cumsum(2)
    return sums


def _between(sums: NDArray[np.int64], first: Sequence[int], last: Sequence[int]) -> int:
    """Voxels counted in the cubes from `first` to before `last`."""
    if any(a >= b for a, b in zip(first, last, strict=True)):
        return 0
    corners = sums[np.ix_(*[(a, b) for a, b in zip(first, last, strict=True)])]
    return int(np.diff(np.diff(np.diff(corners, axis=0), axis=1), axis=2).item())


def _touches(sums: NDArray[np.int64] | None, start: Shape, region: Shape) -> bool:
    """Whether a region may hold any voxel that was counted; beyond the border lies what its nearest voxel is."""
    if sums is None:
        return False
    first, last = [], []
    for one, side, cubes in zip(start, region, sums.shape, strict=True):
        first.append(min(max(one, 0) // BLOCK, cubes - 2))
        last.append(min(max(-(-(one + side) // BLOCK), first[-1] + 1), cubes - 1))
    return _between(sums, first, last) > 0


def _region(volume: Tensor, start: Shape, region: Shape) -> Tensor:
    """A region of a volume; beyond the border the nearest voxel."""
    for axis, (first, side) in enumerate(zip(start, region, strict=True)):
        places = torch.arange(first, first + side, device=volume.device).clamp_(0, volume.shape[axis] - 1)
        volume = volume.index_select(axis, places)
    return volume
