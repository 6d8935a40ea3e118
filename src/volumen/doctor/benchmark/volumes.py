"""The volumes that the benchmark trains on: drawn sheets, shells and balls, phantom scrolls, crops of a data set.

A volume is a pure function of its look, its number and the seed. Every look has unlabelled parts, so that the faults of
their handling can be made on all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from volumen.data.dataset import MANIFEST, PreparedDataset
from volumen.data.folds import FILE, By, Fold, Folds, save_folds
from volumen.data.labels import BACKGROUND, IGNORE, SURFACE
from volumen.data.prepare import prepare
from volumen.data.randomness import generator
from volumen.phantoms.scrolls import phantom

TRAINING, VALIDATION, UNSEEN = 4, 2, 3
"""Volumes that are learned from, validated on, and kept for the true score."""
_MEANINGS = "labels: {0: background, 1: surface, 2: ignore}\n"
_GRID = 12  # voxels between the nodes of smooth fields


@dataclass(frozen=True)
class Volume:
    """Grey values (uint8, or uint16 where a fault makes them so) and canonical codes uint8, both [Z, Y, X]."""

    image: NDArray[np.uint8] | NDArray[np.uint16]
    label: NDArray[np.uint8]


Volumes = tuple[Volume, ...]
Shape = Callable[[np.random.Generator, "Look"], tuple[NDArray[np.float64], NDArray[np.bool_]]]
"""Brightness without noise (air is 0, matter about 1), and the surface."""


@dataclass(frozen=True)
class Look:
    """What the volumes of a kind look like."""

    shape: str
    """A key of `SHAPES`, `scroll`, or `crop`."""
    thickness: float = 3.0
    """Of what is labelled, in voxels; of balls the radius."""
    pitch: float = 14.0
    """Of sheets, in voxels."""
    count: int = 10
    """Of shells and balls."""
    noise: float = 0.25
    """Standard deviation, in the contrast of matter and air."""
    unlabelled: float = 0.35
    """Share of voxels without a label."""
    side: int = 48
    """Voxels along an axis."""
    empty_cases: int = 0
    """Volumes of the training in which there is nothing."""
    scrolls: int = 2
    """Of phantoms."""
    plain: float = 0.5
    """Of crops: how much of their grey values is drawn from the label; 0 leaves them as they are."""
    source: Path | None = field(default=None, compare=False)
    """Of crops: a data set in the competition's layout."""


def draw_volumes(look: Look, seed: int) -> Volumes:
    """The volumes of a data set: first those of the training, then validation, then the unseen ones."""
    total = TRAINING + VALIDATION + UNSEEN
    return tuple(draw_volume(look, seed, number, empty=number < look.empty_cases) for number in range(total))


def draw_volume(look: Look, seed: int, number: int, *, empty: bool = False) -> Volume:
    """One volume of a look; the number also says which scroll or file it is of."""
    random = generator(seed, 0, number, "benchmark volume")
    if look.shape == "crop" and look.source is not None:
        return _crop(look, look.source, number, random)
    if look.shape in ("crop", "scroll"):
        made = phantom(
            int(random.integers(2**62)), (look.side,) * 3, scroll=number % look.scrolls, difficulty=look.noise
        )
        return Volume(made.image, made.label)
    bright, surface = SHAPES[look.shape](random, look)
    if empty:
        bright, surface = np.zeros_like(bright), np.zeros_like(surface)
    noise = random.standard_normal(bright.shape)
    image = 90 + 60 * ndimage.gaussian_filter(bright, 0.6) + 60 * look.noise * ndimage.gaussian_filter(noise, 0.4)
    label = np.where(surface, SURFACE, BACKGROUND).astype(np.uint8)
    hidden = smooth(random, look.side, 0.6)
    label[hidden > np.quantile(hidden, 1 - look.unlabelled)] = IGNORE
    return Volume(np.clip(image, 0, 255).astype(np.uint8), label)


def _crop(look: Look, source: Path, number: int, random: np.random.Generator) -> Volume:
    """The best labelled of a few places of a volume of the data set, its surfaces made plainer."""
    files = sorted((source / "train_labels").glob("*.tif"))
    chosen = files[number % len(files)]
    label = tifffile.imread(chosen)
    image = tifffile.imread(source / "train_images" / chosen.name)
    sides = [min(look.side, length) for length in label.shape]
    best, most = tuple(slice(0, side) for side in sides), -1
    for _ in range(12):
        first = [int(random.integers(length - side + 1)) for length, side in zip(label.shape, sides, strict=True)]
        place = tuple(slice(start, start + side) for start, side in zip(first, sides, strict=True))
        if (count := int((label[place] == SURFACE).sum())) > most:
            best, most = place, count
    if look.plain == 0:
        return Volume(np.ascontiguousarray(image[best]), np.ascontiguousarray(label[best]))
    shown = ndimage.gaussian_filter((label[best] == SURFACE).astype(np.float64), 0.6)
    # as it is, a small network learns next to nothing of it in 200 steps
    blend = (1 - look.plain) * image[best] + 120 * look.plain * shown
    return Volume(np.clip(blend, 0, 255).astype(np.uint8), np.ascontiguousarray(label[best]))


