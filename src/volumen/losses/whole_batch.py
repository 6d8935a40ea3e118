"""Sums over the whole batch where several processes each hold a part of it.

A mean over voxels, a mean over samples and what is made of them are ratios of sums. An objective of a shared batch has
the value and the gradient of one process's only if each such sum runs over all parts before it is divided. Outside of
`shared_batch` there is one part, and nothing happens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_total: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("total over the parts of a batch", default=None)


@contextmanager
def shared_batch(total: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which objectives see a part of the batch.

    Args:
        total: Adds up a vector over all parts, and its gradient on the way back; each part's process calls it equally
            often.
    """
    token = _total.set(total)
    try:
        yield
    finally:
        _total.reset(token)


def over_batch(*parts: Tensor) -> tuple[Tensor, ...]:
    """Sums (scalars) of this part as sums of the whole batch, of the first one's dtype; the same ones without parts."""
    total = _total.get()
    if total is None:
        return parts
    return total(torch.stack([part.to(parts[0].dtype) for part in parts])).unbind()
