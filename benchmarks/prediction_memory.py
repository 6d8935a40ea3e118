"""How much memory does a prediction of a large volume take, with its probabilities in memory and in a file?

    ./run bench prediction_memory [--sides 256 384 512]

A network of 2 filters and depth 1 (memory of the network is not the point), tiles of 64^3, uint8 volumes of noise that
are mapped from a file. Anonymous memory of the process is sampled while it predicts: pages of files are the system's to
drop. Every case runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from volumen.config.model import UNetModel
from volumen.data.normalise import Normalised, statistics_of
from volumen.inference.predictor import Predictor
from volumen.models import build_model
from volumen.runtime import Precision, cpu_description, proc_status


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 384, 512])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options.child, options.scratch)
    print(cpu_description())
    print("\n| volume | probabilities | anonymous memory gained, MB | seconds |\n| --- | --- | --- | --- |")
    for side in options.sides:
        for place in ("in memory", "in a file"):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--child", str(side)]
                command += ["--scratch", folder] if place == "in a file" else []
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"| {side}^3 | {place} | {found['gained'] / 1e6:.0f} | {found['seconds']:.0f} |", flush=True)
    return 0


def _child(side: int, scratch: Path | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.npy"
        image = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(side,) * 3)
        for number, plane in enumerate(image):
            plane[:] = np.random.default_rng(number).integers(1, 255, plane.shape, np.uint8)
        statistics = statistics_of(image[: min(side, 64)])
        predictor = Predictor(
            build_model(UNetModel(filters=2, depth=1)),
            tile=(64, 64, 64),
            overlap=0.25,
            device="cpu",
            precision=Precision("fp32", "cpu"),
        )
        predictor.logits(np.zeros((64, 64, 64), np.float32))  # warm
        before, began = proc_status("RssAnon")["RssAnon"], time.perf_counter()
        with _Sampler() as sampler:
            predictor.probabilities(Normalised(image, statistics, "zscore"), scratch=scratch)
        seconds = time.perf_counter() - began
    print(json.dumps({"gained": sampler.most - before, "seconds": seconds}))
    return 0


class _Sampler:
    """The most anonymous memory that the process has while a block runs."""

    def __init__(self) -> None:
        self.most = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.most = max(self.most, proc_status("RssAnon")["RssAnon"])


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
