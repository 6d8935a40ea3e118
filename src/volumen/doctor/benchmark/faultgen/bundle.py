"""What is audited, before it is on disk: volumes, their division, values of the configuration, parts of the code."""

import csv
import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from volumen.doctor.benchmark.setups import Half, Values, tree_of, values_of
from volumen.doctor.benchmark.volumes import UNSEEN, Look, Volume, Volumes, draw_volume, is_prepared, write_prepared
from volumen.doctor.context import Parts
from volumen.files import atomic_path

DATA, VOLUMES = "data", "volumes"


@dataclass(frozen=True)
class Scene:
    """A data set with the network and optimiser that go with it, of one half."""

    name: str
    half: Half
    look: Look
    plainer: Look
    """What a small network learns in 200 steps: on it harm is measured."""
    training: int = 4
    validation: int = 2
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A set-up, healthy or not."""

    volumes: Volumes
    """Those that are learned from, then those that are held out."""
    training: int
    scrolls: tuple[str, ...]
    """Of each volume."""
    values: Mapping[str, Any]
    """Of the configuration, by dotted key, over nothing."""
    look: Look
    seed: int
    parts: Parts = field(default_factory=Parts)
    unseen: Volumes = ()
    """Clean ones, for the truth."""

    def having(self, values: Values) -> "Bundle":
        """With other values of the configuration."""
        return replace(self, values=values_of(self.values, values))

    def showing(self, changed: Mapping[int, Volume]) -> "Bundle":
        """With other volumes in place of some."""
        return replace(self, volumes=tuple(changed.get(place, one) for place, one in enumerate(self.volumes)))

    @property
    def sides(self) -> tuple[int, int, int]:
        """Of its first volume."""
        z, y, x = self.volumes[0].label.shape
        return z, y, x


Act = Callable[[Bundle, float, Sequence[int], np.random.Generator], Bundle]
"""From a set-up, a severity in [0, 1), the volumes that are meant and a generator to the broken set-up."""


def bundle_of(
    scene: Scene, seed: int, source: Path | None, *layers: Values, plainer: bool = False, kept: Path | None = None
) -> Bundle:
    """A healthy set-up.

    Args:
        scene: What it is.
        seed: Of its volumes.
        source: A data set in the competition's layout, for crops.
        layers: Values over the scene's.
        plainer: As harm is measured on.
        kept: Folder in which drawn volumes are kept; None draws them anew.
    """
    look = replace(scene.plainer if plainer else scene.look, source=source)
    scroll = _scrolls(look)
    last = max({scroll(number) for number in range(64)}, key=lambda name: (len(name), name))
    single = len({scroll(number) for number in range(64)}) == 1
    learned = list(islice((number for number in count() if single or scroll(number) != last), scene.training))
    others = (number for number in count() if scroll(number) == last and number not in learned)
    held = list(islice(others, scene.validation))
    unseen = list(islice(others, UNSEEN)) if plainer else []
    numbers = [*learned, *held]
    volumes = _drawn(look, seed, [*numbers, *unseen], kept)
    return Bundle(
        volumes=volumes[: len(numbers)],
        training=len(learned),
        scrolls=tuple(scroll(number) for number in numbers),
        values=values_of(scene.values, *layers),
        look=look,
        seed=seed,
        unseen=volumes[len(numbers) :],
    )


def _drawn(look: Look, seed: int, numbers: Sequence[int], kept: Path | None) -> Volumes:
    """Volumes of a look, from where they are kept if they are."""
    if kept is None:
        return tuple(draw_volume(look, seed, number) for number in numbers)
    key = hashlib.sha256(f"{look} {seed} {numbers}".encode()).hexdigest()[:20]
    path = kept / VOLUMES / f"{key}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _drawn(look, seed, numbers, None)
        named = {f"{part}{n}": getattr(one, part) for n, one in enumerate(made) for part in ("image", "label")}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **named)
    with np.load(path) as arrays:
        return tuple(Volume(arrays[f"image{n}"], arrays[f"label{n}"]) for n in range(len(numbers)))


def _scrolls(look: Look) -> Callable[[int], str]:
    """The scroll of a numbered volume."""
    if look.shape == "crop" and look.source is not None:
        with (look.source / "train.csv").open(encoding="utf-8", newline="") as file:
            known = {row["id"]: row["scroll_id"] for row in csv.DictReader(file)}
        files = sorted(path.stem for path in (look.source / "train_labels").glob("*.tif"))
        if len(files) < 5:  # crops of one volume may overlap
            return lambda number: files[number % len(files)]
        return lambda number: known[files[number % len(files)]]
    if look.shape in ("crop", "scroll"):
        return lambda number: str(1 + number % look.scrolls)
    return lambda number: "1"


def dataset_of(bundle: Bundle, out: Path) -> Path:
    """The prepared data set of a set-up, kept under its content."""
    digest = hashlib.sha256(json.dumps([bundle.training, bundle.scrolls]).encode())
    for volume in bundle.volumes:
        digest.update(f"{volume.image.dtype} {volume.image.shape}".encode())
        digest.update(np.ascontiguousarray(volume.image).tobytes())
        digest.update(np.ascontiguousarray(volume.label).tobytes())
    folder = out / DATA / digest.hexdigest()[:20]
    if not is_prepared(folder):
        made = out / DATA / f"{folder.name}-{secrets.token_hex(3)}"
        write_prepared(made, bundle.volumes, training=bundle.training, scrolls=bundle.scrolls)
        with suppress(OSError):  # another process was faster
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder / "prepared"


def config_in(bundle: Bundle, dataset: Path, name: str, seed: int = 0) -> dict[str, Any]:
    """What the configuration's file of a set-up says."""
    tree = tree_of(max(32, 8 * -(-max(bundle.sides) // 8)), bundle.values)
    data = {**tree["data"], "dataset": str(dataset)}
    plain: dict[str, Any] = json.loads(json.dumps({**tree, "name": name, "seed": seed, "data": data}))
    return plain
