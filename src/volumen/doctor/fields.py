"""Made probabilities on which every step of post-processing has something to do, whatever its settings.

A setting of post-processing that changes nothing on these fields is taken for one that does nothing, so they hold what
each step looks for: pieces, gaps, cavities and holes of many sizes, sheets that fuse, and chains that only their
corners hold together.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 64  # voxels


def waves() -> NDArray[np.float32]:
    """Pieces, gaps and cavities of many sizes: lone pieces at one end of x, cavities at the other, [Z, Y, X]."""
    random = np.random.default_rng(0)
    side = (SIDE,) * 3
    parts = [ndimage.gaussian_filter(random.standard_normal(side), sigma, mode="wrap") for sigma in (1.0, 2.5, 6.0)]
    mixed = np.sum([part / part.std() for part in parts], axis=0) + np.linspace(-4.0, 4.0, SIDE)
    result: NDArray[np.float32] = (1 / (1 + np.exp(-mixed))).astype(np.float32)
    return result


def sheets() -> NDArray[np.float32]:
    """Tilted sheets with holes, two fused by bridges, a block with cavities, chains of corners, [Z, Y, X]."""
    z, y, x = np.indices((SIDE,) * 3)
    field = np.full((SIDE,) * 3, 0.05)
    for number, place in enumerate((4, 14, 20, 32)):
        sheet = np.abs(y - place - z / 16) < 1.6
        for hole, radius in enumerate((0.5, 1.5, 2.5, 4.0, 6.0)):
            middle = 6 + 12 * hole
            sheet &= np.hypot(z - middle, x - 8 - 9 * number) > radius
        field[sheet] = 0.93 - 0.05 * number
    for number, height in enumerate((10, 24, 38, 52)):  # bridges between the second and the third sheet
        bridge = (np.abs(z - height) < 2) & (np.abs(x - 50) < 2) & (y > 14 + z / 16) & (y < 20 + z / 16)
        field[bridge] = 0.55 + 0.1 * number
    field[:, 44:52, :40] = 0.97
    for number, side in enumerate((1, 2, 3, 4, 5, 6)):
        first = 3 + 10 * number
        field[first : first + side, 45 : 45 + side, 5 : 5 + side] = 0.02  # cavities of 1 to 216 voxels
    for number in range(6):  # a piece that is unsure touches one that is sure at a corner
        start = 2 + 10 * number
        field[start : start + 4, 55:59, 2:6] = 0.99
        field[start + 4 : start + 8, 59:63, 6:10] = 0.15 + 0.14 * number
    field += 0.02 * np.random.default_rng(1).standard_normal(field.shape)
    result: NDArray[np.float32] = np.clip(field, 0.0, 1.0).astype(np.float32)
    return result
