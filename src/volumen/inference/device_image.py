"""An image on the device that predicts it: as it is stored where its values have a table, and normalised there."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.data.emptiness import fill_in
from volumen.data.normalise import Normalised, normalise
from volumen.inference.slabs import Slab
from volumen.inference.tiles import Tiles, Triple
from volumen.runtime import physical_cores

_PIECE_BYTES = 2**25
_AHEAD = 2
"""Tiles that a thread fills beyond the one it is asked for."""
_MOST_THREADS = 8


def sent(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy on a device, of bool, uint8, uint16 (as the int16 of the same bits), or float32; nobody waits for it."""
    kind = array.dtype.newbyteorder("=")
    stored = np.dtype(np.int16) if kind == np.uint16 else kind
    like = torch.from_numpy(np.empty(0, stored))
    staged = torch.empty(array.shape, dtype=like.dtype, pin_memory=device.type == "cuda")
    staged.numpy().view(kind)[...] = array
    return staged.to(device, non_blocking=True)


class DeviceImage:
    """The planes of an image that the tiles of a slab see.

    Args:
        image: Grey values [Z, Y, X]: float32 as the network sees them, or stored ones with their normalisation.
        mask: True where the scan holds something, bool [Z, Y, X]; None: everywhere.
        tiles: The plan.
        window: What any tile sees, in the padded volume.
        device: Where to.
    """

    def __init__(
        self,
        image: NDArray[np.float32] | Normalised,
        mask: NDArray[np.bool_] | None,
        tiles: Tiles,
        window: tuple[slice, slice, slice],
        device: torch.device,
    ) -> None:
        self._tiles, self._window, self._device = tiles, window, device
        self._image = image
        stored = image.image if isinstance(image, Normalised) else image
        self._stored = tiles.pad(np.asarray(stored)) if tiles.is_padded else stored
        self._scan = None if mask is None else tiles.pad(mask)
        self._table: Tensor | None = None
        if isinstance(image, Normalised) and stored.dtype.kind == "u" and stored.dtype.itemsize <= 2:
            values = np.arange(np.iinfo(stored.dtype).max + 1, dtype=stored.dtype.newbyteorder("="))
            self._table = sent(normalise(values, image.statistics, image.method), device)
        self._planes = torch.empty(0)
        self._first = 0
        self._filled: dict[Triple, Future[NDArray[np.generic]]] = {}

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel as the device holds it."""
        return 4 if self._table is None else int(self._stored.dtype.itemsize)

    def is_empty(self, origin: Triple) -> bool:
        """Whether the scan holds nothing in a tile."""
        return self._scan is not None and not self._scan[self._tiles.window(origin)].any()

    @contextmanager
    def of_slab(self, slab: Slab, origins: Sequence[Triple]) -> Iterator[None]:
        """Hold the planes of a slab; `origins` are the tiles that will be cut, in that order."""
        (low, high), (_, y, x) = slab.image, self._window
        shape = (high - low, y.stop - y.start, x.stop - x.start)
        kind = torch.float32 if self._table is None else torch.uint8 if self.itemsize == 1 else torch.int16
        self._planes = torch.empty(shape, dtype=kind, device=self._device)
        self._first = low
        step = max(1, _PIECE_BYTES // (self.itemsize * math.prod(shape[1:])))
        for start in range(low, high, step):
            end = min(start + step, high)
            self._planes[start - low : end - low] = sent(self._host((slice(start, end), y, x)), self._device)
        try:
            with self._filling(origins):
                yield
        finally:
            self._planes = torch.empty(0)

    def cut(self, origin: Triple) -> Tensor:
        """A tile as the network sees it, float32 [Z, Y, X]; where the scan is empty, filled in."""
        filled = self._take_filled(origin)
        if filled is not None:
            part = sent(filled, self._device)
        else:
            starts = (self._first, self._window[1].start, self._window[2].start)
            z, y, x = (
                slice(place - start, place - start + side)
                for place, start, side in zip(origin, starts, self._tiles.tile, strict=True)
            )
            part = self._planes[z, y, x]
        if self._table is None:
            return part
        index = part.long()
        return self._table.take(index & 0xFFFF if part.dtype == torch.int16 else index)

    def _host(self, window: tuple[slice, ...]) -> NDArray[np.generic]:
        """A window of the padded volume, as it is sent."""
        part = np.asarray(self._stored[window])
        if self._table is not None:
            return part
        image = self._image
        if isinstance(image, Normalised):
            return normalise(part, image.statistics, image.method)
        return np.asarray(part, dtype=np.float32)

    @contextmanager
    def _filling(self, origins: Sequence[Triple]) -> Iterator[None]:
        """Threads that fill the tiles in which the scan is partly empty, ahead of their being cut."""
        if self._scan is None:
            yield
            return
        self._mixed = deque(origin for origin in origins if not self._scan[self._tiles.window(origin)].all())
        threads = max(1, min(_MOST_THREADS, physical_cores() - 1))
        self._ahead = threads * _AHEAD
        self._pool = ThreadPoolExecutor(threads)
        try:
            self._fill_ahead()
            yield
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._filled.clear()

    def _fill_ahead(self) -> None:
        while self._mixed and len(self._filled) < self._ahead:
            origin = self._mixed.popleft()
            self._filled[origin] = self._pool.submit(self._fill, origin)

    def _fill(self, origin: Triple) -> NDArray[np.generic]:
        window = self._tiles.window(origin)
        assert self._scan is not None
        return fill_in(self._host(window), self._scan[window])

    def _take_filled(self, origin: Triple) -> NDArray[np.generic] | None:
        if origin not in self._filled:
            return None
        found = self._filled.pop(origin).result()
        self._fill_ahead()
        return found
