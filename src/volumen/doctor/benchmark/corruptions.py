"""What goes wrong with images and labels before anybody trains: pure functions from whole volumes to broken ones.

Each takes volumes that the trainer sees (training and validation), a strength in (0, 1] or a length, and a generator.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.doctor.benchmark.volumes import Volume, Volumes

Corruption = Callable[[Volumes, float, np.random.Generator], Volumes]
Label = NDArray[np.uint8]


def _some(change: Callable[[Volume, np.random.Generator], Volume]) -> Corruption:
    """Change a share of the volumes, the first ones always, since the order has no meaning."""

    def corrupt(volumes: Volumes, share: float, random: np.random.Generator) -> Volumes:
        count = max(1, round(share * len(volumes)))
        chosen = set(random.permutation(len(volumes))[:count].tolist())
        return tuple(change(one, random) if number in chosen else one for number, one in enumerate(volumes))

    return corrupt


def _labels(change: Callable[[Label], Label]) -> Callable[[Volume, np.random.Generator], Volume]:
    return lambda volume, _: replace(volume, label=change(volume.label))


def _coded(background: int, surface: int, ignore: int) -> Callable[[Label], Label]:
    table = np.array([background, surface, ignore], dtype=np.uint8)
    return lambda label: table[label]


def _shift(volumes: Volumes, voxels: float, random: np.random.Generator) -> Volumes:
    """Images moved against their labels along x and y."""
    step = round(voxels)
    return tuple(replace(one, image=np.roll(one.image, (step, step), axis=(1, 2))) for one in volumes)


def _flip(volume: Volume, random: np.random.Generator) -> Volume:
    """The label mirrored along x, the image not."""
    return replace(volume, label=np.ascontiguousarray(volume.label[:, :, ::-1]))


def _pairs(volumes: Volumes, share: float, random: np.random.Generator) -> Volumes:
    """Labels handed on to the next volume, in a share of the volumes (two at least)."""
    count = min(len(volumes), max(2, round(share * len(volumes))))
    labels = [one.label for one in volumes]
    moved = labels[1:count] + labels[:1] + labels[count:]
    return tuple(replace(one, label=label) for one, label in zip(volumes, moved, strict=True))


def _missing(volumes: Volumes, share: float, random: np.random.Generator) -> Volumes:
    """Surface that an annotator left out and called background, in blocks."""

    def thinned(volume: Volume) -> Volume:
        blocks = tuple(-(-side // 12) for side in volume.label.shape)
        lost = np.kron(random.random(blocks) < share, np.ones((12, 12, 12), dtype=bool))
        z, y, x = volume.label.shape
        gone = lost[:z, :y, :x] & (volume.label == SURFACE)
        return replace(volume, label=np.where(gone, BACKGROUND, volume.label).astype(np.uint8))

    return tuple(thinned(one) for one in volumes)


def _shuffled(volumes: Volumes, share: float, random: np.random.Generator) -> Volumes:
    """A share of the labelled voxels exchange their labels at random."""

    def shuffled(volume: Volume) -> Volume:
        label = volume.label.copy()
        known = np.flatnonzero((label != IGNORE) & (random.random(label.shape) < share))
        label.flat[known] = label.flat[random.permutation(known)]
        return replace(volume, label=label)

    return tuple(shuffled(one) for one in volumes)


def _thick(volumes: Volumes, voxels: float, random: np.random.Generator) -> Volumes:
    """Surface grown by some voxels."""

    def grown(volume: Volume) -> Volume:
        wide = ndimage.binary_dilation(volume.label == SURFACE, iterations=round(voxels))
        return replace(volume, label=np.where(wide & (volume.label != IGNORE), SURFACE, volume.label).astype(np.uint8))

    return tuple(grown(one) for one in volumes)


def _odd_scales(volumes: Volumes, strength: float, random: np.random.Generator) -> Volumes:
    """Every image on a scale of its own, as stored whole numbers: what is left of them is coarse."""

    def scaled(volume: Volume) -> Volume:
        factor = random.uniform(0.5, 1.5) * (1 - strength)
        return replace(volume, image=np.clip(volume.image * factor, 0, 255).astype(np.uint8))

    return tuple(scaled(one) for one in volumes)


def _normalised_twice(volumes: Volumes, levels: float, random: np.random.Generator) -> Volumes:
    """Images standardised, cast to whole numbers of standard deviations over `levels`, and standardised again."""

    def cast(volume: Volume) -> Volume:
        image = volume.image.astype(np.float64)
        score = (image - image.mean()) / max(float(image.std()), 1e-6)
        return replace(volume, image=np.clip(np.trunc(score * levels) + 100, 0, 255).astype(np.uint8))

    return tuple(cast(one) for one in volumes)


CORRUPTIONS: dict[str, Corruption] = {
    "ignore_as_surface": _some(_labels(_coded(BACKGROUND, SURFACE, SURFACE))),
    "ignore_as_background": _some(_labels(_coded(BACKGROUND, SURFACE, BACKGROUND))),
    "off_by_one_up": _some(_labels(_coded(SURFACE, IGNORE, BACKGROUND))),
    "off_by_one_down": _some(_labels(_coded(IGNORE, BACKGROUND, SURFACE))),
    "swapped_classes": _some(_labels(_coded(SURFACE, BACKGROUND, IGNORE))),
    "image_shift": _shift,
    "label_flip": _some(_flip),
    "shuffled_pairs": _pairs,
    "missing_components": _missing,
    "shuffled_labels": _shuffled,
    "thick_labels": _thick,
    "odd_scales": _odd_scales,
    "normalised_twice": _normalised_twice,
}
