"""Evaluate a run on whole held-out volumes and leave the result in its folder.

The volumes are those of the fold that the run held out, predicted tile by tile exactly as `volumen predict` does, and
scored with the leaderboard's own metric. A case that the run was trained on is evaluated on request, and called so.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from volumen.config.postprocessing import with_threshold
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.pictures import Places, case_panel, choose_slices, encode_png
from volumen.errors import UserError
from volumen.experiments.distribution import Judgement, judge, judge_share
from volumen.experiments.evaluation_file import EVALUATION, SLICES, Pictures, waiting_pictures, write_evaluation
from volumen.experiments.scoring import CaseResult, Evaluation, label_shares, labelled_cases, score_case
from volumen.experiments.step_scores import score_steps
from volumen.inference.recipe import Recipe
from volumen.runs.folder import run_owner
from volumen.runs.run import Run, Trained
from volumen.system.locks import hold
from volumen.system.output import Progress, unheard
from volumen.system.places import writable_file, writable_folder

RECORDED = ("tile", "overlap", "mirror", "rotate", "engine", "precision", "postprocessing")
"""What an evaluation says of how its masks were made."""


def evaluate_run(
    run: Path,
    *,
    which: str = "best",
    fold: int | None = None,
    cases: Sequence[str] | None = None,
    threshold: float | None = None,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    keep: bool = True,
    steps: bool = True,
    progress: Progress = unheard,
) -> Evaluation:
    """Predict and score whole volumes; write `evaluation.json` and `evaluation/slices/ID.png` into the run.

    Args:
        run: Run folder.
        which: Which weights, as in `Run.trained`.
        fold: Fold whose validation cases are evaluated; the run's own by default.
        cases: Case ids instead of a fold.
        threshold: Replaces the configured threshold.
        dataset: Prepared data set, where it has moved since the training.
        overrides: `key=value` for other settings of prediction than the run's, as in `override_prediction`.
        keep: False leaves the run's folder as it is.
        steps: False leaves out what each step of the post-processing does, at a leaderboard score a step and volume.
        progress: Told the case and how many of how many tiles are done.

    Raises:
        UserError: No run folder, no such checkpoint, fold or case, a threshold out of range, both a fold and cases, or
            a data set that is not where the run says. With `keep` also a run folder that cannot be written to, or that
            is being evaluated already.
    """
    if fold is not None and cases is not None:
        raise UserError("--fold and --cases exclude each other: give the fold or the case ids")
    opened = Run(run, dataset)
    trained = opened.trained(which).overridden(overrides, run)
    post = with_threshold(trained.config.postprocessing, threshold)
    trained = replace(trained, config=trained.config.model_copy(update={"postprocessing": post}))
    chosen = choose_cases(opened, trained, fold, cases)
    recipe = Recipe.of(trained.model, trained.config)
    with kept_evaluation(run) if keep else nullcontext() as pictures:
        number = None if cases is not None else (trained.config.data.fold if fold is None else fold)
        said = {"which": which, "fold": number}
        return evaluate_cases(opened, trained, recipe, chosen, said, pictures=pictures, steps=steps, progress=progress)


def evaluate_cases(
    run: Run,
    trained: Trained,
    recipe: Recipe,
    cases: Sequence[str],
    said: Mapping[str, Any],
    *,
    pictures: Pictures | None = None,
    steps: bool = True,
    progress: Progress = unheard,
) -> Evaluation:
    """Predict and score volumes with a network of a run.

    Args:
        run: The run.
        trained: Its network, what it learned from, and what the run promised.
        recipe: How it predicts.
        cases: Case ids.
        said: What the record says of the choice: `which` and `fold`.
        pictures: Where the evaluation and its slices are left; None leaves none.
        steps: As in `evaluate_run`.
        progress: Told the case and how many of how many tiles are done.
    """
    dataset = run.dataset(trained)
    results, places = [], {}
    for name in cases:
        found = _evaluate_case(recipe, dataset, name, pictures, steps, progress)
        results.append(found[0])
        places[name] = list(found[1])
    of_data = {"dataset": str(dataset.root), "dataset_identity": dataset.identity}
    settings = {"run": run.path.resolve().name, **said, **of_data, **recipe.record(*RECORDED), "slices": places}
    shares = label_shares(dataset)
    evaluation = Evaluation(
        tuple(results),
        settings,
        _notes(run, trained, cases, recipe, dataset),
        label_range=(min(shares), max(shares)) if shares else None,
        pictures=pictures.hashes if pictures is not None else {},
    )
    evaluation = replace(evaluation, verdicts=_verdicts(evaluation, trained.config, shares))
    if pictures is not None:
        pictures.publish()
        write_evaluation(run.path, evaluation)
    return evaluation


@contextmanager
def kept_evaluation(run: Path) -> Iterator[Pictures]:
    """The run, held against a second evaluation, and known to be one that the result can be written to."""
    run_owner(run)
    fix = f"make the run folder {run} writable, or evaluate a copy of it"
    writable_file(run / EVALUATION, fix)
    writable_folder(run / SLICES, fix)
    wait = "wait until that evaluation ends, or stop it first"
    with hold(run, "evaluate", fix=wait), waiting_pictures(run) as pictures:
        yield pictures


def choose_cases(
    run: Run, trained: Trained, fold: int | None = None, cases: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The cases to evaluate: those that the run itself held out, those of another fold, or those that are named.

    Raises:
        UserError: No data set, no such fold or case, or a case without a label.
    """
    dataset = run.dataset(trained)
    if cases is None:
        return (
            trained.data.validation if fold in (None, trained.data.fold) else run.folds(trained).fold(fold).validation
        )
    chosen = tuple(dict.fromkeys(cases))
    if not chosen:
        raise UserError("--cases names no case: give ids separated by commas")
    for case_id in chosen:
        dataset.label(case_id)  # every id exists and has a label, before anything is computed
    return chosen


