"""Phantom scrolls: synthetic volumes with exact labels, so that everything can be tried without the competition's data.

`phantom` makes one volume, `write_phantom_dataset` a data set in the competition's layout. A volume is a pure function
of its arguments. What belongs to the scroll (winding, papyrus, scanner) follows from its number alone, what belongs to
the volume from the seed, so that volumes of one scroll look alike and scrolls differ: folds by scroll mean something.

It is a phantom: a score on it says that the machinery works, not how well a model reads a real scroll.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from ruamel.yaml import YAML

from volumen.config.base import LARGEST_SEED
from volumen.data.labels import NAMES
from volumen.data.randomness import generator
from volumen.errors import UserError
from volumen.phantoms.geometry import SheetSettings, make_sheets
from volumen.phantoms.imaging import ScanSettings, scan
from volumen.phantoms.labels import annotate
from volumen.system.locks import folder_in_the_making
from volumen.system.memory import does_not_fit

BYTES_PER_VOXEL = 150  # of memory while it is made
MINIMUM_SIZE = 32  # voxels; smaller volumes hold no two windings
SPACING_UM = 7.91  # the usual voxel size of the Herculaneum scans
FIRST_SCROLL_ID = 1


@dataclass(frozen=True)
class Phantom:
    """One phantom volume; all arrays [Z,Y,X].

    `label` is in the canonical codes. `sheet_ids` numbers the windings from 1 outwards, 0 where there is no papyrus: it
    tells which sheet a merged component should have been cut into.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    sheet_ids: npt.NDArray[np.int16]


def _scroll_settings(scroll: int, difficulty: float) -> tuple[SheetSettings, ScanSettings]:
    """What is the same for all volumes of a scroll; `difficulty` adds contact, damage and noise, and takes contrast."""
    draw = generator(0, 0, scroll, "phantom scroll")
    harder = difficulty - 0.5
    pitch = draw.uniform(13.0, 16.0)
    air = draw.uniform(78, 94)
    sheets = SheetSettings(
        pitch_voxels=pitch,
        thickness_voxels=pitch * (draw.uniform(0.70, 0.80) + 0.15 * harder),
        fold_strength=draw.uniform(0.36, 0.48),
        hole_share=draw.uniform(0.006, 0.014) * 2 * difficulty,
        delaminated_share=draw.uniform(0.08, 0.20) * 2 * difficulty,
    )
    imaging = ScanSettings(
        air_grey=air,
        papyrus_grey=air + draw.uniform(52, 66) * (1 - 0.4 * harder),
        recto_density=draw.uniform(1.185, 1.20),
        blur_voxels=draw.uniform(0.8, 1.05) + 0.2 * harder,
        fringe=draw.uniform(0.05, 0.2),
        noise_grey=draw.uniform(2.1, 3.0) * (1 + 1.2 * harder),
        ring_grey=draw.uniform(0.6, 2.0) * (1 + harder),
        shading=draw.uniform(0.02, 0.05),
    )
    return sheets, imaging


