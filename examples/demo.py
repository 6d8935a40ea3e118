"""The main job on a phantom scroll, start to end, in a few minutes: phantom, prepare, folds, train, evaluate, report.

Each command is printed before it runs, so that the same can be done with real volumes. At the end the model is held
against the best constant prediction and a tuned intensity threshold on the held-out volumes; the demo fails where it
does not beat both clearly, for then it has not learned.
"""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from volumen.cli.main import run
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import load_folds
from volumen.experiments.evaluation_file import load_evaluation
from volumen.experiments.scoring import Evaluation

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from baselines import best_constant, tuned_intensity_threshold

# Leaderboard score by which a learned model has to beat each baseline: what lay between the baseline and the winner of
# the competition.
MARGIN = 0.08


def main() -> int:
    """Run the demo; 0 where the model has learned, 1 where it has not."""
    options = _options()
    folder = options.folder
    if folder.exists():
        shutil.rmtree(folder)
    began = time.monotonic()
    for command in _commands(folder, options):
        print(f"\n$ volumen {command}", flush=True)
        code = run(shlex.split(command))
        if code:
            return code
    return _verdict(folder, time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="everything goes here; replaced if it exists")
    parser.add_argument("--time-budget", default="230s", help="for the training alone")
    parser.add_argument("--size", type=int, default=80, help="side of the phantom volumes in voxels")
    parser.add_argument("--volumes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms")
    parser.add_argument("--difficulty", type=float, default=0.2, help="of the phantoms, 0 to 1")
    return parser.parse_args()


def _commands(folder: Path, options: argparse.Namespace) -> list[str]:
    return [
        f"phantom {folder}/phantom --volumes {options.volumes} --size {options.size} --scrolls 1 "
        f"--difficulty {options.difficulty} --seed {options.seed}",
        f"prepare {folder}/phantom --out {folder}/prepared",
        f"folds {folder}/prepared --folds 4 --seed 0",
        f"train preset:default --out {folder}/run --time-budget {options.time_budget} -o name=demo "
        f"-o data.dataset={folder}/prepared -o data.patch=[48,48,48] -o data.sampling.patches_per_epoch=100",
        f"evaluate {folder}/run",
        f"report {folder}/run",
    ]


def _verdict(folder: Path, seconds: float) -> int:
    """Hold the model against what needs no learning; the baselines are tuned on the truth, which flatters them."""
    dataset = PreparedDataset.open(folder / "prepared")
    held_out = load_folds(None, dataset).fold(0).validation
    cases = [(name, np.asarray(dataset.image(name)), np.asarray(dataset.label(name))) for name in held_out]
    evaluation: Evaluation = load_evaluation(folder / "run")
    score = evaluation.mean["leaderboard"]
    print(f"\nleaderboard score on {len(cases)} held-out volumes, mean")
    print(f"  {'this model':<42}{score:.3f}")
    learned = True
    for tune in (best_constant, tuned_intensity_threshold):
        baseline = tune(cases, "leaderboard")
        learned &= score > baseline.mean + MARGIN
        print(f"  {baseline.name:<42}{baseline.mean:.3f}")
    print("  (both baselines are tuned on the truth of these very volumes)")
    print(f"\nthe model {'has learned' if learned else 'has NOT learned'}: it must beat each baseline by {MARGIN}")
    print(f"report: {folder / 'run' / 'report.html'}   ({seconds:.0f} s in all)")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main())
