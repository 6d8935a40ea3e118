"""Randomness by construction: a stream is named by what it is for, never by what ran before it.

Every sample and augmentation draws from `generator(seed, epoch, index, stream)`. Nothing is shared and nothing is
advanced, so the number of workers, their order and a resumed run cannot change a single voxel, and the whole state of
the loader is one integer.
"""

import hashlib

import numpy as np


def generator(seed: int, epoch: int, index: int, stream: str) -> np.random.Generator:
    """An independent random generator that is a pure function of its four arguments.

    Philox (Salmon et al. 2011), keyed through numpy's `SeedSequence`. Different arguments give independent streams.

    Args:
        seed: the run's seed, from 0 to below 2^128; ValueError beyond.
        epoch: from 0 to below 2^64.
        index: place within the epoch, from 0 to below 2^64.
        stream: what the numbers are for, such as "sampling".
    """
    if not 0 <= seed < 2**128:
        raise ValueError(f"seed must lie in [0, 2^128), got {seed}")
    for name, value in (("epoch", epoch), ("index", index)):
        if not 0 <= value < 2**64:
            raise ValueError(f"{name} must lie in [0, 2^64), got {value}")
    name_hash = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    # SeedSequence cuts numbers into 32-bit words and drops leading zeros: of a fixed width, no two keys are alike.
    words = [word for value in (epoch, index, name_hash) for word in (value & 0xFFFFFFFF, value >> 32)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=words)))
