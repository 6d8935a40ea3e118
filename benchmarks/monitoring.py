"""What watching costs a training: the same steps with monitors and probes and without, in turns.

    ./run bench monitoring [--dataset PREPARED] [--steps 102] [--rounds 3] [--patch 64] [--filters 16]

Processor seconds of whole trainings in one process, the first pair left out because it compiles. The weights at the
end are compared: they have to be the same bits.
"""

import argparse
import statistics
import sys
import tempfile
import time
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
from volumen.training.loop import run_training


def trained(
    prepared: Path, out: Path, options: argparse.Namespace, watched: bool
) -> tuple[float, dict[str, torch.Tensor]]:
    """Processor seconds of one training, and its weights."""
    epochs = 3
    overrides = [
        f"data.dataset={prepared}", f"data.patch=[{options.patch}, {options.patch}, {options.patch}]", "data.workers=0",
        f"data.sampling.patches_per_epoch={2 * options.steps // epochs}", "data.batch=2", f"training.epochs={epochs}",
        f"model={{filters: {options.filters}, depth: 3}}", "training.validate_every_epochs=3",
        f"inference.tile=[{options.patch}, {options.patch}, {options.patch}]",
        *([] if watched else ["training.monitoring=null"]),
    ]  # fmt: skip
    config = load_config("preset:default", overrides).config
    began = time.process_time()
    run_training(config, out, SilentDisplay())
    seconds = time.process_time() - began
    return seconds, dict(Run(out).trained("plain").model.state_dict())


def main() -> int:
    """Measure, print; 1 where watching changed the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="prepared; a phantom is made without it")
    parser.add_argument("--steps", type=int, default=102)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--filters", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(cpu_description())
    ratios, differs = [], False
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        prepared = options.dataset or place / "prepared"
        if options.dataset is None:
            write_phantom_dataset(place / "raw", volumes=4, shape=(80, 80, 80), scrolls=2, seed=1)
            prepare(place / "raw", prepared)
            save_folds(make_folds(PreparedDataset.open(prepared), 2, "volume")[0], prepared / "folds.json")
        for number in range(options.rounds + 1):
            order = (True, False) if number % 2 else (False, True)
            found = {one: trained(prepared, place / f"{number}-{one}", options, one) for one in order}
            differs |= any(not torch.equal(value, found[False][1][name]) for name, value in found[True][1].items())
            if number:
                ratios.append(found[True][0] / found[False][0])
                print(
                    f"watched {found[True][0]:.2f} s, unwatched {found[False][0]:.2f} s: {ratios[-1] - 1:+.1%}",
                    flush=True,
                )
    print(f"watching costs {statistics.median(ratios) - 1:+.1%} (median of {options.rounds}, {options.steps} steps)")
    print("weights differ" if differs else "weights equal to the last bit")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
