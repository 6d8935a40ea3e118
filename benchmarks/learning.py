"""Does it learn? Train the default configuration on real volumes, and hold it against what needs no learning.

    ./run bench learning --dataset ../shared/data/semi --by scroll --fold 0 --time-budget 20m

Prepares the data set, makes folds, trains, evaluates the held-out fold on whole volumes, tunes three baselines on the
truth of that very fold (which flatters them) and prints a table in Markdown; `--picture` writes a slice of the first
held-out volume under each method. Everything is kept in `--folder`, and a second call goes on where the first stopped.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baselines import (
    Baseline,
    Case,
    best_constant,
    tuned_edge_filter,
    tuned_intensity_threshold,
)
from volumen.cli.main import run
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import load_folds
from volumen.data.normalise import normalise
from volumen.data.pictures import encode_png, slice_panel
from volumen.errors import EXIT_INTERRUPTED
from volumen.experiments.evaluation_file import load_evaluation
from volumen.experiments.scoring import Evaluation
from volumen.files import write_atomically
from volumen.inference.predictor import Predictor
from volumen.postprocess import apply_pipeline, probabilities_from_logits
from volumen.runs.run import load_for_inference
from volumen.runtime import choose_device, choose_precision, cpu_description

TUNERS = (best_constant, tuned_intensity_threshold, tuned_edge_filter)


def main() -> int:
    """Run the comparison; the exit code is that of the first command that fails."""
    options = _options()
    folder: Path = options.folder
    prepared, fold_file = folder / "prepared", folder / f"folds-by-{options.by}.json"
    trained = folder / f"run-by-{options.by}-{options.fold}"
    commands = [["prepare", str(options.dataset), "--out", str(prepared), "--accept-proposal"]]
    if not fold_file.exists():
        commands.append(["folds", str(prepared), "--by", options.by, "--out", str(fold_file)])
    overrides = [f"name={options.dataset.name}", f"data.dataset={prepared}", f"data.folds={fold_file}"]
    if not (trained / "config.yaml").exists():
        command = ["train", options.config, "--fold", str(options.fold), "--out", str(trained)]
        command += ["--time-budget", options.time_budget]
        for override in (*overrides, *options.override):
            command += ["-o", override]
        commands.append(command)
    commands.append(["evaluate", str(trained)])
    for command in commands:
        print(f"\n$ volumen {' '.join(command)}", flush=True)
        code = run(command)
        if code:
            print("stopped" if code == EXIT_INTERRUPTED else "failed", file=sys.stderr)
            return code
    dataset = PreparedDataset.open(prepared)
    held_out = load_folds(fold_file, dataset).fold(options.fold).validation
    cases: list[Case] = [(name, np.asarray(dataset.image(name)), np.asarray(dataset.label(name))) for name in held_out]
    by_dice = [tune(cases, "dice") for tune in TUNERS]
    by_score = [tune(cases, "leaderboard") for tune in TUNERS]
    print(f"\n{cpu_description()}")
    print(f"held out: {', '.join(f'{name} (scroll {dataset.case(name).scroll_id})' for name in held_out)}\n")
    _print_table(load_evaluation(trained), by_dice, by_score)
    if options.picture:
        masks = {"model": _model_mask(trained, dataset, held_out[0])}
        masks |= {baseline.name: baseline.mask_of(cases[0][1]) for baseline in by_dice}
        write_atomically(options.picture, _picture(cases[0], list(masks.values())))
        print(f"\npicture: {options.picture} (image, truth, then one row each: {', '.join(masks)})")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a folder in the competition's layout")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--config", default="preset:default")
    parser.add_argument("--by", choices=("scroll", "volume"), default="scroll", help="what the folds keep together")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--time-budget", default="20m")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    parser.add_argument("-o", "--override", action="append", default=[], help="passed on to `volumen train`")
    return parser.parse_args()


def _print_table(model: Evaluation, by_dice: list[Baseline], by_score: list[Baseline]) -> None:
    mean = model.mean
    parts = ", ".join(f"{name} {mean[name]:.3f}" for name in ("topo", "surface_dice", "voi"))
    print("| method | Dice | leaderboard score |")
    print("| --- | --- | --- |")
    print(f"| volumen, mean of {len(model.cases)} held-out volumes | {mean['dice']:.3f} | {mean['leaderboard']:.3f} |")
    for dice, score in zip(by_dice, by_score, strict=True):
        print(f"| {dice.name}, tuned on the truth | {dice.mean:.3f} | {score.mean:.3f} |")
    print(f"\nparts of the model's leaderboard score: {parts}; precision {mean['precision']:.3f}, recall "
          f"{mean['recall']:.3f}, surface {100 * mean['predicted_share']:.1f} % (true {100 * mean['true_share']:.1f} %)")  # fmt: skip  # noqa: E501
    for scroll, values in model.by_scroll.items():
        print(f"scroll {scroll}: Dice {values['dice']:.3f}, leaderboard {values['leaderboard']:.3f}")
    for baseline in (*by_dice, *by_score):
        print(f"{baseline.name} for {baseline.objective}: {baseline.parameters}")


def _model_mask(trained: Path, dataset: PreparedDataset, case_id: str) -> NDArray[np.uint8]:
    model, config = load_for_inference(trained)
    device = choose_device(config.device)
    predictor = Predictor(
        model,
        tile=config.tile,
        overlap=config.inference.overlap,
        device=device,
        precision=choose_precision(config.precision, device),
    )
    image = normalise(dataset.image(case_id), dataset.case(case_id).statistics, config.data.normalisation)
    return apply_pipeline(probabilities_from_logits(predictor.logits(image)), config.postprocessing)


def _picture(case: Case, masks: list[NDArray[np.uint8]]) -> bytes:
    _, image, label = case
    index = int(np.argmax((label == 1).sum((1, 2))))
    rows = [slice_panel(image, label, mask, 0, index) for mask in masks]
    gap = np.full((6, rows[0].shape[1], 3), 255, np.uint8)
    return encode_png(np.concatenate([part for row in rows for part in (row, gap)][:-1]))


if __name__ == "__main__":
    sys.exit(main())
