"""Phantom volumes, made by processes of their own while the card is measured, then prepared as a data set."""

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from volumen.cli.main import run
from volumen.files import write_atomically

_MAKE = """
import sys
from volumen.phantoms.scrolls import write_phantom_dataset
folder, size, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
write_phantom_dataset(folder, volumes=1, shape=(size,) * 3, scrolls=1, seed=number, difficulty=0.3)
"""


def _few_threads() -> dict[str, str]:
    """They run beside what is measured."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


class Phantoms:
    """A data set in the making.

    Args:
        folder: Where everything goes; replaced.
        volumes: How many.
        size: Side of each in voxels.
    """

    def __init__(self, folder: Path, volumes: int, size: int) -> None:
        self.folder, self._prepared = folder, False
        shutil.rmtree(folder, ignore_errors=True)
        self.parts = [folder / f"part{number}" for number in range(volumes)]
        folder.mkdir(parents=True)
        self.processes = [
            subprocess.Popen([sys.executable, "-c", _MAKE, str(part), str(size), str(number)], env=_few_threads())
            for number, part in enumerate(self.parts)
        ]

    def prepared(self) -> Path:
        """The prepared data set, with its folds; waits for what is not done yet.

        Raises:
            RuntimeError: A volume could not be made or prepared.
        """
        target = self.folder / "prepared"
        if self._prepared:
            return target
        failed = [process.wait() for process in self.processes]
        if any(failed):
            raise RuntimeError("the phantom volumes could not be made")
        raw, rows = self.folder / "raw", []
        for number, part in enumerate(self.parts):
            name = f"{10001 + number}"
            for kind in ("train_images", "train_labels"):
                (raw / kind).mkdir(parents=True, exist_ok=True)
                shutil.move(part / kind / "10001.tif", raw / kind / f"{name}.tif")
            rows.append((name, "1"))
        shutil.move(self.parts[0] / "dataset.yaml", raw / "dataset.yaml")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("id", "scroll_id"), *rows])
        write_atomically(raw / "train.csv", text.getvalue())
        folds = ["folds", str(target), "--by", "volume", "--folds", str(min(len(rows), 4))]
        for command in (["prepare", str(raw), "--out", str(target)], folds):
            if run(command):
                raise RuntimeError(f"volumen {command[0]} failed on the phantoms")
        self._prepared = True
        return target

    def stop(self) -> None:
        """End what is still being made."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
