"""How many training patches a second does the device make, beside the CPU's one core?

    ./run bench device_data [--device cuda] [--patch 128] [--batch 2] [--seconds 5]

Volumes of noisy sheets, labelled in part, varied as by default. One thread; the time for loading the volumes and
compiling is not counted. `host` is what the device's patches cost the CPU, without a device's arithmetic: dice, places
and parameters.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from volumen.config.data import Data, Sampling
from volumen.data.dataset import PreparedDataset
from volumen.data.device.loader import DevicePatchLoader
from volumen.data.loader import PatchLoader
from volumen.data.prepare import prepare
from volumen.data.sampling import PatchDataset
from volumen.runtime import choose_device, machine_description

VOLUMES = 3
MARGIN_VOXELS = 64
WARM_BATCHES = 8
BATCHES_BETWEEN_WAITS = 8
PATCHES = 10_000_000


def measure(device: torch.device, patch: int | Sequence[int], batch: int, seconds: float) -> dict[str, float]:
    """Patches a second made by a device in so many seconds, and the host's milliseconds for each."""
    with _dataset(_sides(patch)) as prepared:
        return _measure(_patches(prepared, _sides(patch), batch), device, batch, seconds)


def _measure(patches: PatchDataset, device: torch.device, batch: int, seconds: float) -> dict[str, float]:
    with DevicePatchLoader(patches, batch, device) as loader:
        batches = loader.epoch(0)
        for _ in range(WARM_BATCHES):
            next(batches)
        _wait(device)
        count, busy, began = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(BATCHES_BETWEEN_WAITS if device.type == "cuda" else 1):
                next(batches)
                count += batch
            _wait(device)
        spent, host = time.perf_counter() - began, time.process_time() - busy
    return {"patches_per_second": count / spent, "host_ms_per_patch": 1000 * host / count}


def _measure_cpu(patches: PatchDataset, batch: int, seconds: float) -> float:
    with PatchLoader(patches, batch, workers=0) as loader:
        batches = loader.epoch(0)
        next(batches)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            next(batches)
            count += batch
        return count / (time.perf_counter() - began)


def _measure_host(patches: PatchDataset, device: torch.device, seconds: float) -> float:
    """Milliseconds of the host for a patch without what the device does."""
    with DevicePatchLoader(patches, 1, device) as loader:
        for key in range(WARM_BATCHES):
            loader._drawn(key)
        count, busy, began = 0, time.process_time(), time.perf_counter()
        while time.perf_counter() - began < seconds:
            loader._drawn(count)
            count += 1
        return 1000 * (time.process_time() - busy) / count


def _sides(patch: int | Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (patch,) * 3 if isinstance(patch, int) else patch
    return z, y, x


def _patches(prepared: PreparedDataset, patch: tuple[int, int, int], batch: int) -> PatchDataset:
    config = Data(dataset="benchmark", patch=patch, batch=batch, sampling=Sampling(patches_per_epoch=PATCHES))
    return PatchDataset(prepared, [case.id for case in prepared.labelled], config, 0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _dataset(patch: tuple[int, int, int]) -> Iterator[PreparedDataset]:
    """Sheets across y with noise; the last eighth along x is not labelled."""
    shape = tuple(side + MARGIN_VOXELS for side in patch)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("train_images", "train_labels"):
            (folder / "raw" / part).mkdir(parents=True)
        for number in range(VOLUMES):
            random = np.random.default_rng(number)
            label = np.broadcast_to((np.arange(shape[1]) % 20 < 4)[None, :, None], shape).astype(np.uint8)
            image = random.integers(1, 120, shape, dtype=np.uint8) + 100 * label
            label[..., -(shape[2] // 8) :] = 2
            tifffile.imwrite(folder / "raw" / "train_images" / f"{number}.tif", image)
            tifffile.imwrite(folder / "raw" / "train_labels" / f"{number}.tif", label)
        rows = "\n".join(["id,scroll_id", *(f"{number},1" for number in range(VOLUMES))])
        (folder / "raw" / "train.csv").write_text(rows + "\n")
        (folder / "raw" / "dataset.yaml").write_text("labels: {0: background, 1: surface, 2: ignore}\n")
        yield prepare(folder / "raw", folder / "prepared")


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_device(options.device)
    print(f"{machine_description(device)}, PyTorch {torch.__version__}, patch {options.patch}^3, one thread")
    with _dataset(_sides(options.patch)) as prepared:
        patches = _patches(prepared, _sides(options.patch), options.batch)
        found: dict[str, Any] = _measure(patches, device, options.batch, options.seconds)
        cpu = _measure_cpu(patches, options.batch, options.seconds)
        host = _measure_host(patches, device, options.seconds / 2)
    print(f"{f'made on {device.type}':<24}{found['patches_per_second']:8.1f} patches/s")
    print(f"{'  of the CPU for each':<24}{found['host_ms_per_patch']:8.2f} ms")
    print(f"{'  of that dice and places':<24}{host:8.2f} ms")
    print(f"{'made by one CPU core':<24}{cpu:8.1f} patches/s")


if __name__ == "__main__":
    main()
