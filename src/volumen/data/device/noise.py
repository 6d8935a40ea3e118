"""Standard normal numbers by counting: number n of a key is the same on every device, whatever was made before it.

Philox-4x32 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on whole numbers, then
Box and Muller's transform.
"""

import math

import torch
from torch import Tensor

ROUNDS = 10
_FACTORS = (0xD2511F53, 0xCD9E8D57)
_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF


def philox(counter: list[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Four random words for each counter of four words; all int64 below 2^32."""
    a, b, c, d = counter
    for _ in range(ROUNDS):
        one, two = a * _FACTORS[0], c * _FACTORS[1]  # of 64 bits: the sign bit is one of them
        a, b, c, d = ((two >> 32) & _WORD) ^ b ^ key[0], two & _WORD, ((one >> 32) & _WORD) ^ d ^ key[1], one & _WORD
        key = (key[0] + _STEPS[0]) & _WORD, (key[1] + _STEPS[1]) & _WORD
    return [a, b, c, d]


def normals(shape: tuple[int, int, int], key: tuple[int, int], device: torch.device) -> Tensor:
    """Standard normal numbers, float32 [Z, Y, X].

    Args:
        shape: z, y, x; below 2^34 numbers.
        key: Two words below 2^32.
        device: Where to make them.
    """
    count = math.prod(shape)
    first = torch.arange(-(-count // 4), device=device)
    zero = torch.zeros_like(first)
    words = torch.stack(philox([first, zero, zero, zero], key))
    uniform = (words.to(torch.float32) + 0.5) * 2.0**-32
    radius = (-2.0 * uniform[:2].log()).sqrt()
    angle = (2.0 * math.pi) * uniform[2:]
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()])
    return pairs.t().reshape(-1)[:count].view(shape)
