"""Fill in what a scan does not hold on any device: `emptiness.fill_in` without waiting for the device."""

import torch
from torch import Tensor

from volumen.data.device.grid import pinned
from volumen.data.emptiness import FOLDS, NEAR
from volumen.data.emptying import Emptied

CHUNK_NUMBERS = 2**25
_SHORT_SIDE = 512


def fill_in(image: Tensor, scan: Tensor) -> Tensor:
    """Each voxel outside of the scan gets the value of the nearest one in it, the first in order of z, y, x of several,
    or further off that of its mirror image.

    Args:
        image: [Z, Y, X].
        scan: bool [Z, Y, X]; where it holds nothing at all, the image stays.

    Exact squared distances, axis by axis (Saito and Toriwaki 1994), with the nearest voxel's place carried along.
    """
    place = torch.arange(image.numel(), device=image.device).view(image.shape)
    is_short = max(image.shape) <= _SHORT_SIDE
    kind, most = (torch.int32, 2**20) if is_short else (torch.int64, 2**40)
    distance = torch.zeros(image.shape, dtype=kind, device=image.device).masked_fill(~scan, most)
    for axis in range(3):
        distance, place = _along(distance.movedim(axis, -1), place.movedim(axis, -1), most)
        distance, place = distance.movedim(-1, axis), place.movedim(-1, axis)
    return image.reshape(-1)[_mirrored(place, scan)].where(scan.any(), image)


def _mirrored(place: Tensor, scan: Tensor) -> Tensor:
    """Places in the flattened volume of the values, from those of the nearest voxels; both [Z, Y, X]."""
    _, height, width = scan.shape
    edges = (place // (height * width), place // width % height, place % width)
    steps = []
    for axis, (edge, side) in enumerate(zip(edges, scan.shape, strict=True)):
        here = torch.arange(side, device=place.device).view([-1 if one == axis else 1 for one in range(3)])
        steps.append(edge - here)
    distance = (steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2).double().sqrt()
    left, flat = distance > NEAR, scan.reshape(-1)
    for fold in FOLDS:
        ratio = (fold - (fold - (distance - NEAR) % (2 * fold)).abs()) / distance.clamp(min=1)
        found, source = left, torch.zeros_like(place)
        for edge, step, side in zip(edges, steps, scan.shape, strict=True):
            one = (edge + step * ratio).round().long()
            found = found & (one >= 0) & (one < side)
            source = source * side + one.clamp(0, side - 1)
        found = found & flat[source]
        place, left = source.where(found, place), left & ~found
    return place


def empty_on(image: Tensor, target: Tensor, valid: Tensor, emptied: Emptied) -> Tensor:
    """As `emptying.empty`: the image [Z, Y, X] filled; target and valid, of the same shape, are written to."""
    z, y, x = (pinned(level, image.device) for level in emptied.levels)
    scan = z[:, None, None] + y[:, None] + x <= float(emptied.bound)
    scan = scan | ~(scan & valid).any()
    target.mul_(scan)
    valid.logical_and_(scan)
    return fill_in(image, scan)


def _along(distance: Tensor, place: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """For each voxel the least sum of the squared way along the last axis and the distance there, and its place."""
    side = distance.shape[-1]
    steps = torch.arange(side, dtype=distance.dtype, device=distance.device)
    width = 1 << (side - 1).bit_length()
    squares = (steps[:, None] - steps).square() * width
    lines = (distance * width + steps).reshape(-1, 1, side)  # the distance first, then the lower index
    best = torch.cat([(some + squares).amin(-1) for some in torch.split(lines, max(CHUNK_NUMBERS // side**2, 1))]).view(
        distance.shape
    )
    nearest = (best & (width - 1)).to(torch.int64)
    return (best // width).clamp_(max=most), place.gather(-1, nearest)
