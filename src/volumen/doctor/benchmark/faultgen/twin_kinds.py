"""Faults of the division: volumes that are there twice, in any clothes, and scrolls that are named wrongly."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.doctor.benchmark.faultgen.bundle import Act, Bundle, Scene
from volumen.doctor.benchmark.faultgen.kind import Kind, between, pictured, relabelled, whole
from volumen.doctor.benchmark.volumes import Volume, draw_volume

Random = np.random.Generator
Turn = Callable[[NDArray[np.generic]], NDArray[np.generic]]


def _twin(disguise: Callable[[Volume, float, Random], Volume]) -> Act:
    """A held-out volume is one that is learned from, disguised."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
        of = int(random.integers(bundle.training))
        to = bundle.training + int(random.integers(len(bundle.volumes) - bundle.training))
        return bundle.showing({to: disguise(bundle.volumes[of], u, random)})

    return act


def _same(volume: Volume, u: float, random: Random) -> Volume:
    """Copied, a grey value or two off."""
    return pictured(volume, volume.image + random.normal(0, 0.3 + u, volume.image.shape))


def _noisy(volume: Volume, u: float, random: Random) -> Volume:
    return pictured(volume, volume.image + random.normal(0, between(25, 60, u), volume.image.shape))


def _inverted(volume: Volume, u: float, random: Random) -> Volume:
    return pictured(volume, 255.0 - volume.image + random.normal(0, 10 * u, volume.image.shape))


def _blurred(volume: Volume, u: float, random: Random) -> Volume:
    return pictured(volume, ndimage.gaussian_filter(volume.image.astype(np.float32), between(0.7, 2.0, u)))


def _contrast(volume: Volume, u: float, random: Random) -> Volume:
    grey = np.power(volume.image / 255.0, float(random.choice((1 + 1.5 * u, 1 / (1 + 1.5 * u)))))
    return pictured(volume, 255 * (between(1.0, 0.4, u) * grey + 0.1 * u))


def _both(volume: Volume, turn: Turn) -> Volume:
    image: Any = np.ascontiguousarray(turn(volume.image))
    return replace(relabelled(volume, turn(volume.label)), image=image)


def _mirrored(volume: Volume, u: float, random: Random) -> Volume:
    """Along one axis, and with noise."""
    axis = int(random.integers(3))
    return _noise(_both(volume, lambda array: np.flip(array, axis)), u, random)


def _turned(volume: Volume, u: float, random: Random) -> Volume:
    """By quarters, in a plane whose sides are equal where there is one."""
    z, y, x = volume.label.shape
    planes = [(0, 1), (0, 2), (1, 2)] if z == y == x else [(1, 2)]
    plane, turns = planes[int(random.integers(len(planes)))], int(random.integers(1, 4))
    return _noise(_both(volume, lambda array: np.rot90(array, turns, plane)), u, random)


def _noise(volume: Volume, u: float, random: Random) -> Volume:
    return pictured(volume, volume.image + random.normal(0, 20 * u + 0.01, volume.image.shape))


def _apart(bundle: Bundle, share: float, random: Random) -> tuple[Volume, Volume]:
    """Two pieces of one larger volume that have a share of their voxels in common, moved along an axis."""
    side = max(bundle.sides)
    step = max(1, round((1 - share) * side))
    large = draw_volume(replace(bundle.look, side=side + step), bundle.seed, 1000 + int(random.integers(1000)))
    axis = 1 + int(random.integers(2))
    pieces = []
    for start in (0, large.label.shape[axis] - bundle.sides[axis]):
        place = [slice(0, length) for length in bundle.sides]
        place[axis] = slice(start, start + bundle.sides[axis])
        pieces.append(_both(large, lambda array, place=tuple(place): array[place]))  # type: ignore[misc]
    return pieces[0], pieces[1]


def _near(least: float, most: float) -> Act:
    """A volume that is learned from and one that is held out overlap."""

    def act(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
        one, other = _apart(bundle, between(least, most, u), random)
        return bundle.showing({0: one, bundle.training: _noise(other, 0.2, random)})

    return act


def _own_scrolls(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """Each volume its own scroll, though some overlap."""
    moved = bundle
    for place in range(whole(1, 2, u)):
        one, other = _apart(bundle, between(0.3, 0.6, u), random)
        moved = moved.showing({place: one, bundle.training + place: other})
    names = tuple(str(100 + place) for place in range(len(bundle.volumes)))
    return replace(moved, scrolls=names)


def _one_scroll(bundle: Bundle, u: float, chosen: Sequence[int], random: Random) -> Bundle:
    """One for all, so that both parts of the fold hold volumes of each."""
    volumes = list(bundle.volumes)
    for place in range(min(len(volumes) - bundle.training, bundle.training)):
        if place % 2 == 0:
            other = bundle.training + place
            volumes[place], volumes[other] = volumes[other], volumes[place]
    return replace(bundle, volumes=tuple(volumes), scrolls=("1",) * len(volumes))


def _has_scrolls(scene: Scene) -> bool:
    return scene.look.shape in ("scroll", "crop")


_TWIN = ("P7",)
TWIN_KINDS = (
    Kind("twin_same", "data", _TWIN, _twin(_same), harm="definition"),
    Kind("twin_noisy", "data", _TWIN, _twin(_noisy), harm="definition"),
    Kind("twin_inverted", "data", _TWIN, _twin(_inverted), harm="definition"),
    Kind("twin_blurred", "data", _TWIN, _twin(_blurred), harm="definition"),
    Kind("twin_contrast", "data", _TWIN, _twin(_contrast), harm="definition"),
    Kind("twin_mirrored", "data", _TWIN, _twin(_mirrored), harm="definition"),
    Kind("twin_turned", "data", _TWIN, _twin(_turned), harm="definition"),
    Kind("twin_moved", "data", _TWIN, _near(0.75, 0.95), harm="definition"),
    Kind("twin_overlapping", "data", _TWIN, _near(0.33, 0.5), harm="definition"),
    Kind("scroll_each_its_own", "data", _TWIN, _own_scrolls, harm="definition"),
    Kind("scroll_one_for_all", "data", _TWIN, _one_scroll, harm="definition", fits=_has_scrolls),
)
