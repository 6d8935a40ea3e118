"""What a run's network and state are before anything was learnt: gradients, batches, the head, resuming.

Everything here is arithmetic on a fresh state and two small patches, on the CPU and in float32: differences between
samples, modes or two ways to the same state are then those of the code, not of the number format.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from volumen.config.model import ResEncModel, UNetModel
from volumen.config.schema import Config
from volumen.doctor.context import Context
from volumen.doctor.objective.autopsy import TOTAL, Probe
from volumen.runtime import Precision, choose_precision
from volumen.training.state import TrainingState
from volumen.training.step import training_step

CPU = torch.device("cpu")
PRECISION = Precision("fp32", "cpu")
FILTERS, DEPTH, SIZE = 2, 2, "S"  # of the small network
SIDE_VOXELS = 32
PUSHES = 24
PUSH_RATE = 0.5
SPREAD_BELOW = 1e-6


@dataclass(frozen=True)
class Board:
    """A few patches: images [N, 1, Z, Y, X] as a network sees them, and an objective on their labels."""

    images: Tensor
    probe: Probe

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Canonical codes [N, Z, Y, X]."""
        return self.probe.labels

    @property
    def batch(self) -> dict[str, Any]:
        """As a training step takes it."""
        return {"image": self.images, "target": self.probe.target, "valid": self.probe.valid, **self.probe.precomputed}

    def step(self, state: TrainingState, precision: Precision) -> None:
        """One training step at the rate that the state's optimiser has."""
        state.model.train()
        training_step(
            state.model, self.probe.objective, state.optimiser, self.batch, precision=precision, device=CPU,
            gradient_clip=state.config.training.gradient_clip, scaler=state.scaler,
        )  # fmt: skip

    def loss(
        self, model: nn.Module, precision: Precision, images: Tensor | None = None, *, training: bool = False
    ) -> float:
        """The total of the finest logits for these images, or for others in their place; the mode is left as asked."""
        shown = (self.images if images is None else images).to(memory_format=precision.memory_format)
        model.train(training)
        with torch.no_grad(), precision.autocast():
            logits = model(shown)
        return self.probe.at(finest(logits).float())[TOTAL]


@dataclass(frozen=True)
class Gradients:
    """Which parameters a first backward pass reached."""

    frozen: tuple[str, ...]
    """Parameters that ask for no gradient."""
    unreached: tuple[str, ...]
    """Weights (of more than one axis) without a gradient, or with zeros only; a bias before a norm has none rightly."""
    not_finite: tuple[str, ...]


def board_of(context: Context, count: int) -> Board:
    """The first patches of the audit, of a side that the network can take, under the run's first objective."""
    side = max(SIDE_VOXELS, 2 * context.config.divisor)  # an instance norm needs more than one voxel at the bottom
    images, labels = context.normalised_patches(count, side)
    return Board(torch.from_numpy(images), Probe(next(iter(context.objectives.values())), labels))


def fresh(context: Context, precision: Precision = PRECISION, *, small: bool = False) -> TrainingState:
    """The run's state before its first step on the CPU, whole or with a small network that begins with no weights."""
    config, initial = (_small(context.config), None) if small else (context.config, context.initial)
    return context.state(config, CPU, precision, initial=initial)


def _small(config: Config) -> Config:
    """A network of the same kind that takes milliseconds; of MONAI's, whose arguments are unknown, the very same."""
    model: Any = config.model.model_copy(update={"initial_weights": None})
    if isinstance(model, UNetModel):
        model = model.model_copy(update={"filters": min(model.filters, FILTERS), "depth": min(model.depth, DEPTH)})
    elif isinstance(model, ResEncModel):
        model = model.model_copy(update={"size": SIZE})
    return config.model_copy(update={"model": model})


@contextmanager
def alone() -> Iterator[None]:
    """One thread, so that sums have one order, and the process's random state as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)


def cpu_precision(config: Config) -> Precision:
    """The run's precision as a CPU has it: bf16 stands in for the other half precision."""
    return choose_precision("bf16" if config.precision == "fp16" else config.precision, CPU)


def finest(logits: Tensor | list[Tensor]) -> Tensor:
    """The logits of the whole resolution, where a network gives several."""
    return logits[0] if isinstance(logits, list | tuple) else logits


