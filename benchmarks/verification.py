"""What it costs that every packed file is verified, and read by pieces instead of mapped.

    ./run bench verification [--volumes 8] [--side 320] [--minutes 20]

Makes volumes of noise in a temporary folder, hashes them as a training's thread does, and cuts patches out of them by
`data.packed` and out of a memory map in turn. Times are processor seconds of this process; each figure is the least of
its rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from volumen.data.packed import Packed, PackedArray
from volumen.files import sha256_of

ROUNDS = 5
CUTS = 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=8, help="pairs of image and label")
    parser.add_argument("--side", type=int, default=320, help="voxels")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the training that the share is told of")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [_volume(Path(folder) / f"{number}.npy", options.side, number) for number in range(2 * options.volumes)]
        _verification(files, options.minutes)
        for side in (64, 128):
            _cutting(files, min(side, options.side), options.side)


def _volume(path: Path, side: int, seed: int) -> Path:
    np.save(path, np.random.default_rng(seed).integers(0, 255, (side, side, side), dtype=np.uint8))
    return path


def _open(path: Path, shape: tuple[int, ...], *, trusting: bool) -> PackedArray:
    return PackedArray(path, Packed(path.stat().st_size, sha256_of(path)), shape, "uint8", trusting=trusting)


def _verification(files: list[Path], minutes: float) -> None:
    shape = np.load(files[0], mmap_mode="r").shape
    arrays = [_open(path, shape, trusting=False) for path in files]
    size = sum(path.stat().st_size for path in files)
    began = time.process_time()
    for array in arrays:
        array.verify()
    first = time.process_time() - began
    began = time.process_time()
    for array in arrays:
        array.verify()
    again = time.process_time() - began
    share = first / (60 * minutes)
    print(f"verification of {len(files)} files, {size / 1e6:.0f} MB: {first:.2f} CPU s ({size / first / 1e9:.2f} GB/s)")
    print(f"  once more, as before every checkpoint: {1e3 * again:.2f} CPU ms")
    print(f"  share of one core in {minutes:g} minutes of training: {share:.3%}")


def _cutting(files: list[Path], patch: int, side: int) -> None:
    shape = (side,) * 3
    packed = [_open(path, shape, trusting=True) for path in files]
    mapped = [np.load(path, mmap_mode="r") for path in files]
    places = np.random.default_rng(0).integers(0, side - patch + 1, (CUTS, 3))
    best = {"pieces": float("inf"), "memory map": float("inf")}
    for _ in range(ROUNDS):
        for name, arrays in (("pieces", packed), ("memory map", mapped)):
            best[name] = min(best[name], _timed(lambda arrays=arrays: _cut(arrays, places, patch)))
    ratio = best["memory map"] / best["pieces"]
    rates = ", ".join(f"{name} {CUTS / seconds:.0f} a second" for name, seconds in best.items())
    print(f"patches of {patch}^3 out of {side}^3: {rates} (pieces {ratio:.2f}x the rate of the map)")


def _cut(arrays: Any, places: np.ndarray, patch: int) -> None:
    for number, place in enumerate(places):
        window = tuple(slice(int(first), int(first) + patch) for first in place)
        np.array(arrays[number % len(arrays)][window])


def _timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
