"""Kernels compiled by Numba: kept for the next process where a folder can be written to, compiled anew elsewhere."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np
from numba import config, njit
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

from volumen.system.output import note_once

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]


class _Kept(FunctionCache):
    """What Numba keeps on the disk; a file that is damaged or does not fit there costs time and nothing else."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel; None where there is none, or none that can be read."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # the files are pickles: damaged ones raise what they like
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, where it can be written."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception:  # the same, of the list that is read before it is written
            _say_once()


@overload
def compiled(function: Function) -> Function: ...
@overload
def compiled(**options: Any) -> Callable[[Function], Function]: ...
def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function of Numba's subset to code that runs without the interpreter's lock; a decorator.

    `options` are others of `numba.njit`, such as `inline`.
    """
    if function is None:
        return lambda given: compiled(given, **options)
    kernel = njit(nogil=True, **options)(function)
    try:
        kernel._cache = _Kept(function)  # type: ignore[no-untyped-call]
    except RuntimeError:  # no folder to keep it in: not the package's, nor one of the user's
        _say_once()
        if _keep_meanwhile():
            kernel._cache = _Kept(function)  # type: ignore[no-untyped-call]
    return kernel


def _keep_meanwhile() -> bool:
    """Let this process and its workers share what they compile, in a folder that goes when it ends."""
    if getattr(config, "CACHE_DIR", ""):
        return False
    try:
        place = tempfile.mkdtemp(prefix="volumen-")
    except OSError:
        return False
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = place  # type: ignore[attr-defined]
    return True


def _say_once() -> None:
    note_once(
        "compiled kernels cannot be kept (package and home folder cannot be written to), so every command "
        "compiles them anew, which takes up to a minute: name a folder with NUMBA_CACHE_DIR"
    )


@compiled
def grown(array: Array) -> Array:
    """A copy of a one-dimensional array with twice the room; for kernels."""
    larger = np.empty(2 * len(array), array.dtype)
    larger[: len(array)] = array
    return larger
