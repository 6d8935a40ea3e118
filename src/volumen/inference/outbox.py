"""Planes that are finished on a device, on their way into an array of the host while the device goes on."""

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST_BYTES = 2**28
"""Under way, before the oldest is waited for."""


class Outbox:
    """Copies to the host on a stream of their own, and from page-locked memory into their place.

    Args:
        place: Where the planes go, float32 [Z, Y, X].
        device: Where they come from.
    """

    def __init__(self, place: NDArray[np.float32], device: torch.device) -> None:
        self._place = place
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()
        self._bytes = 0

    def send(self, first: int, planes: Tensor) -> None:
        """Send planes float32 [Z, Y, X] of the device, which nobody writes to any more, to `first` and behind."""
        if self._stream is None:
            self._waiting.append((first, planes, None))
        else:
            self._stream.wait_stream(torch.cuda.current_stream(planes.device))
            with torch.cuda.stream(self._stream):
                copied = planes.to("cpu", non_blocking=True)  # page-locked
                event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                event.record(self._stream)
            planes.record_stream(self._stream)
            self._waiting.append((first, copied, event))
        self._bytes += planes.nbytes
        while self._bytes > _MOST_BYTES:
            self._take()

    def collect(self) -> None:
        """Put what has arrived into its place, without waiting."""
        while self._waiting and _is_done(self._waiting[0][2]):
            self._take()

    def finish(self) -> None:
        """Put everything into its place."""
        while self._waiting:
            self._take()

    def _take(self) -> None:
        first, planes, event = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        self._place[first : first + len(planes)] = planes.numpy()
        self._bytes -= planes.nbytes


def _is_done(event: torch.cuda.Event | None) -> bool:
    return event is None or bool(event.query())  # type: ignore[no-untyped-call]