def _evaluate_case(
    recipe: Recipe, dataset: PreparedDataset, case_id: str, pictures: Pictures | None, steps: bool, progress: Progress
) -> tuple[CaseResult, Places]:
    """The numbers of a case, and which slices show it."""
    probabilities = recipe.of_case(dataset, case_id, lambda done, of: progress(case_id, done, of))
    (truth,) = labelled_cases(dataset, [case_id])
    if steps:
        scored = score_steps(probabilities, recipe.postprocessing, truth.label, truth.scan)
        mask = scored.mask
        result = score_case(truth, mask, probabilities, score=scored.score, steps=scored.steps)
    else:
        mask = recipe.mask(probabilities, truth.scan)
        result = score_case(truth, mask, probabilities)
    places = choose_slices(truth.label)
    if pictures is not None:
        panel = case_panel(np.asarray(dataset.image(case_id)), np.asarray(truth.label), mask, places)
        pictures.add(case_id, encode_png(panel))
    return result, places


def _verdicts(evaluation: Evaluation, config: Config, shares: Sequence[float]) -> tuple[Judgement, ...]:
    """The run's own criteria, then the surface share against the labels of the whole data set."""
    predicted = {case.id: case.values["predicted_share"] for case in evaluation.cases}
    criteria = judge(evaluation.mean, config.experiment.criteria)
    return (*criteria, *judge_share(predicted, shares)) if shares else criteria


def _notes(
    run: Run, trained: Trained, chosen: Sequence[str], recipe: Recipe, dataset: PreparedDataset
) -> tuple[str, ...]:
    notes = list(run.changed_folds(trained))
    seen = [name for name in chosen if name in trained.data.train]
    if seen:
        notes.append(f"The run was trained on {', '.join(seen)}: those scores say nothing about new volumes.")
    padded = [name for name in chosen if recipe.predictor.plan(dataset.case(name).shape).is_padded]
    if padded:
        notes.append(f"Smaller than the tile and padded with the nearest voxels: {', '.join(padded)}.")
    return tuple(notes)
