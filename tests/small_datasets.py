"""Small data sets in the competition's layout, and the data commands run as a shell would run them."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import typer
from numpy.typing import NDArray

from volumen.cli import data as data_commands
from volumen.cli import folds as fold_commands
from volumen.data.dataset import PreparedDataset
from volumen.data.prepare import prepare
from volumen.errors import EXIT_USER_ERROR, UserError

MEANINGS = "labels: {0: background, 1: surface, 2: ignore}\n"
SHAPE = (20, 24, 28)


@dataclass(frozen=True)
class Outcome:
    """What a command printed and returned."""

    code: int
    out: str
    error: str


def command(*arguments: object) -> Outcome:
    """Run `prepare`, `folds` or `phantom`; a mistake of the user's ends with exit code 2, as in `volumen`."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    data_commands.register(app)
    fold_commands.register(app)
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            app([str(argument) for argument in arguments], standalone_mode=False)
        except UserError as mistake:
            print(mistake, file=error)
            code = EXIT_USER_ERROR
    return Outcome(code, out.getvalue(), error.getvalue())


def volume(seed: int, shape: tuple[int, int, int] = SHAPE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image and a label with a tilted sheet and an ignored end; every voxel's label can be read off its image."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    label = np.where(np.abs(x - shape[2] / 2 - y / 4 + z / 5) < 1.5, 1, 0).astype(np.uint8)
    label[:, :, -shape[2] // 4 :] = 2
    image = (label * 60 + random.integers(0, 50, size=shape)).astype(np.uint8)
    return image, label


def save(path: Path, array: NDArray[np.generic], **options: object) -> None:
    """Write a compressed TIFF stack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **{"compression": "zlib", "photometric": "minisblack", **options})


def write_dataset(
    folder: Path,
    cases: dict[str, str],
    *,
    tests: dict[str, str] | None = None,
    shape: Callable[[int], tuple[int, int, int]] = lambda _: SHAPE,
    meanings: str | None = MEANINGS,
    empty: int = 0,
    fill: int = 0,
) -> Path:
    """A data set of scroll by case id; the last planes of its images may be empty."""
    for number, case_id in enumerate(cases):
        image, label = volume(number, shape(number))
        image[len(image) - empty :] = fill
        save(folder / "train_images" / f"{case_id}.tif", image)
        save(folder / "train_labels" / f"{case_id}.tif", label)
    rows = [f"{case_id},{scroll}" for case_id, scroll in cases.items()]
    (folder / "train.csv").write_text("\n".join(["id,scroll_id", *rows]) + "\n")
    for number, case_id in enumerate(tests or {}):
        save(folder / "test_images" / f"{case_id}.tif", volume(100 + number)[0])
    if tests:
        rows = [f"{case_id},{scroll}" for case_id, scroll in tests.items()]
        (folder / "test.csv").write_text("\n".join(["id,scroll_id", *rows]) + "\n")
    if meanings is not None:
        (folder / "dataset.yaml").write_text(meanings)
    return folder


def prepared_dataset(
    folder: Path,
    cases: dict[str, str],
    shape: Callable[[int], tuple[int, int, int]] = lambda _: SHAPE,
    **options: int,
) -> PreparedDataset:
    """The same, prepared."""
    return prepare(write_dataset(folder / "source", cases, shape=shape, **options), folder / "prepared")