def phantom(seed: int, shape: tuple[int, int, int], *, scroll: int = 0, difficulty: float = 0.5) -> Phantom:
    """Make one volume of a rolled, folded, partly annotated papyrus as a CT scanner would see it.

    The same arguments give the same bytes on the same kind of processor with the same NumPy and SciPy.

    Args:
        seed: which volume of the scroll, 0 or more.
        shape: (z, y, x) in voxels, at least 32 each; z runs roughly along the scroll's axis.
        scroll: which scroll, 0 or more: pitch, thickness, contrast, blur, noise and rings follow from it.
        difficulty: 0 (clear air gaps, little damage and noise) to 1 (mostly touching, damaged, noisy sheets).

    Raises:
        UserError: An argument is out of range.
    """
    if len(shape) != 3 or min(shape) < MINIMUM_SIZE:
        raise UserError(f"phantom: expected a shape of three sizes of at least {MINIMUM_SIZE} voxels, got {shape}")
    if not (0 <= seed <= LARGEST_SEED and 0 <= scroll <= LARGEST_SEED):
        raise UserError(f"phantom: seed and scroll must be 0 to 2^63 - 1, got seed {seed} and scroll {scroll}")
    if not 0 <= difficulty <= 1:
        raise UserError(f"phantom: difficulty must lie between 0 (easy) and 1 (hard), got {difficulty}")
    if missing := does_not_fit(math.prod(shape) * BYTES_PER_VOXEL):
        raise UserError(f"phantom: a volume of {list(shape)} takes {missing}: make it smaller")

    def random(part: str) -> np.random.Generator:
        """Of one name: what one part draws never shifts what another sees."""
        return generator(seed, 0, scroll, f"phantom {part}")

    sheet_settings, scan_settings = _scroll_settings(scroll, difficulty)
    sheets = make_sheets(random, shape, sheet_settings)
    winding = sheets.spiral.winding
    papyrus = sheets.occupancy > 0.5
    first = winding[papyrus].min() if papyrus.any() else 0
    return Phantom(
        image=scan(random, sheets, scan_settings),
        label=annotate(random, sheets),
        sheet_ids=np.where(papyrus, winding - first + 1, 0).astype(np.int16),
    )


def write_phantom_dataset(
    folder: Path | str,
    *,
    volumes: int,
    shape: tuple[int, int, int],
    scrolls: int,
    seed: int,
    test_volumes: int = 0,
    difficulty: float = 0.5,
) -> Path:
    """Write a data set in the competition's layout and return its folder.

    `train_images/ID.tif`, `train_labels/ID.tif` (LZW uint8), `train.csv` (id, scroll_id), and with test volumes
    `test_images/ID.tif` and `test.csv`; `dataset.yaml` declares what the label values mean. Volumes go to the scrolls
    in turn. The folder is filled under a temporary name beside it and renamed when complete: it is whole or not there.

    Raises: UserError if the folder exists and is not empty, or a number is out of range.
    """
    folder = Path(folder)
    if volumes < 1 or test_volumes < 0 or not 1 <= scrolls <= volumes:
        raise UserError(
            f"phantom: expected at least 1 volume and 1 to {max(volumes, 1)} scrolls (each needs a volume), "
            f"got {volumes} volumes, {test_volumes} test volumes and {scrolls} scrolls"
        )
    with folder_in_the_making(folder) as making:
        rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
        for number in range(volumes + test_volumes):
            part = "train" if number < volumes else "test"
            scroll = number % scrolls
            name, scroll_id = f"{10001 + number}", f"{FIRST_SCROLL_ID + scroll}"
            volume_seed = int(generator(seed, 0, number, "phantom volume").integers(2**62))
            made = phantom(volume_seed, shape, scroll=scroll, difficulty=difficulty)
            rows[part].append((name, scroll_id))
            _write_tiff(making / f"{part}_images" / f"{name}.tif", made.image)
            if part == "train":
                _write_tiff(making / "train_labels" / f"{name}.tif", made.label)
        for part, entries in rows.items():
            if entries:
                (making / f"{part}.csv").write_text(_table(entries), encoding="utf-8", newline="")
        with open(making / "dataset.yaml", "w", encoding="utf-8") as stream:
            YAML().dump(_meanings(volumes, shape, scrolls, seed, difficulty), stream)
    return folder


def _write_tiff(path: Path, volume: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, volume, compression="lzw", photometric="minisblack", metadata=None)


def _table(entries: Sequence[tuple[str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "scroll_id"), *entries])
    return text.getvalue()


def _meanings(
    volumes: int, shape: tuple[int, int, int], scrolls: int, seed: int, difficulty: float
) -> dict[str, object]:
    size = " x ".join(str(length) for length in shape)
    return {
        "labels": dict(NAMES),
        "spacing_um": [SPACING_UM] * 3,
        "description": f"Phantom scrolls (synthetic): {volumes} volumes of {size} voxels from {scrolls} scrolls, "
        f"seed {seed}, difficulty {difficulty:g}",
    }
