"""The compiler in training: a compiled form of the network's forward pass, for steps of the run alone.

The network itself stays as it is, and so do its names in checkpoints, validation and probes.
"""

import time

import torch

from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.training.session import Session
from volumen.training.step import Forward


def compiles(config: Config, device: torch.device) -> bool:
    """Whether the steps of a run are compiled; `auto` does not: what it gains beside the kernels is not known yet."""
    return config.training.compile == "on"


def compile_steps(session: Session) -> None:
    """Compile the forward pass where it is wanted, and tell what that took; no step of the run is made.

    Raises:
        UserError: The compiler does not work here.
    """
    from torch._dynamo.exc import TorchDynamoException  # a second, which only who compiles waits for

    state, began = session.state, time.perf_counter()
    forward: Forward = torch.compile(state.model, dynamic=False)
    try:
        _warm_up(session, forward)
    except TorchDynamoException as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"training.compile: the compiler failed ({why:.300}): set it to off") from error
    session.forward = forward
    seconds = time.perf_counter() - began
    state.seconds += seconds
    session.event({"kind": "compiled", "seconds": round(seconds, 1)})


def _warm_up(session: Session, forward: Forward) -> None:
    """Forward and backward on an empty batch, which leaves no trace in the state."""
    state, data, device, precision = session.state, session.config.data, session.device, session.precision
    objective, shape = state.objective(), (data.batch, *data.patch)
    empty = torch.zeros(shape, dtype=torch.uint8, device=device)
    image = torch.zeros(data.batch, 1, *data.patch, device=device).to(memory_format=precision.memory_format)
    statistics = [(one, one.clone()) for one in state.model.buffers()]
    state.model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with precision.autocast():
            logits = forward(image)
        given = dict.fromkeys(objective.requires, empty)
        torch.autograd.backward(objective(logits, empty, empty == 0, precomputed=given).total)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    state.optimiser.zero_grad(set_to_none=True)
    for one, before in statistics:
        one.copy_(before)
