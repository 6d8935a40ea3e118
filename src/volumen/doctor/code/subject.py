"""Somebody's code as the audit sees it: parts of any form behind one face."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from volumen.doctor.findings import Finding, Severity
from volumen.errors import UserError

IMAGES = ("image", "images", "img", "data", "input", "inputs", "x", "volume")
LABELS = ("label", "labels", "target", "targets", "seg", "segmentation", "mask", "masks", "y", "gt", "truth")
VALIDS = ("valid", "valid_mask", "loss_mask", "ignore_mask", "weight", "weights", "roi")
EPOCHS = ("epoch", "current_epoch", "step", "global_step", "iteration", "it")
MOST_BATCHES, MOST_SAMPLES = 8, 16

Output = Any
"""What a network gives: a tensor [N, C, ...], or a list, tuple or mapping of some."""


@dataclass(frozen=True)
class Batch:
    """What a training step is given."""

    image: Tensor
    """[N, C, ...]."""
    target: Tensor
    """[N, ...], [N, 1, ...] or one-hot [N, K, ...]."""
    valid: Tensor | None
    raw: Any
    """As it came."""


@dataclass
class Subject:
    """The parts, and what is derived from them."""

    model: nn.Module | None = None
    loss: Callable[..., Any] | None = None
    batches: tuple[Batch, ...] = ()
    optimiser: Any = None
    step: Callable[..., Any] | None = None
    predict: Callable[..., Any] | None = None
    save: Callable[..., Any] | None = None
    load: Callable[..., Any] | None = None
    schedule: Any = None
    raw: tuple[Any, Any] | None = None
    volume: Any = None
    ignore_index: int | None = None
    classes: int | None = None
    frozen: tuple[str, ...] = ()
    threshold: float = 0.5
    steps: int | None = None
    seed: int = 0
    roots: dict[str, Any] = field(default_factory=dict)
    """All that was handed over, by name: what is kept and given back."""
    known: dict[str, Any] = field(default_factory=dict)
    """What one check found out and another needs."""

    @cached_property
    def device(self) -> torch.device:
        """Where the model is."""
        first = None if self.model is None else next(self.model.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def batch(self) -> Batch:
        """The first one."""
        return self.batches[0]

    @cached_property
    def images(self) -> Tensor:
        """At least two images that differ, [N, C, ...]."""
        shown = self.batch.image[:2].to(self.device)
        shown = shown if shown.is_floating_point() else shown.float()
        return shown if len(shown) > 1 else torch.cat([shown, shown.flip(-1, -2) * 0.9])

    @cached_property
    def template(self) -> Output:
        """What the model gives for `images` in training mode."""
        assert self.model is not None
        self.model.train()
        with torch.no_grad():
            return self.model(self.images)

    @property
    def channels(self) -> int:
        """Of the output: 1 for a sigmoid, else one a class."""
        if self.model is not None and self.batches:
            return int(finest(self.template).shape[1])
        if self.classes is not None:
            return self.classes
        if self.batches:
            target = self.batch.target
            if target.ndim == self.batch.image.ndim and target.shape[1] > 1:
                return int(target.shape[1])
        return 1

    @cached_property
    def takes_valid(self) -> str | int | None:
        """How the loss is given where labels count: a name, a position, or not at all."""
        positional, names = parameters_of(self.loss)
        known = next((name for name in names if name in VALIDS[:4]), None)
        return known or (2 if positional >= 3 else None)

    @cached_property
    def takes_epoch(self) -> str | None:
        """The loss's argument that says how far the training is."""
        return next((name for name in parameters_of(self.loss)[1] if name in EPOCHS), None)

    def value(self, output: Output, target: Tensor, valid: Tensor | None = None, epoch: int = 0) -> Tensor:
        """The loss, one number that can be differentiated."""
        assert self.loss is not None
        places: list[Any] = []
        named: dict[str, Any] = {}
        if self.takes_valid is not None:
            shown = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
            if self.takes_valid == 2:
                places.append(shown)
            else:
                named[str(self.takes_valid)] = shown
        if self.takes_epoch is not None:
            named[self.takes_epoch] = epoch
        return scalar(self.loss(output, target, *places, **named))

    def loss_of(self, batch: Batch, output: Output | None = None) -> Tensor:
        """The loss of the model on a batch."""
        assert self.model is not None
        given = self.model(self.moved(batch.image)) if output is None else output
        target = batch.target.to(self.device)
        valid = None if batch.valid is None else batch.valid.to(self.device)
        shape = self.known.get("heads", "all")
        return self.value(given if shape == "all" else finest(given), target, valid)

    def moved(self, image: Tensor) -> Tensor:
        """On the model's device, as the loader gives it."""
        return image.to(self.device)


