"""Forward and backward of a step as a CUDA graph: recorded once, then launched by one call.

A step is some hundred kernels, and to launch them one by one takes the host longer than the card needs to compute them.
What is recorded reads and writes the same memory each time: inputs are copied there, numbers are copied from there,
and gradients are where the parameters find them.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from volumen.losses import CompositeLoss

PLAIN_STEPS = 3
"""Steps of the same kind that are launched kernel by kernel before one is recorded: kernels are compiled then."""
_SPARE = 1.3
"""Times the memory of a step that must be free to record it: the recorded one has memory of its own."""

Inputs = dict[str, Tensor]
"""`image`, `target`, `valid` and precomputed targets by name, on the device."""


@dataclass(frozen=True)
class Derived:
    """What forward and backward found; the gradients are the parameters' `grad`."""

    terms: tuple[str, ...]
    numbers: Tensor
    """float64, see `step.Launched`."""
    norm: Tensor
    """Of all gradients."""


Derive = Callable[[Inputs], Derived]


class Tape(Protocol):
    """What was recorded."""

    def record(self, derive: Callable[[], Derived]) -> Derived:
        """Record; nothing is computed yet."""

    def replay(self) -> None:
        """Compute it again, from what lies in the inputs' memory into that of the results."""


class _CudaTape:
    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, derive: Callable[[], Derived]) -> Derived:
        own, pool = torch.cuda.current_stream(), torch.cuda.graph_pool_handle()
        try:
            # Other threads may ask the driver for memory meanwhile, as the one that pins batches does.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                return derive()
        except RuntimeError:
            torch.cuda.set_stream(own)
            _end(pool)
            raise

    def replay(self) -> None:
        self._graph.replay()


def _end(pool: tuple[int, int]) -> None:
    """End a recording that the driver refused, which PyTorch leaves open: its stream stays the thread's, memory is
    taken as for a recording, and what `record_stream` was told of is never free again.
    """
    device = torch.cuda.current_device()
    with suppress(RuntimeError, AttributeError):  # it was ended: the step failed, and not the recording
        torch._C._cuda_endAllocateToPool(device, pool)
        torch._C._cuda_releasePool(device, pool)


@dataclass(frozen=True)
class _Recording:
    key: tuple[Any, ...]
    places: tuple[int, ...]
    tape: Tape
    inputs: Inputs
    found: Derived
    gradients: tuple[Tensor | None, ...]


class Recorder:
    """Derives steps, from the fourth of a kind on by what it recorded; gives up, once and for all, where that fails.

    Args:
        model: Whose gradients are wanted; on a CUDA device.
        told: Called with what happened, for the run's events.
        tape: What records.
        room: Whether there is memory for a recording.
    """

    def __init__(
        self,
        model: nn.Module,
        told: Callable[[dict[str, Any]], object],
        *,
        tape: Callable[[], Tape] = _CudaTape,
        room: Callable[[], bool] | None = None,
    ) -> None:
        self._parameters = tuple(model.parameters())
        self._told, self._tape, self._room = told, tape, room or _has_room
        self._key: tuple[Any, ...] = ()
        self._seen = 0
        self._recording: _Recording | None = None
        self._works = True

    def derive(self, objective: CompositeLoss, inputs: Inputs, derive: Derive) -> Derived:
        """What `derive` finds for these inputs; `numbers` and `norm` stay valid until the next call."""
        key = _key_of(objective, inputs)
        recording = self._recording
        if recording is not None and recording.key == key and recording.places == self._places():
            return self._replayed(recording, inputs)
        self._seen = self._seen + 1 if key == self._key else 1
        self._key = key
        if not self._works or self._seen <= PLAIN_STEPS:
            return derive(inputs)
        self._recording = None  # gives its memory back
        self._recording = self._record(key, inputs, derive)
        return derive(inputs) if self._recording is None else self._replayed(self._recording, inputs)

    def _record(self, key: tuple[Any, ...], inputs: Inputs, derive: Derive) -> _Recording | None:
        if not self._room():
            self._give_up("there is no memory for a recording beside the network's")
            return None
        began, tape = time.perf_counter(), self._tape()
        held = {name: tensor.clone() for name, tensor in inputs.items()}
        for parameter in self._parameters:
            parameter.grad = None
        try:
            found = tape.record(lambda: derive(held))
        except RuntimeError as error:  # an operation that cannot be recorded, or no memory
            for parameter in self._parameters:
                parameter.grad = None
            self._give_up((str(error).strip() or type(error).__name__).splitlines()[0][:200])
            return None
        gradients = tuple(parameter.grad for parameter in self._parameters)
        self._told({"kind": "recorded", "seconds": round(time.perf_counter() - began, 2)})
        return _Recording(key, self._places(), tape, held, found, gradients)

    def _give_up(self, why: str) -> None:
        self._works = False
        self._told({"kind": "not_recorded", "message": f"steps are launched kernel by kernel: {why}"})

    def _replayed(self, recording: _Recording, inputs: Inputs) -> Derived:
        for name, tensor in inputs.items():
            recording.inputs[name].copy_(tensor, non_blocking=True)
        recording.tape.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return Derived(recording.found.terms, recording.found.numbers.clone(), recording.found.norm)

    def _places(self) -> tuple[int, ...]:
        return tuple(parameter.data_ptr() for parameter in self._parameters)


def _key_of(objective: CompositeLoss, inputs: Inputs) -> tuple[Any, ...]:
    layout = ((name, tensor.shape, tensor.stride(), tensor.dtype) for name, tensor in sorted(inputs.items()))
    return (tuple(objective.terms.items()), tuple(layout))


def _has_room() -> bool:
    free, _ = torch.cuda.mem_get_info()
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    needed = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    return free + cached > _SPARE * (needed + torch.cuda.max_memory_allocated())
