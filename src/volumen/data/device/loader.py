"""Batches of training patches that are made where the network runs; `PatchLoader`'s place, and the same samples.

The host throws the dice, which takes a millisecond; the device does the rest. A batch is made on a stream of its own
while the step before it runs, and the host waits for none of it. Samples are those of `PatchDataset` up to the rounding
of their arithmetic, but for the noise: its numbers come from the sample's own generator by way of a key (`noise`).
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volumen.data.augment import Variation
from volumen.data.dataset import Case
from volumen.data.device.cutting import cut_into
from volumen.data.device.filling import empty_on
from volumen.data.device.grid import Grid, Source, grid_of, numbers_of, pinned
from volumen.data.device.intensity import vary_intensity
from volumen.data.device.noise import normals
from volumen.data.device.volumes import Volumes
from volumen.data.loader import _EpochKeys
from volumen.data.packed import DamagedDataError
from volumen.data.sampling import Draw, PatchDataset, SampleError
from volumen.errors import UserError

Kernel = Callable[[Source, Grid, Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""`compiled_cutting.cut_compiled`."""
AHEAD = 1
"""Batches that are made before the one that is asked for is handed out, on CUDA."""


class DevicePatchLoader:
    """Iterates over epochs of batches whose image, target and valid lie on the device.

    Args:
        dataset: Patches by key; it has no makers of further targets.
        batch: Patches per batch; the last incomplete batch of an epoch is dropped.
        device: Where they are made.
        part: As for `PatchLoader`.
        budget_bytes: What the volumes may take there; None is a share of what is free.

    Raises:
        UserError: An epoch is smaller than a batch, or targets are wanted, which the CPU makes.
    """

    workers = 0

    def __init__(
        self,
        dataset: PatchDataset,
        batch: int,
        device: torch.device,
        budget_bytes: int | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if batch < 1 or batch > len(dataset):
            raise UserError(
                f"batch must lie between 1 and patches_per_epoch ({len(dataset)}), got {batch}: an epoch would be empty"
            )
        if dataset.makers:
            raise UserError(f"{', '.join(dataset.makers)} are made on the CPU: set data.on_device to auto or off")
        self.dataset, self.device = dataset, device
        self._keys, self._is_open = _EpochKeys(dataset, batch, part), True
        self._volumes = Volumes(dataset, device, budget_bytes)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ahead = 0 if self._stream is None else AHEAD
        self._kernel, lacking = _kernel_of(device)
        self.notes: tuple[str, ...] = (self._volumes.note, *lacking)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self._keys.batches_per_epoch

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of an epoch in order, from `start_batch` on: samples with a leading batch axis.

        An epoch may be left before its end. What was drawn (`key`, `case`, `centred`, `attempts`) lies on the host, so
        that nobody waits who reads it; the other tensors lie on the device.

        Raises:
            UserError: `start_batch` lies beyond the epoch's end.
            SampleError: A sample could not be made; it names the case.
        """
        if not self._is_open:
            raise RuntimeError("the loader is closed")
        if not 0 <= start_batch <= self.batches_per_epoch:
            raise UserError(f"start_batch must lie in [0, {self.batches_per_epoch}], got {start_batch}")
        keys = _EpochKeys(self.dataset, self._keys.batch, self._keys.part)
        keys.epoch, keys.start_batch = epoch, start_batch
        return self._batches(iter(keys))

    def samples(self, dataset: PatchDataset, keys: list[int]) -> dict[str, Any]:
        """A batch of any keys, out of order: of this loader's data set, or of a copy of it that varies otherwise."""
        other = copy.copy(self)
        other.dataset = dataset
        return other._arrived(*other._made(keys))

    def _batches(self, keys: Iterator[list[int]]) -> Iterator[dict[str, Any]]:
        made: deque[tuple[dict[str, Any], torch.cuda.Event | None]] = deque()
        for some in keys:
            made.append(self._made(some))
            if len(made) > self._ahead:
                yield self._arrived(*made.popleft())
        while made:
            yield self._arrived(*made.popleft())

    def _made(self, keys: list[int]) -> tuple[dict[str, Any], torch.cuda.Event | None]:
        """A batch on its way, where the memory of earlier ones may be used again.

        What read those was launched before, on the stream of whoever asks: this one waits for it, and runs beside what
        is launched next. (`record_stream` would hold each batch until the card is done with it, and the host runs many
        steps ahead; after a recording that failed it would hold them for good.)
        """
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with self._beside():
            batch = self._make(keys)
            return batch, None if self._stream is None else self._stream.record_event()

    def _beside(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _arrived(self, batch: dict[str, Any], event: torch.cuda.Event | None) -> dict[str, Any]:
        """A batch for the stream of whoever asked."""
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)
        return batch

    def _make(self, keys: list[int]) -> dict[str, Any]:
        dataset, count = self.dataset, len(keys)
        drawn = [self._drawn(key) for key in keys]
        image = torch.empty((count, 1, *dataset.patch), device=self.device)
        target = torch.empty((count, *dataset.patch), dtype=torch.uint8, device=self.device)
        valid = torch.empty((count, *dataset.patch), dtype=torch.bool, device=self.device)
        numbers = [numbers_of(grid, source) for _, _, grid, source, _ in drawn]
        whole = pinned(np.stack([one for one, _ in numbers]), self.device)
        real = pinned(np.stack([one for _, one in numbers]), self.device)
        for place, (_, variation, grid, source, random) in enumerate(drawn):
            patch = image[place, 0]
            if self._kernel is not None:
                self._kernel(source, grid, whole[place], real[place], patch, target[place], valid[place])
            else:
                cut_into(source, grid, patch, target[place], valid[place])
            varied = vary_intensity(patch, variation, lambda random=random: self._normals(random))  # type: ignore[misc]
            if variation.emptied is not None:
                varied = empty_on(varied, target[place], valid[place], variation.emptied)
            if varied is not patch:
                patch.copy_(varied)
        labelled = valid.flatten(1).sum(1)
        draws = [draw for draw, *_ in drawn]
        return {
            "image": image,
            "target": target,
            "valid": valid,
            "meta": {
                "key": torch.tensor(keys),
                "case": torch.tensor([draw.case for draw in draws]),
                "centred": torch.tensor([draw.centred for draw in draws]),
                "attempts": torch.tensor([draw.attempts for draw in draws]),
                "surface_share": (target.flatten(1).sum(1) / labelled.clamp(min=1).double()).float(),
                "valid_share": (labelled / float(np.prod(dataset.patch))).float(),
            },
        }

    def _drawn(self, key: int) -> tuple[Draw, Variation, Grid, Source, np.random.Generator]:
        epoch, index = divmod(int(key), len(self.dataset))
        draw = self.dataset.draw(epoch, index, self._volumes.share)
        case: Case = self.dataset.cases[draw.case]
        try:
            variation, random = self.dataset.variation(epoch, index)
            source = self._volumes.source(case, *self.dataset.region(draw, variation))
            return draw, variation, grid_of(variation, self.dataset.patch), source, random
        except DamagedDataError:
            raise
        except Exception as error:
            message = f"case {case.id}, epoch {epoch}, index {index}, origin {draw.origin}: {error}"
            raise SampleError(message) from error

    def _normals(self, random: np.random.Generator) -> Tensor:
        one, two = random.integers(2**32, size=2).tolist()
        return normals(self.dataset.patch, (one, two), self.device)

    def close(self) -> None:
        """Let the volumes go."""
        self._is_open = False
        self._volumes = Volumes(self.dataset, self.device, 0)

    def __enter__(self) -> "DevicePatchLoader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _kernel_of(device: torch.device) -> tuple[Kernel | None, tuple[str, ...]]:
    """The compiled cutting, tried once, and what is to be said where a GPU lacks it."""
    if device.type != "cuda":
        return None, ()
    try:
        from volumen.data.device.compiled_cutting import cut_compiled, try_kernel

        try_kernel(device)
    except Exception as error:  # no Triton, or no C compiler for what starts its kernels
        why = (str(error).splitlines() or [""])[0]
        lacking = (
            f"patches are cut by PyTorch, more slowly: Triton's kernel does not run ({type(error).__name__}: {why})"
        )
        return None, (lacking,)
    return cut_compiled, ()
