"""What is measured in a process of its own: the loader on a few cores, and a real training that is looked at."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from volumen.config.load import load_config
from volumen.config.schema import Config
from volumen.training.listener import BaseListener

STEADY_STEP = 20
"""Step from which a training's speed counts: by then kernels are chosen and batches are waiting."""
SCRIPT = Path(__file__).resolve().parents[1] / "gpu.py"
SOURCE = SCRIPT.parents[1] / "src"


def start(task: str, **arguments: Any) -> "subprocess.Popen[str]":
    """A worker; what it says are lines of JSON."""
    paths = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(SCRIPT), "--worker", json.dumps({"task": task, **arguments})]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})


def lines_of(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    """What a worker says until it ends.

    Raises:
        RuntimeError: It failed.
    """
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
    if process.wait():
        raise RuntimeError(f"a measuring process ended with {process.returncode}")


def work(text: str) -> None:
    """Do a worker's task."""
    options = argparse.Namespace(**json.loads(text))
    TASKS[options.task](options)


def run_config(prepared: str, patch: int, batch: int, extra: list[str]) -> Config:
    """The default preset with the table's patch and batch."""
    shape = f"[{patch}, {patch}, {patch}]"
    settings = [f"data.dataset={prepared}", f"data.patch={shape}", f"data.batch={batch}", *extra]
    return load_config("preset:default", settings).config


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _load(options: argparse.Namespace) -> None:
    """Batches of the CPU's loader, made by as many workers as there are cores."""
    os.sched_setaffinity(0, options.cores)
    import torch

    from volumen.data.loader import PatchLoader
    from volumen.data.sampling import PatchDataset
    from volumen.training.initial import Materials

    torch.set_num_threads(1)
    workers = len(options.cores)
    config = run_config(options.prepared, options.patch, options.batch, ["data.sampling.patches_per_epoch=100000"])
    materials = Materials(config)
    patches = PatchDataset(materials.dataset, materials.fold.train, config.data, config.seed)
    with PatchLoader(patches, config.data.batch, workers) as loader:
        batches = loader.epoch(0)
        for _ in range(2 * workers):  # every worker has begun
            next(batches)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < options.seconds:
            next(batches)
            count += 1
        spent = time.perf_counter() - began
    _say(patches_per_second=count * options.batch / spent)


def _load_on_device(options: argparse.Namespace) -> None:
    """Batches made by the device itself, one core beside it."""
    os.sched_setaffinity(0, options.cores)
    import torch

    import device_data

    torch.set_num_threads(1)
    found = device_data.measure(torch.device(options.device), options.patch, options.batch, options.seconds)
    _say(**(found if isinstance(found, dict) else {"patches_per_second": float(found)}))


class _Watch(BaseListener):
    """Counts steps, and asks the run to stop after so many seconds of steady training."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began, self.first, self.last, self.ended = seconds, 0.0, 0, 0, 0.0

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        step, now = state.cursor.step, time.perf_counter()
        if not self.began and step >= STEADY_STEP:
            self.began, self.first = now, step
            _say(steady=True)
        elif self.began and not self.ended:
            self.last = step
            if now - self.began >= self.seconds:
                self.ended = now
                _say(done=True)
                os.kill(os.getpid(), signal.SIGTERM)


def _train(options: argparse.Namespace) -> None:
    """A run of the loop, with loader, average, probe and records; stopped as a user stops one."""
    from volumen.training.loop import run_training

    extra = [f"device={options.device}", "training.epochs=100000", "training.validate_every_epochs=100000"]
    config = run_config(options.prepared, options.patch, options.batch, [*extra, *options.overrides])
    watch = _Watch(options.seconds)
    with suppress(KeyboardInterrupt):
        run_training(config, Path(options.folder), watch)
    _say(steps_per_second=(watch.last - watch.first) / (watch.ended - watch.began), steps=watch.last - watch.first)


TASKS = {"load": _load, "load_on_device": _load_on_device, "train": _train}
