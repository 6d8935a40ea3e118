"""Share one activation between threads: the compiled kernels hold no lock, so a pool of threads is enough.

The number of threads is PyTorch's own (`torch.get_num_threads()`), so that one setting governs both. A pool is kept
because a training step asks for one some hundred times.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[int, ThreadPoolExecutor] = {}
# Threads do not survive a fork: a data-loading worker starts with none and makes its own if it ever needs one.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)

Work = Callable[[int, int, int], None]
"""Called with (share, start, stop)."""


def shares(total: int, *, smallest: int) -> list[tuple[int, int]]:
    """Cut 0..total into contiguous ranges, at most one per thread and none (but the only one) below `smallest`."""
    number = max(1, min(torch.get_num_threads(), total // smallest))
    edges = [total * share // number for share in range(number + 1)]
    return list(itertools.pairwise(edges))


def run_shares(work: Work, ranges: list[tuple[int, int]]) -> None:
    """Run `work` on every range, the first one in the calling thread; an exception of any of them is raised."""
    if len(ranges) == 1:
        work(0, *ranges[0])
        return
    pool = _pools.get(len(ranges))
    if pool is None:
        pool = _pools.setdefault(len(ranges), ThreadPoolExecutor(len(ranges) - 1, thread_name_prefix="volumen-kernels"))
    others = [pool.submit(work, share, *bounds) for share, bounds in enumerate(ranges) if share > 0]
    try:
        work(0, *ranges[0])
    finally:
        for other in others:
            other.result()
