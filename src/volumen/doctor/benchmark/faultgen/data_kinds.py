"""Faults of images and labels."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.benchmark.faultgen.bundle import Act, Bundle
from volumen.doctor.benchmark.faultgen.kind import (
    ANY,
    SOME,
    Change,
    Kind,
    alike,
    between,
    each,
    pictured,
    relabelled,
    rising,
    whole,
)
from volumen.doctor.benchmark.volumes import Volume

Random = np.random.Generator
Changed = Callable[[Volume], Volume]
_FEW_SHEETS = 3


def _with_surface(volume: Volume, surface: NDArray[np.bool_]) -> Volume:
    known = volume.label != IGNORE
    return relabelled(volume, np.where(known, np.where(surface, SURFACE, BACKGROUND), IGNORE))


def _exchanged_codes(volume: Volume, u: float, random: Random) -> Volume:
    """Surface and background exchanged, on a block of the volume that grows to all of it."""
    table = np.array([SURFACE, BACKGROUND, IGNORE], dtype=np.uint8)
    label = volume.label.copy()
    end = round(between(0.3, 1.3, u) * label.shape[0])
    label[:end] = table[label[:end]]
    return relabelled(volume, label)


def _bright_is_surface(volume: Volume, u: float, random: Random) -> Volume:
    """A threshold in place of an annotator."""
    smooth = ndimage.gaussian_filter(volume.image.astype(np.float32), 1)
    return _with_surface(volume, smooth > np.quantile(smooth, between(0.9, 0.4, u)))


def _dilated(volume: Volume, u: float, random: Random) -> Volume:
    return _with_surface(volume, ndimage.binary_dilation(volume.label == SURFACE, iterations=whole(1, 4, u)))


def _eroded(volume: Volume, u: float, random: Random) -> Volume:
    """Surface thinned to voxels here and there."""
    thin = ndimage.binary_erosion(volume.label == SURFACE) & (random.random(volume.label.shape) > between(0.2, 0.9, u))
    return _with_surface(volume, thin)


def _step(label: NDArray[np.uint8], step: int, axis: int) -> NDArray[np.uint8]:
    """Moved along an axis; what comes in is unlabelled."""
    moved = np.full_like(label, IGNORE)
    to, of = [slice(None)] * 3, [slice(None)] * 3
    to[axis] = slice(step, None) if step > 0 else slice(None, step)
    of[axis] = slice(None, -step) if step > 0 else slice(-step, None)
    moved[tuple(to)] = label[tuple(of)]
    return moved


def _shift(u: float, random: Random) -> Changed:
    axis, step = int(random.integers(3)), whole(1, 8, u) * int(random.choice((-1, 1)))
    return lambda volume: relabelled(volume, _step(volume.label, step, axis))


def _mirror(u: float, random: Random) -> Changed:
    axis = int(random.integers(3))
    return lambda volume: relabelled(volume, np.flip(volume.label, axis))


def _transposed(u: float, random: Random) -> Changed:
    first, second = random.permutation(3)[:2]
    return lambda volume: relabelled(volume, _fitted(np.swapaxes(volume.label, first, second), volume.label.shape))


def _turned(u: float, random: Random) -> Changed:
    first, second = random.permutation(3)[:2]
    turns = int(random.integers(1, 4))
    return lambda volume: relabelled(
        volume, _fitted(np.rot90(volume.label, turns, (first, second)), volume.label.shape)
    )


def _fitted(label: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Cut or filled with ignore to a shape."""
    fitted = np.full(shape, IGNORE, dtype=np.uint8)
    common = tuple(slice(0, min(one, other)) for one, other in zip(shape, label.shape, strict=True))
    fitted[common] = label[common]
    return fitted


