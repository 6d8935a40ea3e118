"""A newcomer's first hour: the README's commands, in their order, on small volumes of their own.

    ./run bench newcomer [--seed 0] [--budget 60s] [--data FOLDER] [--folder FOLDER]

Six phantom volumes of 30 x 64 x 64 to 64 x 64 x 64 voxels, as people bring them: grey values, compression, label
values, masked parts, tables and the files that systems leave are drawn by the seed; or a data set of your own. Three
more volumes (with --data: the training volumes) are never shown to a training: IMAGES and TEST_IMAGES stand for them.
Every command has to end with exit code 0 and one that recommends a post-processing is held against the run's own on the
volumes held back. The commands' words are in FOLDER/transcript.txt, to be read. Exit code 1 where something is wrong.
"""

import argparse
import csv
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from volumen.data.arrays import read_array
from volumen.metrics import leaderboard
from volumen.phantoms.scrolls import phantom

SIDES = ((30, 64, 64), (48, 64, 64), (64, 64, 64), (40, 56, 64), (64, 48, 64), (52, 60, 60))
HELD_BACK = 3
LABELS: dict[str, dict[int, int]] = {  # of the phantom's codes 0, 1, 2
    "0, 1, 2": {0: 0, 1: 1, 2: 2},
    "0, 1": {0: 0, 1: 1, 2: 0},
    "0, 255": {0: 0, 1: 255, 2: 0},
}
README = Path(__file__).resolve().parents[1] / "README.md"


