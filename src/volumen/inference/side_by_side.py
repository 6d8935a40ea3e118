"""Several volumes at a time, each in a process of its own with its share of the cores."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from volumen.data.volumes import read_volume
from volumen.errors import UserError
from volumen.inference.files import FilePrediction, Job, Progress
from volumen.inference.predictor import Predictor
from volumen.runtime import physical_cores, tune_allocator

_predictor: Predictor | None = None  # of this process, where it is one of several


@dataclass(frozen=True)
class Processes:
    """Processes that predict.

    One volume at a time leaves cores idle while it is read, cleaned and written; two or three fill the gaps. Every
    process needs the memory of a prediction.
    """

    count: int
    make: Callable[[], Predictor]
    """Makes the predictor anew in each process; has to be picklable."""

    def run(self, paths: Sequence[Path], job: Job, keep: Callable[[FilePrediction], None], progress: Progress) -> None:
        """Predict images.

        Args:
            paths: TIFF volumes.
            job: What to do with each.
            keep: Given each image's result as soon as its files are whole.
            progress: Told how many of how many images are done.

        Raises:
            UserError: An image is damaged, or a process was killed; images that are finished stay so.
        """
        if not paths:
            return
        threads = max(1, physical_cores() // self.count)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.count, context, _begin, (self.make, threads)) as pool:
            futures = [pool.submit(_predict, path, job) for path in paths]
            try:
                for number, future in enumerate(as_completed(futures), start=1):
                    keep(future.result())
                    progress(f"{self.count} volumes side by side", number, len(paths))
            except BrokenProcessPool as error:
                raise UserError(
                    "a process was killed while it predicted, most likely for want of memory: use a smaller "
                    "--parallel; with --resume it goes on behind the volumes that are done"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)


def _begin(make: Callable[[], Predictor], threads: int) -> None:
    global _predictor
    tune_allocator()
    torch.set_num_threads(threads)
    _predictor = make()


def _predict(path: Path, job: Job) -> FilePrediction:
    if _predictor is None:
        raise RuntimeError("the process was not begun")
    return job.predict(_predictor, path, read_volume(path), lambda name, done, of: None)
