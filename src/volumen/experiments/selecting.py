"""Evaluate every kind of weights that runs hold on the same whole held-out volumes, and choose among them."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.errors import UserError
from volumen.experiments.evaluate import evaluate_cases
from volumen.experiments.scoring import Evaluation, label_shares
from volumen.experiments.selection import Selection, select
from volumen.files import strict_json
from volumen.inference.predictor import weights_identity
from volumen.inference.recipe import Recipe
from volumen.runs.run import DataSets, Run, Trained

SELECTION = "selection.json"


@dataclass(frozen=True)
class Choice:
    """What was compared, and what came of it."""

    selection: Selection
    cases: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    """By candidate: run, which, tiles, post-processing, data set."""
    same: dict[str, tuple[str, ...]]
    """By candidate: the others that hold the very same weights, evaluated once."""
    missing: dict[str, str]
    """By candidate: why it is not there."""
    label_range: tuple[float, float]
    """Least and most surface share of the data set's labels."""
    command: str
    """What to run next."""

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return strict_json(self.record)

    @property
    def record(self) -> dict[str, Any]:
        """Plain values, NaN among them, for `selection.json`."""
        chosen = self.selection.chosen
        return {
            "chosen": chosen.name,
            "sound": chosen.sound,
            "command": self.command,
            "note": self.selection.note,
            "cases": list(self.cases),
            "label_range": list(self.label_range),
            "candidates": [
                {**asdict(one), "within_noise": one.within_noise, "same_weights": list(self.same[one.name])}
                for one in self.selection.candidates
            ],
            "missing": self.missing,
            "settings": self.settings,
        }


@dataclass(frozen=True)
class _Weights:
    """One kind of weights of a run, and the names of the others that are the same."""

    name: str
    run: Run
    which: str
    trained: Trained
    same: list[str]


def select_checkpoints(
    runs: Sequence[Path],
    *,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[str, int, int], None] = lambda name, done, of: None,
) -> Choice:
    """Compare all weights of runs on the volumes that they held out; nothing is written.

    Args:
        runs: Run folders with different names, which held out the same volumes.
        dataset: Prepared data set, where it has moved since the training.
        overrides: `key=value` for other settings of prediction, for all of them.
        progress: Told candidate and case, and how many of how many tiles are done.

    Raises:
        UserError: Not a run, runs of the same name, no whole checkpoint in a run, or different held-out volumes.
    """
    names = [run.resolve().name for run in runs]
    if len(set(names)) != len(names):
        raise UserError(f"candidates are named after their run's folder, and two are alike ({', '.join(names)})")
    missing: dict[str, str] = {}
    candidates: list[_Weights] = []
    held_out: dict[str, tuple[str, tuple[str, ...], int]] = {}
    shared = DataSets()
    for path, name in zip(runs, names, strict=True):
        run = Run(path, dataset, shared)
        found = _weights_of(run, name, missing)
        candidates += found
        trained = found[-1].trained
        prepared = run.dataset(trained)
        held_out[name] = (prepared.identity, trained.data.validation, trained.data.fold)
    _refuse_different(held_out)
    evaluations: dict[str, Evaluation] = {}
    for one in candidates:
        trained = one.trained.overridden(overrides, one.run.path)
        evaluations[one.name] = evaluate_cases(
            one.run,
            trained,
            Recipe.of(trained.model, trained.config),
            trained.data.validation,
            {"which": one.which, "fold": trained.config.data.fold},
            steps=False,
            progress=lambda case, done, of, name=one.name: progress(f"{name}: {case}", done, of),  # type: ignore[misc]
        )
        trained.model.cpu()  # one network at a time is on a card
    shares = label_shares(prepared)
    selection = select(evaluations, shares)
    return Choice(
        selection,
        held_out[names[0]][1],
        {name: dict(evaluation.settings) for name, evaluation in evaluations.items()},
        {one.name: tuple(one.same) for one in candidates},
        missing,
        (min(shares), max(shares)),
        _command(selection, {one.name: one for one in candidates}, overrides, dataset),
    )


def _weights_of(run: Run, name: str, missing: dict[str, str]) -> list[_Weights]:
    """The distinct weights of a run; what is not there goes into `missing` with the reason."""
    found: dict[str, _Weights] = {}
    reasons: dict[str, str] = {}
    for which, trained in run.networks().items():
        if isinstance(trained, UserError):
            reasons[f"{name}:{which}"] = str(trained)
            continue
        identity = weights_identity(trained.model)
        if identity in found:
            found[identity].same.append(f"{name}:{which}")
        else:
            found[identity] = _Weights(f"{name}:{which}", run, which, trained, [])
    if not found:
        raise UserError("; ".join(dict.fromkeys(reasons.values())))
    missing.update(reasons)
    return list(found.values())


def _refuse_different(held_out: dict[str, tuple[str, tuple[str, ...], int]]) -> None:
    """Runs can only be compared on volumes that none of them was trained on."""
    identities = {identity for identity, _, _ in held_out.values()}
    if len(identities) > 1:
        listed = ", ".join(f"{name}: {identity[:12]}" for name, (identity, _, _) in held_out.items())
        raise UserError(f"the runs belong to different data sets ({listed}): compare runs of one data set")
    if len({cases for _, cases, _ in held_out.values()}) > 1:
        listed = "; ".join(f"{name} (fold {fold}): {', '.join(cases)}" for name, (_, cases, fold) in held_out.items())
        raise UserError(
            f"the runs held out different volumes ({listed}): compare runs of one fold; runs of several folds go "
            "together with `volumen bundle`"
        )


def _command(
    selection: Selection, candidates: dict[str, _Weights], overrides: Sequence[str], dataset: Path | None
) -> str:
    """The command that makes a bundle of the chosen weights."""
    one = candidates[selection.chosen.name]
    words = ["volumen", "bundle", str(one.run.path), "--which", one.which]
    words += [word for override in overrides for word in ("-o", override)]
    words += [] if dataset is None else ["--dataset", str(dataset)]
    return shlex.join([*words, "--out", "model.volumen"])
