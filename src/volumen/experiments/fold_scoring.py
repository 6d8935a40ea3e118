"""What a fold's best network says of the volumes that it held out: kept as predictions, and scored.

The scores are those of the kept predictions, float16 as tuning and ensembles take them, so that a scoring that was
broken off and goes on gives what it would have given.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volumen.data.dataset import PreparedDataset
from volumen.experiments.evaluate import evaluate_cases, kept_evaluation
from volumen.experiments.fold_records import HELD_OUT, note_scored
from volumen.experiments.held_out import PredictionFolder
from volumen.experiments.out_of_fold import prediction_settings
from volumen.experiments.scoring import Evaluation
from volumen.inference.recipe import Recipe
from volumen.runs.run import Run
from volumen.system.output import Progress, Tally, Warn, unheard


@dataclass(frozen=True)
class KeepingRecipe(Recipe):
    """A recipe that keeps what it predicted, and takes from there what it has predicted before."""

    predictions: PredictionFolder | None = None

    def of_case(self, dataset: PreparedDataset, case_id: str, progress: Tally | None = None) -> NDArray[np.float32]:
        """As the recipe's, rounded to float16."""
        assert self.predictions is not None
        if case_id not in self.predictions.kept:
            self.predictions.add(case_id, super().of_case(dataset, case_id, progress))
        return self.predictions.kept[case_id].load(dataset.case(case_id).shape).astype(np.float32)


def score_held_out(
    path: Path, folder: Path, *, which: str = "best", progress: Progress = unheard, warn: Warn = unheard
) -> Evaluation:
    """Predict and score what a run held out; `evaluation.json` goes into the run as `volumen evaluate` leaves it.

    Args:
        path: Run folder.
        folder: Of the folds; predictions that lie in its `held_out` from the same weights and settings are kept.
        which: Which weights.
        progress: Told the case and how many of how many tiles are done.
        warn: Told which predictions are damaged and are made again.

    Raises:
        UserError: No run, no such weights, another data set, or damaged data.
    """
    run = Run(path)
    trained = run.trained(which)
    dataset = run.dataset(trained)
    cases = trained.data.validation
    recipe = Recipe.of(trained.model, trained.config)
    shapes = {case_id: dataset.case(case_id).shape for case_id in cases}
    settings = prediction_settings(recipe, dataset, trained.config)
    predictions = PredictionFolder(folder / HELD_OUT / path.name, settings, shapes, warn)
    keeping = KeepingRecipe(**vars(recipe), predictions=predictions)
    said = {"which": which, "fold": trained.config.data.fold}
    with kept_evaluation(path) as pictures:
        evaluation = evaluate_cases(run, trained, keeping, cases, said, pictures=pictures, progress=progress)
    note_scored(folder, path)
    return evaluation
