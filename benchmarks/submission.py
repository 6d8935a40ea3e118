"""What tuning and an ensemble gain, on volumes that neither training nor tuning ever saw.

    ./run bench submission --folder lab [--dataset ../shared/data/semi] [--time-budget 5m] [--trials 40] [--rounds 2]

Each round puts one fold of the volumes away as a test set. From the rest two runs are trained, each holding out
another fold; `volumen tune` searches on those held-out volumes. The test set is then scored with the raw threshold 0.5,
the best threshold and the tuned pipeline (means over the two runs), and with the mean of both networks, raw and tuned.
Whatever is in the folder already is used again, so that a killed benchmark goes on.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from volumen.cli.main import run as volumen
from volumen.config.postprocessing import Postprocessing
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds
from volumen.data.prepare import prepare
from volumen.experiments.bundles import bundle_runs
from volumen.experiments.out_of_fold import RunWeights
from volumen.experiments.tuned_runs import tune_runs
from volumen.experiments.tuning import RAW
from volumen.inference.recipe import Recipe, open_recipe
from volumen.metrics import leaderboard, mean_and_noise
from volumen.postprocess import apply_pipeline, describe
from volumen.runtime import cpu_description, tune_allocator

FOLDS, MEMBERS = 5, 2
METHODS = ("raw", "threshold", "tuned", "ensemble", "ensemble, tuned")
Row = dict[str, float]


def main() -> int:
    """Train, tune, score; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/semi"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--time-budget", default="5m", help="of each training")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    tune_allocator()
    print(cpu_description(), flush=True)
    whole = options.folder / "whole"
    if not (whole / "manifest.json").is_file():
        prepare(options.dataset, whole, accept_proposal=True)
    dataset = PreparedDataset.open(whole)
    rows: dict[str, Row] = {}
    for number in range(options.rounds):
        rows |= _round(dataset, number, options)
    _print(dataset, rows)
    return 0


def _round(dataset: PreparedDataset, number: int, options: argparse.Namespace) -> dict[str, Row]:
    """Scores of the test volumes of one round, by case and method."""
    folder = options.folder / f"round-{number}"
    test = make_folds(dataset, FOLDS, "volume")[0].fold(number).validation
    _prepare_rest(options.dataset, folder, test)
    runs = [_train(folder, member, options.time_budget) for member in range(MEMBERS)]
    report = tune_runs(runs, folder / "tuned", trials=options.trials, workers=2)
    tuned, threshold = report.tuned.final.pipeline, report.tuned.final.threshold
    print(f"round {number}: {', '.join(test)} put away; tuned: {describe(tuned)}", flush=True)
    single = [_scores(dataset, test, run, {"raw": RAW, "threshold": threshold, "tuned": tuned}) for run in runs]
    file = folder / "ensemble.volumen"
    bundle_runs([RunWeights(run) for run in runs], file)
    both = _scores(dataset, test, file, {"ensemble": RAW, "ensemble, tuned": tuned})
    return {
        case_id: {name: float(np.mean([one[case_id][name] for one in single])) for name in METHODS[:3]} | both[case_id]
        for case_id in test
    }


def _prepare_rest(raw: Path, folder: Path, test: Sequence[str]) -> None:
    """A data set without the test volumes, and its folds."""
    if (folder / "prepared" / "folds.json").is_file():
        return
    source = folder / "raw"
    for part in ("train_images", "train_labels"):
        (source / part).mkdir(parents=True, exist_ok=True)
        for file in (raw / part).iterdir():
            link = source / part / file.name
            if file.stem not in test and not link.exists():
                link.symlink_to(file.resolve())
    head, *lines = (raw / "train.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0] not in test]
    (source / "train.csv").write_text("\n".join([head, *kept]) + "\n")
    prepare(source, folder / "prepared", accept_proposal=True)
    if volumen(["folds", str(folder / "prepared"), "--by", "volume", "--folds", "4"]):
        raise RuntimeError("no folds could be made")


def _train(folder: Path, member: int, time_budget: str) -> Path:
    run = folder / f"member-{member}"
    finished = run / "status.json"
    if finished.is_file() and json.loads(finished.read_text())["state"] in ("finished", "out_of_time"):
        return run
    arguments = ["train", "preset:default", "-o", f"data.dataset={folder / 'prepared'}", "--fold", str(member)]
    arguments += ["--out", str(run), "--time-budget", time_budget, *(["--resume"] if run.exists() else [])]
    if volumen(arguments):
        raise RuntimeError(f"training of {run} ended early: start the benchmark again to go on")
    return run


def _scores(
    dataset: PreparedDataset, cases: Sequence[str], source: Path, methods: dict[str, Postprocessing]
) -> dict[str, Row]:
    recipe = open_recipe(source)
    return {case_id: dict(_case(dataset, case_id, recipe, methods)) for case_id in cases}


def _case(
    dataset: PreparedDataset, case_id: str, recipe: Recipe, methods: dict[str, Postprocessing]
) -> Iterator[tuple[str, float]]:
    label = np.asarray(dataset.label(case_id))
    probabilities = recipe.of_case(dataset, case_id)
    for name, settings in methods.items():
        yield name, leaderboard(apply_pipeline(probabilities, settings), label).score


def _print(dataset: PreparedDataset, rows: dict[str, Row]) -> None:
    """Mean score, gain over raw and its standard error over the volumes, by scroll."""
    scrolls: dict[str, list[str]] = {}
    for case_id in rows:
        scrolls.setdefault(dataset.case(case_id).scroll_id, []).append(case_id)
    groups = [
        *((f"{scroll} ({len(ids)})", ids) for scroll, ids in sorted(scrolls.items())),
        (f"all {len(rows)}", list(rows)),
    ]
    print("\n| scroll (volumes) | " + " | ".join(METHODS) + " |\n" + "| --- " * (len(METHODS) + 1) + "|")
    for name, ids in groups:
        cells = []
        for method in METHODS:
            gain, noise = mean_and_noise([rows[case_id][method] - rows[case_id]["raw"] for case_id in ids])
            mean = float(np.mean([rows[case_id][method] for case_id in ids]))
            cells.append(f"{mean:.4f}" if method == "raw" else f"{mean:.4f} ({gain:+.4f} ± {noise:.4f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
