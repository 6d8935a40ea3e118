"""Whether Triton's kernels can be compiled and run on this machine's CUDA device.

Triton comes with PyTorch for CUDA on Linux. It needs a C compiler besides, and a card that it knows; so it is tried.
"""

import functools

from volumen.system.output import note_once


@functools.cache
def has_triton() -> bool:
    """True where a small Triton kernel gave the right answer on the current CUDA device; where not, it is said once."""
    try:
        from volumen.system.triton_trial import trial

        trial("cuda")
    except Exception as error:  # no Triton, no compiler, a card too old: all of them raise what they like
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        note_once(f"Triton does not work here ({reason:.200}): norms are PyTorch's own, channels first, and slower")
        return False
    return True
