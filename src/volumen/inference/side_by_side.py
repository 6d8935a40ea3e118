"""Several volumes at a time, each in a process of its own with its share of the cores."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pebble import ProcessExpired

from volumen.data.volumes import load_volume
from volumen.errors import UserError
from volumen.inference.files import Outputs
from volumen.inference.prediction_record import FilePrediction
from volumen.inference.recipe import Recipe
from volumen.runtime import physical_cores, tune_allocator
from volumen.system.output import Progress, counted, unheard
from volumen.system.processes import pool_of

_make: Callable[[], Recipe] | None = None  # of this process, where it is one of several
_recipe: Recipe | None = None


@dataclass(frozen=True)
class Processes:
    """Processes that predict.

    One volume at a time leaves cores idle while it is read, cleaned and written; two or three fill the gaps. Every
    process needs the memory of a prediction.
    """

    count: int
    make: Callable[[], Recipe]
    """Opens the recipe anew in each process; has to be picklable."""

    def run(
        self, paths: Sequence[Path], out: Outputs, keep: Callable[[FilePrediction], None], progress: Progress
    ) -> None:
        """Predict images. However this ends, no process stays.

        Args:
            paths: TIFF volumes.
            out: What is written of each.
            keep: Given each image's result as soon as its files are whole.
            progress: Told how many of how many images are done.

        Raises:
            UserError: An image is damaged, or a process was killed, whose image is named; images that are finished
                stay so.
        """
        if not paths:
            return
        threads = max(1, physical_cores() // self.count)
        with pool_of(min(self.count, len(paths)), _begin, (self.make, threads)) as pool:
            futures: dict[Future[FilePrediction], Path] = {
                pool.schedule(_predict, args=(path, out)): path for path in paths
            }
            for number, future in enumerate(as_completed(futures), start=1):
                try:
                    prediction = future.result()
                except ProcessExpired as death:
                    raise UserError(_told(f"that predicted {futures[future].name}", death.exitcode)) from death
                except BrokenProcessPool as death:  # one that had not begun with an image yet
                    raise UserError(_told("that was to predict", None)) from death
                keep(prediction)
                progress(f"{counted(self.count, 'volume')} side by side", number, len(paths))


def _told(which: str, exit_code: int | None) -> str:
    how = "ended" if exit_code is None else f"ended with exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            how = f"was killed by {signal.Signals(-exit_code).name}"
    return (
        f"the process {which} {how}, most likely for want of memory: use a smaller --parallel; with --resume it goes "
        "on behind the volumes that are done"
    )


def _begin(make: Callable[[], Recipe], threads: int) -> None:
    global _make
    tune_allocator()
    torch.set_num_threads(threads)
    _make = make


def _predict(path: Path, out: Outputs) -> FilePrediction:
    global _recipe
    if _recipe is None:  # here and not when the process begins, where an error would have nobody to be told to
        if _make is None:
            raise RuntimeError("the process was not begun")
        _recipe = _make()
    return out.make(_recipe, path.name, load_volume(path), unheard)