def finest(output: Output) -> Tensor:
    """The output of the highest resolution."""
    if isinstance(output, Tensor):
        return output
    items = list(output.values() if isinstance(output, Mapping) else output)
    tensors = [one for one in items if isinstance(one, Tensor) and one.ndim > 2]
    if not tensors:
        raise UserError("a network gives a tensor [N, C, ...], or a list, tuple or mapping of such tensors")
    return max(tensors, key=lambda one: one[0, 0].numel())


def like(output: Output, made: Callable[[Tensor], Tensor]) -> Output:
    """An output of the same form, every tensor of it made anew."""
    if isinstance(output, Tensor):
        return made(output)
    if isinstance(output, Mapping):
        return {key: like(one, made) for key, one in output.items()}
    if isinstance(output, list | tuple):
        items = [like(one, made) for one in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return output


def scalar(found: Any) -> Tensor:
    """The number of what a loss returns: a tensor, a tuple that begins with it, or a mapping that names it."""
    if isinstance(found, Mapping):
        found = next((found[name] for name in ("loss", "total", "total_loss") if name in found), None)
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise UserError(f"a loss returns a tensor with one number, got {type(found).__name__}: loss(output, target)")
    if found.numel() != 1:
        raise UserError(f"a loss returns one number, got a tensor {list(found.shape)}: take its mean")
    return found.reshape(())


def parameters_of(function: Any) -> tuple[int, tuple[str, ...]]:
    """How many arguments a callable demands by position, and the names of all."""
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return 0, ()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = signature.parameters.values()
    needed = sum(one.kind in plain and one.default is inspect.Parameter.empty for one in given)
    return needed, tuple(signature.parameters)


def read_batches(batches: Any, keys: tuple[str | None, str | None]) -> tuple[Batch, ...]:
    """The first batches of an iterable, or of what a callable returns.

    Raises:
        UserError: It gives no pairs of tensors.
    """
    found: list[Batch] = []
    for raw in _drawn(batches):
        found.append(_batch(raw, keys))
        if sum(len(one.image) for one in found) >= MOST_SAMPLES:
            break
    if not found:
        raise UserError("batches gives nothing: hand over an iterable, or a function, of (image, target)")
    return tuple(found)


def _drawn(batches: Any) -> Iterable[Any]:
    if isinstance(batches, tuple) and len(batches) in (2, 3) and all(map(_is_array, batches)):
        return [batches]
    if isinstance(batches, Mapping):
        return [batches]
    if callable(batches) and not hasattr(batches, "__iter__"):
        first = batches()
        if isinstance(first, Mapping) or (isinstance(first, tuple | list) and all(map(_is_array, first))):
            return [first, *(batches() for _ in range(MOST_BATCHES - 1))]
        return islice(first, MOST_BATCHES)
    if not hasattr(batches, "__iter__"):
        raise UserError("batches is an iterable, or a function, of (image, target), got " + type(batches).__name__)
    return islice(batches, MOST_BATCHES)


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _batch(raw: Any, keys: tuple[str | None, str | None]) -> Batch:
    valid = None
    if isinstance(raw, Mapping):
        names = [_key(raw, key, known, what) for key, known, what in zip(keys, (IMAGES, LABELS), "xy", strict=True)]
        image, target = (raw[name] for name in names)
        masks = [name for name in raw if name in VALIDS and name not in names]
        valid = raw[masks[0]] if masks and _is_array(raw[masks[0]]) else None
    elif isinstance(raw, tuple | list) and len(raw) >= 2:
        image, target = raw[0], raw[1]
        valid = raw[2] if len(raw) > 2 and _is_array(raw[2]) and np.ndim(raw[2]) >= 3 else None
    else:
        raise UserError(
            f"a batch is (image, target), (image, target, valid) or a mapping with names for them, got "
            f"{type(raw).__name__}: write batches=[(image, target), ...]"
        )
    image, target = (torch.as_tensor(one) for one in (image, target))
    if image.ndim < 4 or target.ndim not in (image.ndim, image.ndim - 1):
        raise UserError(
            f"images are [N, C, Z, Y, X] or [N, C, Y, X] and targets [N, Z, Y, X], [N, 1, Z, Y, X] or one-hot; got "
            f"{list(image.shape)} and {list(target.shape)}"
        )
    plain = [getattr(one, "as_tensor", lambda one=one: one)().detach() for one in (image, target)]
    return Batch(plain[0], plain[1], None if valid is None else torch.as_tensor(valid), raw)


def _key(raw: Mapping[Any, Any], key: str | None, known: Sequence[str], what: str) -> Any:
    found = key if key is not None else next((name for name in known if name in raw), None)
    if found is None or found not in raw:
        option = "image_key" if what == "x" else "label_key"
        raise UserError(f"a batch has {', '.join(map(str, raw))}: say which it is with {option}=")
    return found


def finding(code: str, severity: Severity, title: str, evidence: str, cause: str, remedy: str, where: str) -> Finding:
    """A finding with one cause and one thing to do."""
    return Finding(code, severity, title, evidence, (cause,), (remedy,), where)
