"""Which patches an epoch is made of: a map from one integer to one training sample.

The key `epoch * patches_per_epoch + index` names a sample for good: which volume, where, how varied. Surface-centred
patches are drawn from a fixed list of surface coordinates written by `prepare`, so that no volume is ever scanned, and
what was requested can be compared with what was drawn through each sample's `meta`. Where the scan does not fill a
volume, patches lie about voxels that it holds, and the rest is no lesson.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from volumen.config.data import Data
from volumen.data.augment import Shape, Variation, draw_variation, vary
from volumen.data.dataset import Case, PreparedDataset
from volumen.data.emptiness import fill_in
from volumen.data.labels import IGNORE, SURFACE, Lesson
from volumen.data.normalise import normalise
from volumen.data.orientation import rotations_for
from volumen.data.packed import DamagedDataError, Volume
from volumen.data.randomness import generator
from volumen.errors import UserError

REDRAWS = 10

Sample = dict[str, Any]
TargetMaker = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[Any]]
ShareOf = Callable[[Case, Shape], float]
"""Share of the patch of a case at an origin that is labelled."""


class SampleError(RuntimeError):
    """A sample could not be made; the message names the case and the key that makes it again."""


@dataclass(frozen=True)
class Draw:
    """Where a patch lies."""

    case: int
    """Index into the data set's case ids."""
    origin: Shape
    """First voxel, z y x; negative where the volume is smaller than the patch."""
    centred: bool
    """Whether the patch was centred (up to jitter) on a surface voxel."""
    attempts: int
    """How often it was drawn; more than once where too little was labelled."""