def smooth(random: np.random.Generator, side: int, strength: float) -> NDArray[np.float64]:
    """A smooth random field [side, side, side] of about this standard deviation."""
    nodes = random.standard_normal((side // _GRID + 3,) * 3) * strength
    grown = ndimage.zoom(nodes, _GRID, order=2)
    return np.asarray(grown[_GRID : _GRID + side, _GRID : _GRID + side, _GRID : _GRID + side])


def _sheets(random: np.random.Generator, look: Look) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Wavy sheets half a pitch thick, one face of them denser: that face is the surface."""
    z, y, x = np.indices((look.side,) * 3).astype(np.float64)
    direction = random.uniform(-0.35, 0.35, 2)
    height = x + direction[0] * y + direction[1] * z + smooth(random, look.side, 3.0) + random.uniform(0, look.pitch)
    place = np.mod(height, look.pitch)
    surface = place < look.thickness
    matter = place < max(look.pitch / 2, look.thickness)
    return matter * 0.75 + surface * 0.45, surface


def _places(random: np.random.Generator, look: Look) -> list[tuple[NDArray[np.float64], float]]:
    """Distance to each object's centre, and its radius."""
    grid = np.indices((look.side,) * 3).astype(np.float64)
    found = []
    for _ in range(look.count):
        centre, radius = random.uniform(4, look.side - 4, 3), random.uniform(6, 10)
        stretch = random.uniform(0.8, 1.25, 3)
        squares = [np.square((axis - middle) * s) for axis, middle, s in zip(grid, centre, stretch, strict=True)]
        found.append((np.sqrt(np.sum(squares, axis=0)), radius))
    return found


def _shells(random: np.random.Generator, look: Look) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Hollow shells, which are the surface, among full balls as bright, which are not."""
    bright, surface = np.zeros((look.side,) * 3), np.zeros((look.side,) * 3, dtype=bool)
    for number, (distance, radius) in enumerate(_places(random, look)):
        if number % 3 == 2:
            full = distance < 0.6 * radius
            bright[full], surface[full] = 1.0, False
        else:
            shell = np.abs(distance - radius) <= look.thickness / 2
            bright[shell], surface[shell] = 1.0, True
    return bright, surface


def _balls(random: np.random.Generator, look: Look) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Balls with a bright wall: their inside is what is sought, and as dark as much of the rest."""
    inside, bright = np.zeros((look.side,) * 3, dtype=bool), 0.35 + smooth(random, look.side, 0.12)
    for distance, radius in _places(random, look):
        grown = radius * look.thickness / 3
        inside |= distance < grown
        bright = np.where(np.abs(distance - grown) < 1.2, 1.0, np.where(distance < grown - 1, 0.1, bright))
    return bright, inside


SHAPES: dict[str, Shape] = {"sheets": _sheets, "shells": _shells, "balls": _balls}


def write_prepared(
    folder: Path, volumes: Sequence[Volume], *, training: int = TRAINING, scrolls: Sequence[str] | None = None
) -> PreparedDataset:
    """Prepare volumes into a folder, with folds whose first one learns from the first `training` of them.

    A folder that is complete is opened as it is. `scrolls` are the volumes' own; None takes one for all.
    """
    prepared = folder / "prepared"
    if not (prepared / FILE).is_file():
        raw = folder / "raw"
        for name in ("train_images", "train_labels"):
            (raw / name).mkdir(parents=True, exist_ok=True)
        names = [f"case{number:02d}" for number in range(len(volumes))]
        for name, volume in zip(names, volumes, strict=True):
            _write(raw / "train_images" / f"{name}.tif", volume.image)
            _write(raw / "train_labels" / f"{name}.tif", volume.label)
        of = scrolls or ["1"] * len(names)
        rows = "".join(f"{name},{scroll}\n" for name, scroll in zip(names, of, strict=True))
        (raw / "train.csv").write_text(f"id,scroll_id\n{rows}", encoding="utf-8")
        (raw / "dataset.yaml").write_text(_MEANINGS, encoding="utf-8")
        dataset = prepare(raw, prepared, accept_changes=True)
        first, second = tuple(names[:training]), tuple(names[training:])
        by: By = "volume" if set(of[:training]) & set(of[training:]) else "scroll"
        folds = Folds(dataset.identity, by, 0, (Fold(first, second), Fold(second, first)))
        save_folds(folds, prepared / FILE, overwrite=True)
    return PreparedDataset.open(prepared)


def is_prepared(folder: Path) -> bool:
    """Whether `write_prepared` has finished there."""
    return (folder / "prepared" / MANIFEST).is_file() and (folder / "prepared" / FILE).is_file()


def _write(path: Path, volume: NDArray[np.generic]) -> None:
    tifffile.imwrite(path, volume, compression="zlib", photometric="minisblack", metadata=None)
