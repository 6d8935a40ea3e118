"""What the machine can do, and the settings that make it do so: device, precision, allocator, threads.

Thin on purpose: a `Precision` is a context manager and a memory format, and the same training step runs on every
device.
"""

import ctypes
import functools
import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from volumen.errors import UserError
from volumen.system.output import counted
from volumen.system.triton_support import has_triton

# mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20
_TYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """How a network computes; weights and optimiser stay float32 always."""

    name: Literal["fp32", "bf16", "fp16"]
    device_type: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of convolutions and activations."""
        return _TYPES[self.name]

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels last where the norms of this project's networks are kernels of its own: on the CPU, and on CUDA with
        Triton. PyTorch's norm is channels first, and copies to and fro cost more than the convolutions gain.
        """
        if self.device_type == "cpu" or has_triton():
            return torch.channels_last_3d
        return torch.contiguous_format

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which to run the forward pass (not the loss, which stays float32)."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)


def choose_device(requested: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """The device to use; auto takes CUDA if there is one.

    Raises:
        UserError: CUDA is requested and there is none.
    """
    if requested == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was requested, but PyTorch sees no CUDA device: use device cpu or auto")
    return torch.device("cuda" if requested != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(requested: Literal["auto", "bf16", "fp32", "fp16"], device: torch.device | str) -> Precision:
    """The precision to use on `device`.

    Args:
        requested: auto takes bf16 where the processor multiplies it natively (CPU with AMX or AVX512-BF16, CUDA with
            bf16) and fp32 elsewhere: emulated bf16 is many times slower than fp32.
        device: Where the network runs.

    Raises:
        UserError: fp16 on a CPU, whose range is too small without loss scaling and which no CPU path here needs.
    """
    kind = torch.device(device).type
    if requested == "fp16" and kind != "cuda":
        raise UserError(f"precision fp16 works on CUDA only, and the device is {kind}: use bf16, fp32 or auto")
    if requested != "auto":
        return Precision(requested, kind)
    native = torch.cuda.is_bf16_supported(including_emulation=False) if kind == "cuda" else cpu_has_fast_bfloat16()
    return Precision("bf16" if native else "fp32", kind)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets of this CPU that matter here: avx2, fma, avx512f, avx512_bf16, amx_bf16, amx_tile."""
    wanted = {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return frozenset(wanted & set(line.split(":", 1)[1].split()))
    except OSError:
        pass  # no /proc: not Linux; ask PyTorch
    level = torch.backends.cpu.get_cpu_capability().lower()
    return frozenset({"avx2", "fma"} if level.startswith("avx") else ())


def cpu_has_fast_bfloat16() -> bool:
    """True if this CPU multiplies bfloat16 natively, by AMX tiles or AVX512-BF16."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


def cpu_description() -> str:
    """One line for reports: cores, threads, and which path of computing this CPU has."""
    flags = cpu_flags()
    amx = "AMX present" if "amx_bf16" in flags else "AMX absent"
    wide = "AVX512-BF16 present" if "avx512_bf16" in flags else "AVX512-BF16 absent"
    return (
        f"{counted(physical_cores(), 'physical core')}, {counted(torch.get_num_threads(), 'thread')}, PyTorch uses "
        f"{torch.backends.cpu.get_cpu_capability()}; {amx}, {wide}"
    )


@functools.cache
def machine_description(device: torch.device) -> str:
    """What computes, for records of times: the card's name, or the processor's with its cores and threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device):.200}"
    cores = f"{counted(physical_cores(), 'core')}, {counted(torch.get_num_threads(), 'thread')}"
    return f"{_processor_name():.200}, {cores}"


def _processor_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return platform.processor() or platform.machine() or "processor"
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(filter(None, names), platform.machine() or "processor")


def physical_cores() -> int:
    """Physical cores that this process may use: a second thread on one core only disturbs the first in dense
    arithmetic.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(topology.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def proc_status(*names: str) -> dict[str, int]:
    """Sizes of this process by their names in /proc/self/status, in bytes; none where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) * 1024 for name in names if name in fields}


def tune_allocator() -> bool:
    """Keep freed memory in the process instead of giving it back to the system after every step.

    glibc returns large blocks at once and takes a page fault for each of their pages the next time; training allocates
    the same blocks every step. Same numbers, up to a quarter more memory. Call it before the first large allocation,
    once per process: blocks that exist already keep their old treatment.

    Returns:
        True if the settings were taken; False where there is no glibc (macOS, Windows, musl).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (only glibc has it)
        mallopt = library.mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD_BYTES))
    taken = [mallopt(parameter, value) == 1 for parameter, value in settings]  # try every one, even if one is refused
    return all(taken)
