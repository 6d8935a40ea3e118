"""Put tiles back together in the memory of the device that computes them, slab by slab.

The operations and their order are those of `Accumulator`: on the same tiles both give the same bits.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.inference.accumulator import Stitching
from volumen.inference.device_image import sent
from volumen.inference.outbox import Outbox
from volumen.inference.slabs import Row, Slab, planes_of_piece
from volumen.inference.tiles import Triple
from volumen.postprocess import probabilities_on_device


class DeviceSum:
    """The weighted sum of the tiles of a slab, and what comes of its finished planes.

    Args:
        box: The tiles that are waited for.
        inside: True where the scan holds something in the box, bool [Z, Y, X]; None: everywhere.
        empty: The logit of where it holds nothing.
        probabilities: Whether planes go out through the sigmoid.
        place: Where finished planes go, float32 of the box's shape.
        device: Where to compute.
    """

    def __init__(
        self,
        box: Stitching,
        inside: NDArray[np.bool_] | None,
        *,
        empty: float,
        probabilities: bool,
        place: NDArray[np.float32],
        device: torch.device,
    ) -> None:
        self._box, self._inside, self._empty, self._probabilities = box, inside, empty, probabilities
        self._device, self._outbox = device, Outbox(place, device)
        z, y, x = (sent(weights, device) for weights in box.tiles.axis_weights)
        self._weights = z[:, None, None] * y[:, None] * x
        totals = (total[part] for total, part in zip(box.coverage, box.box, strict=True))
        self._coverage, rows, columns = (torch.from_numpy(total.copy()).to(device) for total in totals)
        self._plane = rows[:, None] * columns
        self._sum = torch.zeros(0, *box.shape[1:], device=device)
        self._scan: Tensor | None = None
        self._low = self._finished = box.box[0].start

    def begin(self, slab: Slab) -> None:
        """Go over to the next slab, with what the last one left."""
        carried = self._sum[self._finished - self._low :].clone()
        self._sum = torch.empty(0)  # freed before the next is made
        self._sum = torch.zeros(slab.high - slab.low, *self._box.shape[1:], device=self._device)
        self._sum[: len(carried)] = carried
        self._low = slab.low
        if self._inside is not None:
            start = self._box.box[0].start
            self._scan = sent(self._inside[slab.low - start : slab.finished - start], self._device)

    def add(self, origin: Triple, values: Tensor) -> None:
        """Blend in one tile: values float32 [Z, Y, X].

        Raises:
            CoverageError: It came before, was never planned, or does not touch the region.
        """
        self._box.skip(origin)
        inner, (z, y, x) = self._box.overlap(origin)
        shift = self._low - self._box.box[0].start
        self._sum[z.start - shift : z.stop - shift, y, x] += self._weights[inner] * values[inner]

    def has_all(self, row: Row) -> bool:
        """Whether no tile of a row is waited for."""
        return not any(origin in self._box for origin in row.origins)

    def finish(self, row: Row) -> None:
        """Send the planes out that no later row adds to."""
        step = planes_of_piece(self._box.shape[1] * self._box.shape[2])
        start = self._box.box[0].start
        for first in range(self._finished, row.finished, step):
            last = min(first + step, row.finished)
            total = self._plane * self._coverage[first - start : last - start, None, None]
            planes = self._sum[first - self._low : last - self._low].double().div_(total).float()
            if self._scan is not None:
                planes.masked_fill_(~self._scan[first - self._low : last - self._low], self._empty)
            self._outbox.send(first - start, probabilities_on_device(planes) if self._probabilities else planes)
        self._finished = max(self._finished, row.finished)

    def collect(self) -> None:
        """Take in what has arrived at the host, without waiting."""
        self._outbox.collect()

    def close(self) -> None:
        """Wait for everything.

        Raises:
            CoverageError: A tile is missing.
        """
        self._box.check_complete()
        self._outbox.finish()
