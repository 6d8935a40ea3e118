"""One small kernel, to see whether Triton works; imported only where that is asked."""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl


def jitted(function: Callable[..., Any]) -> Any:
    """`triton.jit`, typed."""
    return triton.jit(function)


@jitted
def _double(values, out, size: tl.constexpr):  # type: ignore[no-untyped-def]
    places = tl.arange(0, size)
    tl.store(out + places, tl.load(values + places) * 2)


def trial(device: str) -> None:
    """Double sixteen numbers on a device.

    Raises:
        RuntimeError: They were not doubled. Triton's own errors besides.
    """
    values = torch.arange(16, device=device, dtype=torch.float32)
    out = torch.empty_like(values)
    _double[(1,)](values, out, size=16)
    if out.tolist() != [2.0 * number for number in range(16)]:
        raise RuntimeError("a small kernel gave wrong numbers")