def _pairs(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Labels handed on in a circle among volumes, two at least."""
    places = list(chosen) if len(chosen) > 1 else [chosen[0], (chosen[0] + 1) % bundle.training]
    changed = {}
    for place, other in zip(places, [*places[1:], places[0]], strict=True):
        volume = bundle.volumes[place]
        changed[place] = relabelled(volume, _fitted(bundle.volumes[other].label, volume.label.shape))
    return bundle.showing(changed)


def _inverted(volume: Volume, u: float, random: Random) -> Volume:
    return pictured(volume, 255.0 - volume.image)


def _missing(volume: Volume, u: float, random: Random) -> Volume:
    """Sheets that nobody marked, called background; blocks where all surface is one piece."""
    share, surface = between(0.25, 0.85, u), volume.label == SURFACE
    pieces, number = ndimage.label(surface, np.ones((3, 3, 3)))
    if number >= _FEW_SHEETS:
        lost = random.permutation(number)[: max(1, round(share * number))] + 1
        return _with_surface(volume, surface & ~np.isin(pieces, lost))
    blocks = tuple(-(-side // 12) for side in surface.shape)
    gone = np.kron(random.random(blocks) < share, np.ones((12, 12, 12), dtype=bool))
    z, y, x = surface.shape
    return _with_surface(volume, surface & ~gone[:z, :y, :x])


def _half(fill: str) -> Change:
    """A slab of the image that shows nothing, which is still labelled."""

    def change(volume: Volume, u: float, random: Random) -> Volume:
        image = volume.image.astype(np.float64)
        axis = int(random.integers(3))
        place = [slice(None)] * 3
        place[axis] = slice(0, round(between(0.25, 0.9, u) * image.shape[axis]))
        part = image[tuple(place)]
        values = {
            "black": 0.0,
            "constant": image.mean(),
            "noise": random.normal(image.mean(), image.std(), part.shape),
        }
        image[tuple(place)] = values[fill]
        return pictured(volume, image)

    return change


def zoomed(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """A volume with another size of voxel, cut where it grows."""
    image = ndimage.zoom(volume.image.astype(np.float32), factors, order=1)
    label = ndimage.zoom(volume.label, factors, order=0)
    part = tuple(slice(0, side) for side in volume.label.shape)
    small = [(0, max(0, 24 - side)) for side in label.shape]
    image, label = np.pad(image, small, mode="edge"), np.pad(label, small, constant_values=IGNORE)
    return relabelled(pictured(volume, image[part]), label[part])


def _scale(u: float, random: Random) -> Changed:
    factor = rising(1.4, 3.0, u)
    factor = factor if random.random() < 0.5 else max(0.5, 1 / factor)
    return lambda volume: zoomed(volume, (factor,) * 3)


def _flat(u: float, random: Random) -> Changed:
    """Slices further apart than voxels are wide."""
    factors = [1.0, 1.0, 1.0]
    factors[int(random.integers(3))] = max(0.5, 1 / rising(1.4, 3.0, u))
    return lambda volume: zoomed(volume, (factors[0], factors[1], factors[2]))


def _everywhere(change: Change) -> Act:
    """A property of the scans, which those that nobody saw have as well."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
        seen, unseen = (tuple(change(one, u, random) for one in part) for part in (bundle.volumes, bundle.unseen))
        return replace(bundle, volumes=seen, unseen=unseen)

    return act


def _hot(volume: Volume, u: float, random: Random) -> Volume:
    """Some voxels far above all others, in 16 bits."""
    image = volume.image.astype(np.uint16)
    image[random.random(image.shape) < rising(0.006, 0.03, u)] = 65535
    return replace(volume, image=image)


def _narrow(volume: Volume, u: float, random: Random) -> Volume:
    """A narrow part of 16 bits."""
    return replace(volume, image=(volume.image.astype(np.float64) * rising(2000, 255, u) / 255).astype(np.uint16))


def _unscaled(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Divided by all that 16 bits hold."""
    return _everywhere(_narrow)(bundle, u, chosen, random).having({"data.normalisation": "none"})


def _clipped(volume: Volume, u: float, random: Random) -> Volume:
    """A window so narrow that most of the matter is white and the air black."""
    low, high = np.quantile(volume.image, (between(0.2, 0.55, u), between(0.7, 0.6, u)))
    return pictured(volume, (volume.image - float(low)) * 255 / max(float(high - low), 1.0))


def _coded(table: tuple[int, int, int]) -> Change:
    def change(volume: Volume, u: float, random: Random) -> Volume:
        return relabelled(volume, np.array(table, dtype=np.uint8)[volume.label])

    return change


_LABEL, _PLACE, _IMAGE = ("P2", "P7", "P1"), ("P7",), ("P7", "P8")
DATA_KINDS = (
    Kind("surface_inverted", "data", _LABEL, each(_exchanged_codes), ANY),
    Kind("surface_by_threshold", "data", _LABEL, each(_bright_is_surface), ANY),
    Kind("surface_dilated", "data", _LABEL, each(_dilated), ANY),
    Kind("surface_eroded", "data", _LABEL, each(_eroded), ANY),
    Kind("label_shifted", "data", _PLACE, alike(_shift), ANY),
    Kind("label_mirrored", "data", _PLACE, alike(_mirror), ANY),
    Kind("label_transposed", "data", _PLACE, alike(_transposed), ANY),
    Kind("label_turned", "data", _PLACE, alike(_turned), ANY),
    Kind("labels_exchanged", "data", _PLACE, _pairs, ANY),
    Kind("grey_inverted", "data", _IMAGE, each(_inverted), SOME),
    Kind("sheets_missing", "data", _LABEL, each(_missing), ANY),
    Kind("half_black", "data", _IMAGE, each(_half("black")), ANY),
    Kind("half_constant", "data", _IMAGE, each(_half("constant")), ANY),
    Kind("half_noise", "data", _IMAGE, each(_half("noise")), ANY),
    Kind("voxel_size", "data", _PLACE, alike(_scale), SOME),
    Kind("anisotropic", "data", _PLACE, alike(_flat), SOME),
    Kind("hot_voxels", "data", _IMAGE, _everywhere(_hot)),
    Kind("sixteen_bit_unscaled", "data", _IMAGE, _unscaled),
    Kind("clipped_window", "data", _IMAGE, each(_clipped), ANY),
    Kind("ignore_as_surface", "data", ("P2", "P1", "P7"), each(_coded((BACKGROUND, SURFACE, SURFACE))), ANY),
    Kind("ignore_as_background", "data", _LABEL, each(_coded((BACKGROUND, SURFACE, BACKGROUND))), ANY),
    Kind("codes_one_up", "data", _LABEL, each(_coded((SURFACE, IGNORE, BACKGROUND))), ANY),
    Kind("codes_one_down", "data", _LABEL, each(_coded((IGNORE, BACKGROUND, SURFACE))), ANY),
)