def main() -> int:
    """Make the volumes, run the commands, judge what they recommend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", default="60s", help="of the training")
    parser.add_argument("--data", type=Path, help="a data set in the competition's layout instead of phantoms")
    parser.add_argument("--folder", type=Path, default=Path("newcomer"), help="replaced if it exists")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    (options.folder / "held_back" / "images").mkdir(parents=True)
    (options.folder / "held_back" / "labels").mkdir()
    if options.data is None:
        print(bring_volumes(options.folder, np.random.default_rng(options.seed)))
    else:
        bring_set(options.folder, options.data.resolve())
    wrong = 0
    with (options.folder / "transcript.txt").open("w", encoding="utf-8") as transcript:
        for line in commands(README.read_text(encoding="utf-8"), options.budget):
            code, seconds, words = type_in(line, options.folder)
            transcript.write(f"$ {line}\n{words}\n[exit code {code} after {seconds:.0f} s]\n\n")
            last = next((text for text in reversed(words.splitlines()) if text.strip()), "")
            print(f"{code:>3} {seconds:5.0f} s  {line}\n            {last.strip()[:150]}", flush=True)
            wrong += code != 0
    wrong += not recommendation_holds(options.folder)
    print(f"{wrong} wrong; every word is in {options.folder / 'transcript.txt'}")
    return 1 if wrong else 0


def commands(readme: str, budget: str) -> Iterator[str]:
    """The README's way through, with this bench's files in it."""
    way = next(block for block in re.findall(r"^```\n(.*?)^```", readme, re.S | re.M) if "volumen train" in block)
    for line in way.splitlines():
        command = line.partition("#")[0].strip()
        if not command.startswith("volumen "):
            continue
        command = re.sub(r"--time-budget \S+", f"--time-budget {budget}", command)
        for word, file in (("TEST_IMAGES", "held_back/images"), ("IMAGES", "held_back/images"), ("DATASET", "own")):
            command = re.sub(rf"\b{word}\b", file, command)
        yield re.sub(r"\bOUT\b", "masks", command)


def type_in(line: str, folder: Path) -> tuple[int, float, str]:
    """A command as a shell in that folder would run it: exit code, seconds, words."""
    words = shlex.split(line)[1:]
    expanded = [str(path.relative_to(folder)) for word in words for path in _globbed(folder, word)]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "volumen", *expanded],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, time.monotonic() - began, done.stdout


def _globbed(folder: Path, word: str) -> list[Path]:
    found = sorted(folder.glob(word)) if "*" in word else []
    return found or [folder / word]


def bring_volumes(folder: Path, random: np.random.Generator) -> str:
    """Write the volumes of somebody whom the generator draws; says who it is."""
    own, names = folder / "own", list(LABELS)
    sixteen, labels = bool(random.integers(2)), names[int(random.integers(len(names)))]
    compression = (None, "lzw", "zlib")[int(random.integers(3))]
    delimiter, mark = (",", ";")[int(random.integers(2))], ("utf-8", "utf-8-sig")[int(random.integers(2))]
    fill = (None, 0, 255)[int(random.integers(3))]
    for part in ("train_images", "train_labels"):
        (own / part).mkdir(parents=True)
    rows = []
    for number in range(len(SIDES) + HELD_BACK):
        made = phantom(int(random.integers(2**31)), (64, 64, 64), scroll=number % 2, difficulty=0.2)
        box = tuple(slice(0, side) for side in SIDES[number % len(SIDES)])
        image: NDArray[Any] = made.image[box].copy()
        label = np.select([made.label[box] == code for code in LABELS[labels]], list(LABELS[labels].values()))
        if fill is not None and number % 2:
            image[:, :, : image.shape[2] // 4] = fill
        if sixteen:
            image = image.astype(np.uint16) * 257
        name = f"volume_{number:03d}.tif"
        training = number < len(SIDES)
        images, masks = (
            (own / "train_images", own / "train_labels")
            if training
            else (folder / "held_back" / "images", folder / "held_back" / "labels")
        )
        tifffile.imwrite(images / name, image, compression=compression)
        if training:
            tifffile.imwrite(masks / name, label.astype(np.uint8), compression=compression)
            rows.append((name.removesuffix(".tif"), "AB"[number % 2]))
        else:
            tifffile.imwrite(masks / name, made.label[box])
    for place in (own / "train_images", folder / "held_back" / "images"):
        (place / ".DS_Store").write_bytes(bytes(40))
        (place / "._volume_000.tif").write_bytes(b"\0\5\26\7" + bytes(60))
        (place / "Thumbs.db").write_bytes(bytes(40))
    with (own / "train.csv").open("w", encoding=mark, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("id", "scroll_id"), *rows])
    return (
        f"uint{16 if sixteen else 8}, compression {compression}, labels {labels}, masked parts of {fill}, "
        f"table with '{delimiter}' in {mark}"
    )


def bring_set(folder: Path, data: Path) -> None:
    """A data set that is there; what it is trained on is predicted as well, so no recommendation is judged by it."""
    shutil.copytree(data, folder / "own")
    for path in sorted((data / "train_images").glob("*.tif")):
        shutil.copy(path, folder / "held_back" / "images")


def recommendation_holds(folder: Path) -> bool:
    """Whether what `tune` recommends is no worse than the run's own post-processing on the volumes held back.

    The last masks of the README's way are made with what was recommended. Worse means by more than twice the standard
    error of the differences between volumes.
    """
    truths = sorted((folder / "held_back" / "labels").glob("*.tif"))
    run = next((folder / "runs").glob("default-fold*"), None)
    if not truths or run is None or not (folder / "masks").is_dir():
        print("no volumes were held back: nothing recommended is judged")
        return True
    code, _, words = type_in(f"volumen predict {run.relative_to(folder)} held_back/images own_masks", folder)
    if code:
        print(words)
        return False
    gains = []
    for path in truths:
        truth = read_array(path)
        scores = [leaderboard(read_array(folder / masks / path.name), truth).score for masks in ("masks", "own_masks")]
        gains.append(scores[0] - scores[1])
        print(f"{path.stem}: as recommended {scores[0]:.3f}, the run's own {scores[1]:.3f}")
    error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
    print(f"what was recommended gains {np.mean(gains):+.3f} +- {error:.3f}")
    return float(np.mean(gains)) >= -2 * error - 1e-9


if __name__ == "__main__":
    sys.exit(main())