class PatchDataset(Dataset[Sample]):
    """Training patches by integer key; pure, so any process may make any sample.

    A sample: `image` float32 [1, Z, Y, X] normalised, `target` uint8 [Z, Y, X] (1 surface, 0 else), `valid` bool
    [Z, Y, X] (False where ignored, or outside of the volume or of the scan), what each of the `makers` makes of target
    and valid, under its name, and `meta`: `key`, `case` (index into `case_ids`), `centred`, `attempts`,
    `surface_share` (of the valid voxels), `valid_share`.

    Raises:
        UserError: no case, or a case without a label.
    """

    def __init__(
        self,
        prepared: PreparedDataset,
        case_ids: Sequence[str],
        config: Data,
        seed: int,
        makers: Mapping[str, TargetMaker] | None = None,
    ) -> None:
        self.prepared, self.case_ids, self.config, self.seed = prepared, tuple(case_ids), config, seed
        self.makers = dict(makers or {})
        self.patch: Shape = config.patch
        self._cases = tuple(prepared.case(case_id) for case_id in self.case_ids)
        if not self._cases:
            raise UserError("there is no case to draw patches from: give at least one case with a label")
        unlabelled = [case.id for case in self._cases if not case.has_label]
        if unlabelled:
            raise UserError(f"cases {unlabelled} have no label and cannot be trained on: leave them out")
        chosen: list[str] = []
        self.augmentation = config.augmentation
        if self.augmentation.rotations == "auto":
            rotations, *chosen = rotations_for(prepared, self.case_ids)
            self.augmentation = self.augmentation.model_copy(update={"rotations": rotations})
        self._anywhere = _shares([case.scan_voxels for case in self._cases])
        with_surface = [case.scan_voxels if case.scanned_surface else 0 for case in self._cases]
        self._surface = _shares(with_surface) if any(with_surface) else None
        self.notes = (*self._remarks(), *chosen)

    def __len__(self) -> int:
        """Samples of one epoch; keys of later epochs go on from there."""
        return self.config.sampling.patches_per_epoch

    def key(self, epoch: int, index: int) -> int:
        """The key of a sample."""
        return epoch * len(self) + index

    def __getitem__(self, key: int) -> Sample:
        epoch, index = divmod(int(key), len(self))
        draw = self.draw(epoch, index)
        case = self._cases[draw.case]
        try:
            return self._make(case, draw, epoch, index)
        except DamagedDataError:
            raise
        except Exception as error:
            message = f"case {case.id}, epoch {epoch}, index {index}, origin {draw.origin}: {error}"
            raise SampleError(message) from error

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases by the index that a draw names."""
        return self._cases

    def draw(self, epoch: int, index: int, share_of: ShareOf | None = None) -> Draw:
        """Choose volume and place of a sample.

        While less than `minimum_valid_share` of the patch is labelled, they are drawn again, up to ten times; of
        patches that all fail the best labelled one is kept. `share_of` may say more cheaply what is labelled; where it
        is less than the minimum, it has to be exact.
        """
        share_of = share_of or self.valid_share
        settings = self.config.sampling
        random = generator(self.seed, epoch, index, "sampling")
        centred = bool(random.random() < settings.surface_share) and self._surface is not None
        shares = self._surface if centred and self._surface is not None else self._anywhere
        best, best_share, attempts = (0, (0, 0, 0)), -1.0, 0
        while best_share < settings.minimum_valid_share and attempts <= REDRAWS:
            attempts += 1
            case = int(np.searchsorted(shares, random.random(), side="right"))
            origin = self._place(self._cases[case], centred, random)
            share = share_of(self._cases[case], origin)
            if share > best_share:
                best, best_share = (case, origin), share
        return Draw(best[0], best[1], centred, attempts)

    def _place(self, case: Case, centred: bool, random: np.random.Generator) -> Shape:
        prepared, centre = self.prepared, None
        positions = prepared.surface_positions(case.id) if centred else prepared.scan_positions(case.id)
        if positions is not None:
            centre = positions[int(random.integers(len(positions)))]
        origin = []
        for axis, (side, length) in enumerate(zip(self.patch, case.shape, strict=True)):
            room = length - side
            if room <= 0:  # smaller than the patch: in the middle, padded on both sides
                origin.append(-(-room // 2))
            elif centre is None:
                origin.append(int(random.integers(room + 1)))
            else:
                jitter = min(self.config.sampling.jitter_voxels, (side - 1) // 2)  # the surface voxel stays inside
                first = int(centre[axis]) - side // 2 + int(random.integers(-jitter, jitter + 1))
                origin.append(min(max(first, 0), room))
        return origin[0], origin[1], origin[2]

    def valid_share(self, case: Case, origin: Shape) -> float:
        """Share of a patch that is labelled."""
        inner = tuple(slice(max(first, 0), first + side) for first, side in zip(origin, self.patch, strict=True))
        return float(np.count_nonzero(self.prepared.lesson(case.id)[inner] != IGNORE)) / float(np.prod(self.patch))

    def variation(self, epoch: int, index: int) -> tuple[Variation, np.random.Generator]:
        """What happens to a sample's patch, and the generator that its noise comes from."""
        random = generator(self.seed, epoch, index, "augmentation")
        return draw_variation(self.augmentation, self.patch, random), random

    def region(self, draw: Draw, variation: Variation) -> tuple[Shape, Shape]:
        """First voxel and size of what has to be cut out of the volume."""
        region = variation.region(self.patch)
        z, y, x = (first - (outer - side) // 2
                   for first, outer, side in zip(draw.origin, region, self.patch, strict=True))  # fmt: skip
        return (z, y, x), region

    def cut(self, case: Case, start: Shape, region: Shape) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Grey values as stored, filled in where the scan holds nothing, and the lesson's codes of a region."""
        raw = crop(self.prepared.image(case.id), start, region)
        codes = crop(self.prepared.lesson(case.id), start, region, outside=IGNORE)
        empty = self.prepared.empty(case.id)
        if empty is not None:
            raw = fill_in(raw, crop(empty, start, region) == 0)
        return raw, codes

    def _make(self, case: Case, draw: Draw, epoch: int, index: int) -> Sample:
        variation, random = self.variation(epoch, index)
        raw, codes = self.cut(case, *self.region(draw, variation))
        image = normalise(raw, case.statistics, self.config.normalisation)
        image, codes = vary(image, codes, variation, self.patch, random)
        target = (codes == SURFACE).view(np.uint8)
        valid = codes != IGNORE
        sample: Sample = {
            "image": torch.from_numpy(image)[None],
            "target": torch.from_numpy(target),
            "valid": torch.from_numpy(valid),
        }
        for name, maker in self.makers.items():
            sample[name] = torch.from_numpy(np.ascontiguousarray(maker(target, valid)))
        labelled = int(np.count_nonzero(valid))
        sample["meta"] = {
            "key": torch.tensor(self.key(epoch, index)),
            "case": torch.tensor(draw.case),
            "centred": torch.tensor(draw.centred),
            "attempts": torch.tensor(draw.attempts),
            "surface_share": torch.tensor(np.count_nonzero(target) / max(labelled, 1), dtype=torch.float32),
            "valid_share": torch.tensor(labelled / valid.size, dtype=torch.float32),
        }
        return sample

    def _remarks(self) -> tuple[str, ...]:
        small = [case for case in self._cases if any(a < b for a, b in zip(case.shape, self.patch, strict=True))]
        notes = []
        if small:
            listed = ", ".join(f"{case.id} {list(case.shape)}" for case in small[:5])
            listed += f" and {len(small) - 5} more" if len(small) > 5 else ""
            notes.append(
                f"{len(small)} of {len(self._cases)} volumes are smaller than the patch {list(self.patch)} and are "
                f"padded (image: nearest voxel; label: ignored): {listed}"
            )
        bare = [case.id for case in self._cases if not case.scanned_surface]
        if bare and self.config.sampling.surface_share > 0:
            notes.append(f"volumes without surface are never drawn for surface-centred patches: {', '.join(bare)}")
        return tuple(notes)


def crop(
    volume: Volume | Lesson, start: Sequence[int], shape: Sequence[int], outside: int | None = None
) -> NDArray[Any]:
    """A contiguous copy of a region of a volume [Z, Y, X], which it may reach beyond, but has to touch.

    Args:
        volume: array, in memory or packed in a file.
        start: first voxel, z y x; may be negative.
        shape: size of the region.
        outside: value beyond the border; None repeats the nearest voxel.
    """
    before = [max(-first, 0) for first in start]
    after = [max(first + side - n, 0) for first, side, n in zip(start, shape, volume.shape, strict=True)]
    if any(a + b >= side for a, b, side in zip(before, after, shape, strict=True)):
        raise ValueError(f"region at {list(start)} of {list(shape)} lies outside of the volume {list(volume.shape)}")
    inner = tuple(
        slice(max(first, 0), min(first + side, n)) for first, side, n in zip(start, shape, volume.shape, strict=True)
    )
    part = np.array(volume[inner])  # a true copy, never a view
    if not any(before) and not any(after):
        return part
    widths = list(zip(before, after, strict=True))
    if outside is None:
        return np.pad(part, widths, mode="edge")
    return np.pad(part, widths, constant_values=outside)


def _shares(weights: list[int]) -> NDArray[np.float64]:
    """Upper ends of each case's stretch of [0, 1), in proportion to its weight; at least one weight is positive."""
    ends = np.cumsum(np.asarray(weights, dtype=np.float64)) / sum(weights)
    ends[np.flatnonzero(weights)[-1] :] = 1.0
    return ends
