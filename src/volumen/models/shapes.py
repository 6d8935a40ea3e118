"""What the tensors of a configured network look like, before anything of it is allocated.

A configuration that comes with weights may name a network that no machine holds. It is built here on PyTorch's `meta`
device, whose tensors have shapes and no memory, and given up as soon as it has more parts than the weights have.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from volumen.config.model import Model, MonaiModel
from volumen.errors import UserError
from volumen.models.build import build_model

Kind = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a tensor."""
MOST_TENSORS = 20_000
LARGEST_ARGUMENT = 100_000
"""Of a network of somebody else's library; such numbers are made into lists there."""
_LONGEST_LOOP = 10_000
_FILLING = (Tensor.normal_, Tensor.uniform_)  # PyTorch would load a compiler to do nothing
_PARTS_PER_TENSOR, _PARTS = 16, 1000  # modules without parameters, and such as are built and replaced


def tensors_of(config: Model, most_tensors: int = MOST_TENSORS) -> dict[str, Kind]:
    """Shape and type of all weights and buffers of a network, by name.

    Raises:
        UserError: It cannot be built, or has more than so many.
    """
    _check_arguments(config)
    try:
        with _weightless(_PARTS + _PARTS_PER_TENSOR * most_tensors):
            made = build_model(config)
        return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in made.state_dict().items()}
    except UserError:
        raise
    except Exception as error:  # a library's network may raise what it likes at arguments that make no sense
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model.kind {config.kind} cannot be built with these settings ({what:.200})") from error


def without_pretraining(config: Model) -> Model:
    """The network as it is built where its weights are at hand: nothing is fetched from elsewhere."""
    if isinstance(config, MonaiModel) and config.arguments.get("pretrained"):
        return config.model_copy(update={"arguments": {**config.arguments, "pretrained": False}})
    return config


def difference(wanted: Mapping[str, Kind], found: Mapping[str, Kind], most: int = 1) -> str:
    """The first things in which weights are not a network's, in words; empty where they are."""
    return "; ".join(islice(_differences(wanted, found), most))


def _differences(wanted: Mapping[str, Kind], found: Mapping[str, Kind]) -> Iterator[str]:
    for name in dict.fromkeys((*wanted, *found)):  # in the order of the layers
        if name not in found:
            yield f"{name} is missing"
        elif name not in wanted:
            yield f"it has {name:.100} besides"
        elif wanted[name] != found[name]:
            (shape, kind), (other, other_kind) = wanted[name], found[name]
            yield f"{name} is {other_kind} {list(other)}, expected {kind} {list(shape)}"


def _check_arguments(config: Model) -> None:
    """Numbers that a library would make lists of, or that no tensor's size can be."""
    values: list[Any] = [config.in_channels]
    if isinstance(config, MonaiModel):
        values.append(config.arguments)
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list | tuple):
            values.extend(value)
        elif isinstance(value, int) and abs(value) > LARGEST_ARGUMENT:
            raise UserError(f"the model's settings hold the number {value}: at most {LARGEST_ARGUMENT} is expected")


class _Meta(TorchFunctionMode):
    """Every tensor that is made is made without memory; what is read from one is 0."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if function in _device_constructors():
            given["device"] = "meta"
        elif function in (Tensor.__iter__, Tensor.unbind, Tensor.tolist, torch.unbind) and args[0].numel():
            if args[0].shape[0] > _LONGEST_LOOP:
                raise ValueError(f"a loop over {args[0].shape[0]} numbers")
        elif function in _FILLING or getattr(function, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        elif function is Tensor.item:
            return 0.0  # such as the rates of dropout, which say nothing about shapes
        return function(*args, **given)


@contextmanager
def _weightless(most_parts: int) -> Iterator[None]:
    """Build networks without memory, and of so many parts at most."""
    parts = 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > most_parts:
            raise UserError("the model's settings make a network of many more parts than there are weights for")

    handles = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
        registration.register_module_module_registration_hook(count),
    ]
    try:
        with _Meta():
            yield
    finally:
        for handle in handles:
            handle.remove()
