"""What trackers cost a training: the same steps with each tracker and with none, in turns.

    ./run bench tracking [--trackers tensorboard,wandb,mlflow,trackio] [--steps 300] [--rounds 3]

Processor seconds of whole trainings in one process, all threads, and wall seconds; the first round is left out because
it compiles and imports. Opening, closing and making databases are in it. Exit code 1 where the weights at the end are
not the same bits.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.run import Run
from volumen.runtime import cpu_description
from volumen.system.output import unheard
from volumen.trackers.choice import TRACKERS, chosen_trackers, tracked
from volumen.training.loop import run_training

EPOCHS = 3


def trained(prepared: Path, out: Path, options: argparse.Namespace, name: str) -> tuple[float, float, float, dict]:
    """Processor and wall seconds of a training, wall seconds of the trackers' closing, and the weights."""
    overrides = [
        f"data.dataset={prepared}", f"data.patch=[{options.patch}, {options.patch}, {options.patch}]", "data.workers=0",
        f"data.sampling.patches_per_epoch={2 * options.steps // EPOCHS}", "data.batch=2", f"training.epochs={EPOCHS}",
        f"model={{filters: {options.filters}, depth: 3}}", "training.validate_every_epochs=1",
        f"inference={{tile: [{options.patch}, {options.patch}, {options.patch}], engine: torch}}",
    ]  # fmt: skip
    config = load_config("preset:default", overrides).config
    processor, wall = time.process_time(), time.monotonic()
    with tracked(chosen_trackers([name]), SilentDisplay(), unheard) as listener:
        outcome = run_training(config, out, listener)
        trained_at = time.monotonic()
    ended, processor = time.monotonic(), time.process_time() - processor
    if outcome.state != "finished":
        raise SystemExit(f"a training was {outcome.state}: nothing is measured")
    weights = dict(Run(out).trained("plain").model.state_dict())
    return processor, trained_at - wall, ended - trained_at, weights


def main() -> int:
    """Measure, print; 1 where tracking changed the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trackers", default=",".join(TRACKERS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--filters", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(cpu_description())
    names = [name for name in options.trackers.split(",") if name == "tensorboard" or importlib.util.find_spec(name)]
    ratios: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in names}
    differs = False
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        os.environ["TRACKIO_DIR"] = str(place / "trackio")
        write_phantom_dataset(place / "raw", volumes=4, shape=(80, 80, 80), scrolls=2, seed=1)
        prepare(place / "raw", place / "prepared")
        folds = make_folds(PreparedDataset.open(place / "prepared"), 2, "volume")[0]
        save_folds(folds, place / "prepared" / "folds.json")
        for number in range(options.rounds + 1):
            order = ["none", *names] if number % 2 else [*reversed(names), "none"]
            found = {one: trained(place / "prepared", place / f"{number}-{one}", options, one) for one in order}
            plain = found["none"]
            for name in names:
                processor, wall, closing, weights = found[name]
                if any(not torch.equal(value, plain[3][key]) for key, value in weights.items()):
                    differs = True
                    print(f"{name}: other weights in round {number}")
                if number:
                    ratios[name].append((processor - plain[0], processor / plain[0], wall / plain[1], closing))
                    print(f"{name}: {processor:.2f} s of {plain[0]:.2f} s without, {wall:.2f} s of {plain[1]:.2f} s by "
                          f"the clock, closing {closing:.2f} s", flush=True)  # fmt: skip
    for name, rows in ratios.items():
        more, share, wall, closing = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name}: {more:+.2f} processor seconds ({share - 1:+.2%}), {wall - 1:+.2%} by the clock, closing "
              f"{closing:.2f} s (medians of {options.rounds}, {options.steps} steps)")  # fmt: skip
    print("weights differ" if differs else "weights equal to the last bit")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
