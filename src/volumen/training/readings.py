"""When the numbers of steps are read: at once on a CPU; on a card in windows, one behind, so that it never waits.

A window's numbers are copied together, and are looked at when the next window is full: the card has work for the
whole of it then. Who needs to know everything (an epoch's end, a checkpoint) waits for the rest.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volumen.training.step import Guard, Launched, NonFiniteError, StepResult

MOST_STEPS = 8
"""In a window."""
SECONDS = 0.25
"""A window is full after as long, however few steps it holds."""


class LateError(NonFiniteError):
    """A step that was launched some steps ago was not finite; no update was made since."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
        """Number of the bad step."""


@dataclass(frozen=True)
class _Window:
    """Numbers of some steps, on their way to the host."""

    numbers: Tensor
    steps: int
    copied: torch.cuda.Event | None

    def wait(self) -> list[float]:
        if self.copied is not None:
            self.copied.synchronize()
        values: list[float] = self.numbers.tolist()
        return values


class Readings:
    """Steps that are not read yet, in their order.

    Args:
        model: That is trained.
        device: Of the model.
        at_once: Read each step before its update, whatever the device: for loss scaling, and for whoever acts on the
            run between two steps.
        every: Steps of a window; None reads at once on a CPU and by the clock on a card.
    """

    def __init__(
        self, model: nn.Module, device: torch.device, *, at_once: bool = False, every: int | None = None
    ) -> None:
        guarded = not at_once and (every is not None or device.type == "cuda")
        self.guard = Guard(model, device) if guarded else None
        """Decides on the device about updates; None where the host does."""
        self._every = every
        self._done: deque[tuple[int, StepResult]] = deque()
        self._steps: deque[tuple[int, Launched]] = deque()
        self._windows: list[_Window] = []
        self._opened = time.perf_counter()

    def add(self, number: int, step: Launched | StepResult) -> None:
        """Take in a step of the run: its number, from 0, and itself."""
        if isinstance(step, StepResult):
            self._done.append((number, step))
        else:
            self._steps.append((number, step))

    def read(self, *, wait: bool) -> Iterator[tuple[int, StepResult]]:
        """Numbers and results of the steps that can be read by now, or with `wait` of all; to be gone through.

        Raises:
            LateError: In place of the first bad step; all that came after it is forgotten, and updates are made again.
        """
        while self._done:
            yield self._done.popleft()
        if not wait and not self._is_full:
            return
        earlier = len(self._windows)
        self._send()
        taken = len(self._windows) if wait else earlier
        windows, self._windows = self._windows[:taken], self._windows[taken:]
        for window in windows:
            values = window.wait()
            for _ in range(window.steps):
                number, step = self._steps.popleft()
                size = step.numbers.numel()
                try:
                    result = step.result(values[:size])
                except NonFiniteError as error:
                    self.forget()
                    raise LateError(str(error), number) from error
                values = values[size:]
                yield number, result

    def forget(self) -> None:
        """Leave out what was not read, because the run has gone back; updates are made again."""
        self._done.clear()
        self._steps.clear()
        self._windows.clear()
        if self.guard is not None:
            self.guard.raised.zero_()

    @property
    def _unsent(self) -> int:
        return len(self._steps) - sum(one.steps for one in self._windows)

    @property
    def _is_full(self) -> bool:
        if self._every is not None:
            return self._unsent >= self._every
        return self._unsent >= MOST_STEPS or time.perf_counter() - self._opened > SECONDS

    def _send(self) -> None:
        """Begin to copy the numbers that are not on their way yet."""
        self._opened = time.perf_counter()
        steps = [step for _, step in self._steps][len(self._steps) - self._unsent :]
        if not steps:
            return
        joined = torch.cat([step.numbers for step in steps])
        if joined.device.type != "cuda":
            self._windows.append(_Window(joined, len(steps), None))
            return
        host = torch.empty(joined.shape, dtype=joined.dtype, pin_memory=True)
        host.copy_(joined, non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(joined.device))
        self._windows.append(_Window(host, len(steps), copied))
