"""What an audit touches of somebody's code, kept and given back bit for bit.

From the parts that were handed over, everything that they reach is found: attributes, containers, what functions
enclose, their defaults and the globals that they name. Iterators that are already running, files and what C keeps to
itself are out of reach.
"""

import functools
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_OBJECTS = 200_000
MOST_BYTES = 1 << 28
"""Of one array of numbers: larger ones are data, which nobody changes."""
MOST_DEPTH = 40
ATOMS = (bool, int, float, complex, str, bytes)
CLOSED = (type, types.ModuleType, types.BuiltinFunctionType, types.GeneratorType)
GENERATOR = "random state"
"""Last part of the place of a generator's state."""
Path = tuple[str, ...]


class Kept:
    """The state of all that some objects reach, and of the process's random numbers."""

    def __init__(self, roots: Mapping[str, Any]) -> None:
        self._seen: dict[int, Any] = {}
        self._names: dict[int, Path] = {}
        self._tensors: list[tuple[Path, Tensor, Tensor, Tensor | None, Tensor | None, bool]] = []
        self._arrays: list[tuple[Path, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        self._tables: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[Any, list[Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._cells: list[tuple[Any, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._generators: list[tuple[Path, Any, Any]] = []
        self._atoms: dict[Path, Any] = {}
        self._random = random_state()
        for name, root in roots.items():
            self._walk(root, (name,))

    def restore(self) -> None:
        """Give everything its state back."""
        for table, saved in self._tables:
            if len(table) != len(saved) or any(table.get(key, self) is not value for key, value in saved.items()):
                table.clear()
                table.update(saved)
        for names, name, value in self._globals:
            names[name] = value
        for cell, content in self._cells:
            cell.cell_contents = content
        for some, items in self._lists:
            if len(some) != len(items) or any(one is not other for one, other in zip(some, items, strict=True)):
                some.clear()
                some.extend(items)
        for group, members in self._sets:
            group.clear()
            group.update(members)
        with torch.no_grad():
            for _, tensor, value, gradient, slope, wanted in self._tensors:
                _put(tensor, value)
                if tensor.is_leaf:
                    tensor.requires_grad_(wanted)
                    tensor.grad = gradient
                if gradient is not None and slope is not None:
                    _put(gradient, slope)
        for _, array, numbers in self._arrays:
            if not np.array_equal(array.view(np.uint8), numbers.view(np.uint8)):
                array[...] = numbers
        for _, generator, state in self._generators:
            _set_state(generator, state)
        set_random_state(self._random)

    def leaves(self) -> dict[Path, Any]:
        """Plain values, tensors and states of generators by where they were found."""
        found = dict(self._atoms)
        found |= {path: value for path, _, value, *_ in self._tensors}
        found |= {path: numbers for path, _, numbers in self._arrays}
        found |= {path: state for path, _, state in self._generators}
        return found

    def objects(self, kind: type) -> Iterator[Any]:
        """What was reached of a class."""
        return (one for one in self._seen.values() if isinstance(one, kind))

    def counters(self) -> Iterator[tuple[str, Any]]:
        """Tables (attributes) that hold whole numbers, with the name of each."""
        for table, saved in self._tables:
            yield from ((name, table) for name, value in saved.items() if type(value) is int and isinstance(name, str))

    def _walk(self, value: Any, path: Path) -> None:
        if value is None or isinstance(value, ATOMS):
            self._atoms[path] = value
            return
        if isinstance(value, CLOSED) or id(value) in self._seen or len(path) > MOST_DEPTH:
            return
        if len(self._seen) > MOST_OBJECTS:
            return
        self._seen[id(value)], self._names[id(value)] = value, path
        if isinstance(value, Tensor):
            self._keep_tensor(value, path)
        elif isinstance(value, np.ndarray):
            if (
                value.flags.writeable
                and value.nbytes <= MOST_BYTES
                and value.dtype != object
                and value.flags.c_contiguous
            ):
                self._arrays.append((path, value, value.copy()))
        elif (state := _state_of(value)) is not None:
            self._generators.append(((*path, GENERATOR), value, state))
        elif isinstance(value, dict):
            self._keep_table(value, path)
        elif isinstance(value, list | deque):
            self._lists.append((value, list(value)))
            self._walk_all(enumerate(value), path)
        elif isinstance(value, set):
            self._sets.append((value, set(value)))
        elif isinstance(value, tuple | frozenset):
            self._walk_all(enumerate(value), path)
        else:
            self._keep_object(value, path)

    def _walk_all(self, items: Any, path: Path) -> None:
        for name, item in list(items):
            self._walk(item, (*path, str(name)))

    def _keep_tensor(self, tensor: Tensor, path: Path) -> None:
        if tensor.numel() * tensor.element_size() > MOST_BYTES and not tensor.requires_grad:
            return
        gradient = tensor.grad if tensor.is_leaf else None
        slope = None if gradient is None else gradient.detach().clone()
        self._tensors.append((path, tensor, tensor.detach().clone(), gradient, slope, tensor.requires_grad))
        if vars(tensor):
            self._keep_table(vars(tensor), path)

    def _keep_table(self, table: dict[Any, Any], path: Path) -> None:
        self._tables.append((table, dict(table)))
        for key, item in list(table.items()):
            names = self._names.get(id(key), (type(key).__name__,)) if isinstance(key, Tensor) else (str(key),)
            self._walk(item, (*path, ".".join(names[-3:])))

    def _keep_object(self, value: Any, path: Path) -> None:
        if isinstance(value, types.MethodType):
            self._walk(value.__self__, path)
            self._walk(value.__func__, (*path, value.__func__.__name__))
            return
        if isinstance(value, functools.partial):
            self._walk_all([("func", value.func), ("args", value.args), ("keywords", value.keywords)], path)
        if isinstance(value, types.FunctionType):
            self._keep_function(value, path)
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            self._seen[id(attributes)] = attributes
            self._keep_table(attributes, path)

    def _keep_function(self, function: types.FunctionType, path: Path) -> None:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # a cell that is not filled yet
                self._cells.append((cell, cell.cell_contents))
                self._walk(cell.cell_contents, (*path, name))
        self._walk_all(enumerate(function.__defaults__ or ()), path)
        self._walk(function.__kwdefaults__, path)
        if _is_library(function.__module__ or ""):
            return
        for name in _named(function.__code__):
            if name in function.__globals__ and not isinstance(function.__globals__[name], CLOSED):
                found = function.__globals__[name]
                self._globals.append((function.__globals__, name, found))
                self._walk(found, (*path, name))


def _is_library(module: str) -> bool:
    """Libraries keep no state of a training in their globals."""
    return module.split(".")[0] in ("torch", "numpy", "monai", "scipy", "functools", "contextlib", "typing")


def _named(code: types.CodeType) -> set[str]:
    """Globals that a function names, functions inside of it too."""
    inner = (_named(one) for one in code.co_consts if isinstance(one, types.CodeType))
    return set(code.co_names).union(*inner)


def _put(tensor: Tensor, value: Tensor) -> None:
    if tensor.shape != value.shape or tensor.dtype != value.dtype:
        tensor.data = value.clone()
    elif not same_bits(tensor, value):
        tensor.data.copy_(value)


def same_bits(one: Any, other: Any) -> bool:
    """Whether two plain values, arrays, tensors or states of generators are the same to the last bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.is_sparse or one.is_quantized:
            return False
        left, right = (each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other))
        return torch.equal(left, right.to(left.device))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(same_bits(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float) and one != one:
        return other != other
    return type(one) is type(other) and bool(one == other)


def _state_of(value: Any) -> Any:
    """The state of a generator of random numbers; None for anything else."""
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return value.get_state()
    return value.getstate() if isinstance(value, random.Random) else None


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, torch.Generator | np.random.RandomState):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.setstate(state)


def random_state() -> dict[str, Any]:
    """The process's random states."""
    found = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "random": random.getstate()}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on with random states that were taken."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["random"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def seed_all(seed: int) -> None:
    """Begin all of the process's random numbers anew."""
    torch.manual_seed(seed)
    np.random.seed(seed % (1 << 32))
    random.seed(seed)
