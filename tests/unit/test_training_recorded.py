"""Laws of recorded steps, with a tape that computes again what it recorded, as a CUDA graph does, on a CPU."""

from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from volumen.losses import CompositeLoss
from volumen.losses.terms import SoftDice, Variance
from volumen.runtime import Precision
from volumen.training.recorded import PLAIN_STEPS, Derived, Recorder, _CudaTape
from volumen.training.step import Guard, launch_step

CPU = torch.device("cpu")


class Tape:
    """Computes into the memory of what it found first."""

    made = 0

    def __init__(self, model):
        self.model = model
        Tape.made += 1

    def record(self, derive):
        self.derive = derive
        self.found = derive()
        self.gradients = [one.grad for one in self.model.parameters()]
        poison = (self.found.numbers, self.found.norm, *self.gradients)
        with torch.no_grad():
            for tensor in poison:  # a recording computes nothing
                tensor.fill_(float("nan"))
        return self.found

    def replay(self):
        for one in self.model.parameters():
            one.grad = None
        again = self.derive()
        assert isinstance(again, Derived)
        with torch.no_grad():
            self.found.numbers.copy_(again.numbers)
            self.found.norm.copy_(again.norm)
            for place, one in zip(self.gradients, self.model.parameters(), strict=True):
                place.copy_(one.grad)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv3d(3, 1, 1))


def batch(generator, size, samples):
    shape = (samples, size, size, size)
    return {
        "image": torch.randn(shape, generator=generator)[:, None],
        "target": (torch.rand(shape, generator=generator) < 0.4).to(torch.uint8),
        "valid": torch.rand(shape, generator=generator) < 0.8,
        "case": ["a"] * samples,
    }


def objective(weight):
    return CompositeLoss({"dice": (1.0, SoftDice()), "variance": (weight, Variance())})


def trained(kinds, seed, recorder_of):
    model = network(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    guard, recorder = Guard(model, CPU), recorder_of(model)
    generator, told = torch.Generator().manual_seed(seed), []
    for weight, samples in kinds:
        launched = launch_step(
            model, objective(weight), optimiser, batch(generator, 5, samples), precision=Precision("fp32", "cpu"),
            device=CPU, gradient_clip=1.0, guard=guard, recorder=recorder,
        )  # fmt: skip
        told.append(launched)
    # Read at the end: what a later step computes must not write over an earlier one's numbers.
    return [one.result() for one in told], [one.detach() for one in model.parameters()]


kinds = st.lists(st.tuples(st.sampled_from([0.0, 0.5]), st.sampled_from([2, 2, 2, 1])), min_size=6, max_size=14)


@settings(max_examples=25, deadline=None)
@given(kinds, st.integers(0, 2**31))
def test_recorded_steps_are_the_steps_themselves(drawn, seed):
    told = []
    plain = trained(drawn, seed, lambda model: None)
    recorded = trained(
        drawn, seed, lambda model: Recorder(model, told.append, tape=lambda: Tape(model), room=bool_of(1))
    )
    assert recorded[0] == plain[0]
    for one, other in zip(recorded[1], plain[1], strict=True):
        assert torch.equal(one, other)
    runs, longest = 1, 1
    for before, now in pairwise(drawn):
        runs = runs + 1 if before == now else 1
        longest = max(longest, runs)
    if longest > PLAIN_STEPS + 1:
        assert any(event["kind"] == "recorded" for event in told)


def bool_of(value):
    return lambda: bool(value)


class Broken(Tape):
    def record(self, derive):
        derive()
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("room", [True, False])
def test_what_cannot_be_recorded_is_launched_as_before_and_said_once(room):
    told, drawn = [], [(0.5, 2)] * 8
    plain = trained(drawn, 3, lambda model: None)
    other = trained(
        drawn, 3, lambda model: Recorder(model, told.append, tape=lambda: Broken(model), room=bool_of(room))
    )
    assert other[0] == plain[0]
    assert [event["kind"] for event in told] == ["not_recorded"]
    assert ("memory" in told[0]["message"]) != room


def test_moved_parameters_are_recorded_anew():
    model, told = network(0), []
    recorder = Recorder(model, told.append, tape=lambda: Tape(model), room=bool_of(1))
    optimiser, guard = torch.optim.AdamW(model.parameters(), fused=True), Guard(model, CPU)
    generator = torch.Generator().manual_seed(0)
    for step in range(2 * PLAIN_STEPS + 4):
        if step == PLAIN_STEPS + 2:
            with torch.no_grad():
                for one in model.parameters():
                    one.data = one.detach().clone()
        launched = launch_step(
            model, objective(0.5), optimiser, batch(generator, 5, 2), precision=Precision("fp32", "cpu"), device=CPU,
            gradient_clip=None, guard=guard, recorder=recorder,
        )  # fmt: skip
        assert launched.result().gradient_norm > 0
    assert [event["kind"] for event in told] == ["recorded", "recorded"]


@pytest.mark.parametrize("refused", [True, False])
def test_a_recording_that_fails_leaves_the_thread_its_stream_and_its_memory(monkeypatch, refused):
    """PyTorch's context gives the stream back only where the driver lets the recording end."""
    current, ended = ["own"], []

    @contextmanager
    def graph(made, pool, capture_error_mode):
        current[0] = "recording"
        try:
            yield
        finally:
            if refused:
                raise RuntimeError("operation failed due to a previous error during capture")
            current[0] = "own"

    def end(device, pool):
        if not refused:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        ended.append(("end", pool))

    for name, fake in {
        "CUDAGraph": object, "graph": graph, "graph_pool_handle": lambda: (0, 7), "current_device": lambda: 0,
        "current_stream": lambda: current[0], "set_stream": lambda stream: current.__setitem__(0, stream),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda device, pool: ended.append(("release", pool)))

    def derive():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        _CudaTape().record(derive)
    assert current == ["own"]
    assert ended == ([("end", (0, 7)), ("release", (0, 7))] if refused else [])
