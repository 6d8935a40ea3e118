"""Evaluate a run on whole held-out volumes and leave the result in its folder.

The volumes are those of the fold that the run held out, predicted tile by tile exactly as `volumen predict` does, and
scored with the leaderboard's own metric. A case that the run was trained on is evaluated on request, and called so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from volumen.config.postprocessing import Hysteresis, Postprocessing, Threshold
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import load_folds
from volumen.errors import UserError
from volumen.experiments.distribution import Verdict, judge, judge_share
from volumen.experiments.evaluation_file import (
    EVALUATION,
    SLICES,
    Pictures,
    waiting_pictures,
    write_evaluation,
)
from volumen.experiments.own_data import changed_folds, open_data
from volumen.experiments.predicting import predict_case, predictor_for
from volumen.experiments.scoring import (
    CaseResult,
    Evaluation,
    label_shares,
    labelled_cases,
    score_case,
)
from volumen.experiments.step_scores import score_steps
from volumen.inference import Predictor
from volumen.inference.files import Progress
from volumen.postprocess import apply_pipeline
from volumen.reporting.images import Places, case_panel, choose_slices, encode_png
from volumen.system.locks import hold
from volumen.system.places import writable_file, writable_folder
from volumen.training.checkpoint import Trained, load_trained
from volumen.training.run_folder import run_owner


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
    progress: Progress = lambda case, done, of: None,
) -> Evaluation:
    """Predict and score whole volumes; write `evaluation.json` and `evaluation/slices/ID.png` into the run.

    Args:
        run: Run folder.
        which: Which weights, as in `load_trained`.
        fold: Fold whose validation cases are evaluated; the run's own by default.
        cases: Case ids instead of a fold.
        threshold: Replaces the configured threshold.
        dataset: Prepared data set, where it has moved since the training.
        overrides: `key=value` for other settings of prediction than the run's, as in `load_trained`.
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
    trained = load_trained(run, which, overrides)
    config = trained.config
    postprocessing = with_threshold(config.postprocessing, threshold)
    prepared = open_data(trained, run, dataset)
    chosen = choose_cases(trained, prepared, fold, cases)
    predictor = predictor_for(trained.model, config)
    with _kept(run) if keep else nullcontext() as pictures:
        results, places = [], {}
        for name in chosen:
            found = _evaluate_case(predictor, config, postprocessing, prepared, name, pictures, steps, progress)
            results.append(found[0])
            places[name] = list(found[1])
        settings = {
            "run": run.resolve().name,
            "which": which,
            "fold": None if cases is not None else (config.data.fold if fold is None else fold),
            "dataset": str(prepared.root),
            "dataset_identity": prepared.identity,
            "tile": list(config.tile),
            "overlap": config.inference.overlap,
            "mirror": config.inference.mirror,
            "rotate": config.inference.rotate,
            "engine": predictor.engine_name,
            "precision": predictor.precision.name,
            "postprocessing": postprocessing.model_dump(),
            "slices": places,
        }
        shares = label_shares(prepared)
        evaluation = Evaluation(
            tuple(results),
            settings,
            _notes(trained, chosen, predictor, prepared),
            label_range=(min(shares), max(shares)) if shares else None,
            pictures=pictures.hashes if pictures is not None else {},
        )
        evaluation = replace(evaluation, verdicts=_verdicts(evaluation, config, shares))
        if pictures is not None:
            pictures.publish()
            write_evaluation(run, evaluation)
    return evaluation


@contextmanager
def _kept(run: Path) -> Iterator[Pictures]:
    """The run, held against a second evaluation, and known to be one that the result can be written to."""
    run_owner(run)
    fix = f"make the run folder {run} writable, or evaluate a copy of it"
    writable_file(run / EVALUATION, fix)
    writable_folder(run / SLICES, fix)
    wait = "wait until that evaluation ends, or stop it first"
    with hold(run, "evaluate", fix=wait), waiting_pictures(run) as pictures:
        yield pictures


def with_threshold(settings: Postprocessing, threshold: float | None) -> Postprocessing:
    """The settings with another threshold, or as they are where it is None.

    Raises:
        UserError: The threshold is not between 0 and 1, or the mask is not made by a threshold.
    """
    if threshold is None:
        return settings
    if not 0 < threshold < 1:
        raise UserError(f"--threshold must lie between 0 and 1, both excluded, got {threshold:g}")
    if any(isinstance(step, Hysteresis) for step in settings.steps):
        raise UserError("--threshold replaces the level of a threshold, and this run decides by hysteresis: use -o")
    level = Threshold(level=threshold)
    steps = tuple(level if isinstance(step, Threshold) else step for step in settings.steps)
    return settings.model_copy(update={"steps": steps})


def choose_cases(
    trained: Trained, dataset: PreparedDataset, fold: int | None = None, cases: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The cases to evaluate: those that the run itself held out, those of another fold, or those that are named.

    Raises:
        UserError: No such fold or case, or a case without a label.
    """
    if cases is None:
        if fold is None or fold == trained.data.fold:
            return trained.data.validation
        return load_folds(trained.config.data.folds, dataset).fold(fold).validation
    chosen = tuple(dict.fromkeys(cases))
    if not chosen:
        raise UserError("--cases names no case: give ids separated by commas")
    for case_id in chosen:
        dataset.label(case_id)  # every id exists and has a label, before anything is computed
    return chosen


def _evaluate_case(
    predictor: Predictor,
    config: Config,
    postprocessing: Postprocessing,
    dataset: PreparedDataset,
    case_id: str,
    pictures: Pictures | None,
    steps: bool,
    progress: Progress,
) -> tuple[CaseResult, Places]:
    """The numbers of a case, and which slices show it."""
    probabilities = predict_case(
        predictor, dataset, case_id, config.data.normalisation, lambda done, of: progress(case_id, done, of)
    )
    (truth,) = labelled_cases(dataset, [case_id])
    if steps:
        scored = score_steps(probabilities, postprocessing, truth.label, truth.scan)
        mask = scored.mask
        result = score_case(truth, mask, probabilities, score=scored.score, steps=scored.steps)
    else:
        mask = apply_pipeline(probabilities, postprocessing, truth.scan)
        result = score_case(truth, mask, probabilities)
    places = choose_slices(truth.label)
    if pictures is not None:
        panel = case_panel(np.asarray(dataset.image(case_id)), np.asarray(truth.label), mask, places)
        pictures.add(case_id, encode_png(panel))
    return result, places


def _verdicts(evaluation: Evaluation, config: Config, shares: Sequence[float]) -> tuple[Verdict, ...]:
    """The run's own criteria, then the surface share against the labels of the whole data set."""
    predicted = {case.id: case.values["predicted_share"] for case in evaluation.cases}
    criteria = judge(evaluation.mean, config.experiment.criteria)
    return (*criteria, *judge_share(predicted, shares)) if shares else criteria


def _notes(trained: Trained, chosen: Sequence[str], predictor: Predictor, dataset: PreparedDataset) -> tuple[str, ...]:
    notes = list(changed_folds(trained, dataset))
    seen = [name for name in chosen if name in trained.data.train]
    if seen:
        notes.append(f"The run was trained on {', '.join(seen)}: those scores say nothing about new volumes.")
    padded = [name for name in chosen if predictor.plan(dataset.case(name).shape).is_padded]
    if padded:
        notes.append(f"Smaller than the tile and padded with the nearest voxels: {', '.join(padded)}.")
    return tuple(notes)
