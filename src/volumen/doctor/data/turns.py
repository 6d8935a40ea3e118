"""The 48 ways to turn and mirror a volume, as a group."""

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

Turn = tuple[tuple[int, int, int], tuple[int, int, int]]
"""The axes in their new order, and the sign of each of them."""

TURNS: tuple[Turn, ...] = tuple(
    ((p[0], p[1], p[2]), (s[0], s[1], s[2])) for p in permutations(range(3)) for s in product((1, -1), repeat=3)
)
"""The first one changes nothing."""


def _matrix(turn: Turn) -> NDArray[np.int64]:
    matrix = np.zeros((3, 3), dtype=np.int64)
    for row, (axis, sign) in enumerate(zip(*turn, strict=True)):
        matrix[row, axis] = sign
    return matrix


MATRICES: NDArray[np.int64] = np.stack([_matrix(turn) for turn in TURNS])
"""Of coordinates about the volume's middle, [48, 3, 3]."""
_NUMBERS = {matrix.tobytes(): number for number, matrix in enumerate(MATRICES)}
BETWEEN: NDArray[np.int64] = np.array(
    [[_NUMBERS[np.ascontiguousarray(one.T @ other).tobytes()] for other in MATRICES] for one in MATRICES]
)
"""[a, b]: the turn after which turn a gives what turn b gave before, [48, 48]."""


def turned(volume: NDArray[np.generic], number: int) -> NDArray[np.generic]:
    """A view of a volume [Z, Y, X] after a turn."""
    axes, signs = TURNS[number]
    return volume.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]


def in_words(number: int) -> str:
    """Such as `mirrored along x`; nothing for the turn that changes nothing."""
    axes, signs = TURNS[number]
    said = []
    if axes != (0, 1, 2):
        said.append(f"with axes {' '.join('zyx'[axis] for axis in axes)} for z y x")
    if mirrored := [name for name, sign in zip("zyx", signs, strict=True) if sign < 0]:
        said.append(f"mirrored along {' and '.join(mirrored)}")
    return " and ".join(said)
