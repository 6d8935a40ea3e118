"""Is this checkout slower than another one? The same commands of both in turns, in CPU seconds.

    ./run bench against ../other-checkout [--only NAME] [--repeat 3] [--folder against]

Both run with this environment's packages on a phantom scroll that this checkout makes. A ratio below 1 is a gain; what
repeats of one checkout differ by stands beside it and is noise.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from volumen.cli.main import run
from volumen.phantoms.scrolls import phantom, write_phantom_dataset

HERE = Path(__file__).resolve().parents[1]
ACCEPTED = [part for code in ("P1", "P4", "P5", "P6", "P7", "P8", "P9", "P11") for part in ("--accept", code)]
TRAINING = (
    "data.dataset=prepared", "data.workers=0", "data.sampling.patches_per_epoch=80", "training.epochs=1",
    "training.validation={kind: crops, crop: [64, 64, 64], per_volume: 1}", "device=cpu",
)  # fmt: skip


def commands() -> dict[str, list[list[str]]]:
    """By name: what is timed, after what has to be done before."""
    volumen = ["-m", "volumen"]
    overrides = [part for one in TRAINING for part in ("-o", one)]
    return {
        "import": [["-c", "import volumen"]],
        "help": [[*volumen, "--help"]],
        "score": [[*volumen, "score", "mask.npy", "label.npy"]],
        "audit": [[*volumen, "audit", "preset:default", "--data", "prepared"]],
        "train": [["-c", "import shutil; shutil.rmtree('run', ignore_errors=True)"],
                  [*volumen, "train", "preset:default", "--quiet", "--out", "run", *overrides, *ACCEPTED]],
        "predict": [[*volumen, "predict", "run", "large", "masks", "--overwrite"]],
    }  # fmt: skip


def main() -> int:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the same project")
    parser.add_argument("--only", action="append", choices=sorted(commands()))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("against"), help="phantom and runs, kept")
    options = parser.parse_args()
    other = options.other.resolve() / "src"
    if not (other / "volumen").is_dir():
        parser.error(f"{options.other} is no checkout: it has no src/volumen")
    lay_out(options.folder)
    print("| command | CPU s there | here | ratio | spread there | here |\n" + "| --- " * 6 + "|")
    for name, lines in commands().items():
        if options.only and name not in options.only:
            continue
        there, here = [], []
        for number in range(-1, options.repeat):  # kernels are compiled at the first call, which does not count
            for source, found in ((other, there), (HERE / "src", here))[:: 1 if number % 2 else -1]:
                for line in lines:
                    seconds = cpu_seconds(line, source, options.folder)
                if number >= 0:
                    found.append(seconds)
        first, second = statistics.median(there), statistics.median(here)
        spreads = " | ".join(f"{(max(one) - min(one)) / statistics.median(one):.0%}" for one in (there, here))
        print(f"| {name} | {first:.2f} | {second:.2f} | {second / first:.3f} | {spreads} |", flush=True)
    return 0


def lay_out(folder: Path) -> None:
    """Phantom volumes to train on, a large one to predict, a mask and its label."""
    if (folder / "label.npy").exists():
        return
    write_phantom_dataset(folder / "raw", volumes=4, shape=(80, 80, 80), scrolls=2, seed=0)
    write_phantom_dataset(folder / "big", volumes=1, shape=(256, 256, 256), scrolls=1, seed=1)
    (folder / "big" / "train_images").rename(folder / "large")
    for line in (["prepare", folder / "raw", "--out", folder / "prepared"], ["folds", folder / "prepared"]):
        if run([str(word) for word in line]):
            raise SystemExit("the phantom could not be prepared")
    first = phantom(2, (192, 192, 192)).label
    np.save(folder / "mask.npy", (np.roll(first, 1, axis=1) == 1).astype(np.uint8))
    np.save(folder / "label.npy", first)


def cpu_seconds(line: list[str], source: Path, folder: Path) -> float:
    """User and system time of a command and its children.

    Raises:
        SystemExit: It fails; its last words are printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(
            f"{source}: {' '.join(line)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-600:]}"
        )
    time.sleep(0.1)  # what it left behind ends
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
