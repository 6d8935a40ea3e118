"""How much memory is free, asked before something large is allocated: what a damaged file declares is only a number."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LIMITS = (  # of a container: what it may hold, and what it holds
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_UNKNOWN = 2**63
_OUT_OF_MEMORY = (
    "not enough memory",
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",  # cuDNN and cuBLAS
    "resource temporarily unavailable",
    "failed to map segment",  # a library that no longer fits
    "could not get source code",  # what importing PyTorch ends in where no room is left for a file's text
)


def available_bytes() -> int:
    """Memory that can be allocated without swapping, by the system and by the container's limit.

    Where neither says, a number that nothing exceeds.
    """
    free = _UNKNOWN
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            free = int(found[1]) * 1024
    if free == _UNKNOWN and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for most, held in _LIMITS:
        with suppress(OSError, ValueError):
            # What a container holds counts its cache of files too, which gives way; so it is asked for its limit alone
            # where it seems full.
            limit, used = int(Path(most).read_text()), int(Path(held).read_text())
            free = min(free, limit - used if used < limit / 2 else limit // 2)
    return free if free > 0 else _UNKNOWN


def peak_bytes() -> int:
    """The most memory that this process has held so far; 0 where the system does not say."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def limit_growth(most_bytes: int) -> None:
    """Let this process hold no more data than so many bytes, where the system can see to that."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, most_bytes))


def does_not_fit(wanted_bytes: int) -> str:
    """Words for an amount that is more than what is free, such as `8.0 EB, 12.3 GB of memory are free`; empty if it
    fits.
    """
    free = available_bytes()
    return "" if wanted_bytes <= free else f"{amount(wanted_bytes)}, {amount(free)} of memory are free"


def amount(size: int) -> str:
    """Bytes in the unit that suits them."""
    value, units = float(min(size, 10**30)), ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.3g} {units[0]}"


def is_out_of_memory(message: str) -> bool:
    """Whether an error's text speaks of memory that was not there: PyTorch has a class for it on CUDA only."""
    return any(words in message.lower() for words in _OUT_OF_MEMORY)