def gradients(model: nn.Module, board: Board) -> Gradients:
    """Go forward and backward once, in training mode, and look at every parameter."""
    model.train()
    model.zero_grad(set_to_none=True)
    probe = board.probe
    loss = probe.objective(model(board.images), probe.target, probe.valid, precomputed=probe.precomputed).total
    torch.autograd.backward(loss)
    named = list(model.named_parameters())
    moving = [(name, one) for name, one in named if one.requires_grad]
    found = Gradients(
        frozen=tuple(name for name, one in named if not one.requires_grad),
        unreached=tuple(n for n, one in moving if one.ndim > 1 and (one.grad is None or not bool(one.grad.any()))),
        not_finite=tuple(n for n, one in moving if one.grad is not None and not bool(torch.isfinite(one.grad).all())),
    )
    model.zero_grad(set_to_none=True)
    return found


def leak_between_samples(model: nn.Module, images: Tensor) -> float:
    """How much the answer to one image changes with its neighbour in the batch, relative to the answer's spread."""
    model.eval()
    with torch.no_grad():
        beside, alone = model(images), model(torch.stack([images[0], images[0].flip(0, 1)]))
    return _difference(finest(beside)[0], finest(alone)[0])


def answer_to_images(model: nn.Module, images: Tensor) -> float:
    """How much the answer changes where the image is replaced by zeros, relative to its size."""
    model.eval()
    with torch.no_grad():
        shown, hidden = finest(model(images)), finest(model(torch.zeros_like(images)))
    return float((shown - hidden).abs().max()) / max(float(shown.abs().max()), SPREAD_BELOW)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) / max(float(one.std()), SPREAD_BELOW)


def reachable_range(context: Context, images: Tensor) -> tuple[float, float]:
    """Least and largest output of the network once its weights were pushed, first downwards and then upwards.

    Logits follow without limit; what stays within 0 and 1 has been through an activation.
    """
    seen: list[float] = []
    for sign in (1.0, -1.0):
        model = fresh(context, small=True).model.train()
        optimiser = torch.optim.Adam(model.parameters(), lr=PUSH_RATE)
        for _ in range(PUSHES):
            output = finest(model(images))
            seen += [float(output.detach().min()), float(output.detach().max())]
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(sign * output.mean())
            optimiser.step()
    known = [value for value in seen if math.isfinite(value)]
    return min(known), max(known)


def resume_error(context: Context, board: Board) -> tuple[float, tuple[str, ...]]:
    """Step, save, and step on: once in the state itself, once in a fresh one that was given what was saved.

    Returns:
        The largest difference of a weight relative to the largest change of that step, and what else differs.

    Raises:
        NonFiniteError: A step ended in one.
    """
    going, resumed = fresh(context, small=True), fresh(context, small=True)
    _step(going, board)
    saved = copied(going.state_dict())
    resumed.load_state_dict(copied(saved), "a state that was saved")
    before = {name: one.detach().clone() for name, one in going.model.named_parameters()}
    for state in (going, resumed):
        _step(state, board)
    pairs = list(zip(before.values(), _weights(going), _weights(resumed), strict=True))
    change = max(float((after - start).abs().max()) for start, after, _ in pairs)
    error = max(float((after - other).abs().max()) for _, after, other in pairs)
    parts = {"rate": going.rate.value != resumed.rate.value, "cursor": going.cursor != resumed.cursor}
    return error / max(change, 1e-30), tuple(name for name, differs in parts.items() if differs)


def _weights(state: TrainingState) -> list[Tensor]:
    return [one.detach() for one in state.model.parameters()]


def _step(state: TrainingState, board: Board) -> None:
    epochs = state.config.training.epochs
    state.rate.apply(0.3 * epochs, epochs)
    board.step(state, PRECISION)
    state.cursor.step += 1


def copied(value: Any) -> Any:
    """Nested plain values with tensors of their own."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value


def first_total(model: nn.Module, board: Board, constants: Sequence[float]) -> tuple[float, float]:
    """The total of the network as it starts, in evaluation mode, and the worst total of some constant logits."""
    start = board.loss(model, PRECISION)
    like = torch.zeros_like(board.probe.perfect)
    return start, max(board.probe.at(like + logit)[TOTAL] for logit in constants)
