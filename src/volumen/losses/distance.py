"""Capped Euclidean distances on the tensor's own device, for the terms that care about the surface's boundary.

The boundary terms look only a few voxels far. A squared distance capped at a small integer needs no general distance
transform: along one axis after the other, take the least of the value k voxels away plus k^2 (the distance transform of
Felzenszwalb and Huttenlocher, Theory of Computing 2012, with a window in place of the parabolas). It is exact below
the cap, runs on whole batches and any device, and in 8-bit integers it is faster than an exact transform of everything.
"""

import math

import torch
from torch import Tensor

_SPATIAL_AXES = (-3, -2, -1)


def capped_squared_distance(seeds: Tensor, cap: int) -> Tensor:
    """Squared Euclidean distance, in voxels, from each voxel to the nearest seed of its own sample, at most `cap`.

    Args:
        seeds: bool [B, Z, Y, X].
        cap: at least 1; a sample without seeds is `cap` everywhere.

    Returns:
        Integers [B, Z, Y, X], of the narrowest type that holds them.
    """
    reach = math.isqrt(cap - 1)  # the farthest offset whose square is below the cap
    largest = cap + reach * reach
    dtype = torch.uint8 if largest < 2**8 else torch.int16 if largest < 2**15 else torch.int32
    squared = torch.full(seeds.shape, cap, dtype=dtype, device=seeds.device).masked_fill_(seeds, 0)
    for axis in _SPATIAL_AXES:
        length = squared.shape[axis]
        nearest = squared.clone()
        for offset in range(1, min(reach, length - 1) + 1):
            farther = squared + offset * offset
            kept = length - offset
            earlier, later = nearest.narrow(axis, 0, kept), nearest.narrow(axis, offset, kept)
            torch.minimum(earlier, farther.narrow(axis, offset, kept), out=earlier)
            torch.minimum(later, farther.narrow(axis, 0, kept), out=later)
        squared = nearest
    return squared


def distance_to_interface(surface: Tensor, background: Tensor, reach: float, dtype: torch.dtype) -> Tensor:
    """Distance, in voxels, of each labelled voxel to the interface between surface and background, at most `reach`.

    The distance of a voxel is that of its centre to the nearest centre of the *other* class, less one half: the voxels
    on both sides of a flat interface are 0.5 from it, the next ones 1.5. Voxels in neither mask (ignored ones) are
    passed over: they belong to no class, so the rim of the labelled region is not an interface.

    Args:
        surface, background: disjoint bool masks [B, Z, Y, X].
        reach: where the answer saturates, in voxels.

    Returns:
        [B, Z, Y, X] of `dtype`; `reach` where no voxel of the other class is that near. Meaningless at ignored voxels.
    """
    cap = math.ceil((reach + 0.5) ** 2)
    to_surface = capped_squared_distance(surface, cap)
    to_background = capped_squared_distance(background, cap)
    squared = torch.maximum(to_surface, to_background)  # one of the two is 0: the distance to the voxel's own class
    return squared.to(dtype).sqrt_().sub_(0.5).clamp_(max=reach)
