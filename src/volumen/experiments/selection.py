"""Choose among checkpoints by what they do on the same whole held-out volumes: distribution first, then the score.

Never by a loss: it depends on the weights of its terms, and its best value need not be the best mask. Beside every
difference from the chosen one stands its noise over the volumes, paired; and what would be taken anyhow is left for
another one only where that beats it by more than noise.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.errors import UserError
from volumen.experiments.distribution import judge_share
from volumen.experiments.evaluate import evaluate_cases
from volumen.experiments.scoring import Evaluation, label_shares
from volumen.files import strict_json
from volumen.inference.predictor import weights_identity
from volumen.inference.recipe import Recipe
from volumen.metrics import beats_noise, mean_and_noise
from volumen.runs.run import DataSets, Run, Trained
from volumen.system.output import Progress, counted, unheard

SCORE = "leaderboard"
SELECTION = "selection.json"


@dataclass(frozen=True)
class Candidate:
    """One checkpoint on the held-out volumes."""

    name: str
    score: float
    """Mean leaderboard score."""
    dice: float
    predicted_share: float
    sound: bool
    """Its surface share lies within the labels' own range, and no prediction says nothing."""
    reasons: tuple[str, ...]
    """Why it is not sound."""
    difference: float
    """Score less that of the chosen one."""
    noise: float
    """Standard error of the difference over the volumes; NaN with one volume."""
    volumes: int

    @property
    def within_noise(self) -> bool:
        """Whether the difference from the chosen one is no more than noise, or cannot be told."""
        return not beats_noise(abs(self.difference), self.noise, self.volumes)


@dataclass(frozen=True)
class Selection:
    """The ranking, the chosen one first."""

    candidates: tuple[Candidate, ...]
    note: str

    @property
    def chosen(self) -> Candidate:
        """The one to go on with."""
        return self.candidates[0]


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


def select(evaluations: Mapping[str, Evaluation], label_shares: Sequence[float]) -> Selection:
    """Choose among checkpoints: the first sound one, unless another sound one beats it by more than noise.

    Args:
        evaluations: By name of the checkpoint, all on the same cases; what would be taken anyhow stands first.
        label_shares: True surface share of every labelled volume of the data set.

    Raises:
        UserError: No evaluation, or evaluations of different cases.
    """
    if not evaluations:
        raise UserError("there is no checkpoint to choose from")
    cases = {name: tuple(case.id for case in one.cases) for name, one in evaluations.items()}
    first = next(iter(cases.values()))
    if any(ids != first for ids in cases.values()):
        raise UserError(f"the checkpoints were evaluated on different volumes ({cases}): they cannot be compared")
    reasons = {name: _unsound(one, label_shares) for name, one in evaluations.items()}
    order = sorted(evaluations, key=lambda name: (bool(reasons[name]), -evaluations[name].mean[SCORE]))
    sound = [name for name in evaluations if not reasons[name]] or list(evaluations)
    better = [
        name
        for name in order
        if name in sound and beats_noise(*_gain(evaluations[name], evaluations[sound[0]]), len(first))
    ]
    order.sort(key=lambda name: name != (better or sound)[0])
    ranked = tuple(_candidate(name, evaluations[name], evaluations[order[0]], reasons[name]) for name in order)
    alike = [one.name for one in ranked[1:] if one.within_noise and one.sound == ranked[0].sound]
    note = f"not told apart from it on {counted(len(first), 'volume')}: {', '.join(alike)}" if alike else ""
    if reasons[order[0]]:
        note = "none of them is sound; " + (note or "what would be taken anyhow stands first")
    return Selection(ranked, note)


def _unsound(evaluation: Evaluation, label_shares: Sequence[float]) -> tuple[str, ...]:
    shares = {case.id: case.values["predicted_share"] for case in evaluation.cases}
    mean, *_ = judge_share(shares, label_shares)
    return (*evaluation.degenerate, *(() if mean.reached else (mean.sentence,)))


def _candidate(name: str, evaluation: Evaluation, chosen: Evaluation, reasons: tuple[str, ...]) -> Candidate:
    mean = evaluation.mean
    difference, noise = _gain(evaluation, chosen)
    shown = mean[SCORE], mean["dice"], mean["predicted_share"]
    return Candidate(name, *shown, not reasons, reasons, difference, noise, len(evaluation.cases))


def _gain(one: Evaluation, other: Evaluation) -> tuple[float, float]:
    """Mean difference of the scores, paired by volume, and its noise."""
    return mean_and_noise([a.values[SCORE] - b.values[SCORE] for a, b in zip(one.cases, other.cases, strict=True)])


def select_checkpoints(
    runs: Sequence[Path],
    *,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = unheard,
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
    candidates: dict[str, _Weights] = {}
    held_out: dict[str, tuple[str, tuple[str, ...], int]] = {}
    shared = DataSets()
    for path, name in zip(runs, names, strict=True):
        run = Run(path, dataset, shared)
        found = _weights_of(run, name, missing)
        candidates |= {one.name: one for one in found}
        trained = found[-1].trained
        prepared = run.dataset(trained)
        held_out[name] = (prepared.identity, trained.data.validation, trained.data.fold)
    _refuse_different(held_out)
    evaluations = {name: _evaluate(one, overrides, progress) for name, one in candidates.items()}
    shares = label_shares(prepared)
    selection = select(evaluations, shares)
    return Choice(
        selection=selection,
        cases=held_out[names[0]][1],
        settings={name: dict(evaluation.settings) for name, evaluation in evaluations.items()},
        same={name: tuple(one.same) for name, one in candidates.items()},
        missing=missing,
        label_range=(min(shares), max(shares)),
        command=_command(candidates[selection.chosen.name], overrides, dataset),
    )


def _evaluate(one: _Weights, overrides: Sequence[str], progress: Progress) -> Evaluation:
    trained = one.trained.overridden(overrides, one.run.path)
    evaluation = evaluate_cases(
        one.run,
        trained,
        Recipe.of(trained.model, trained.config),
        trained.data.validation,
        {"which": one.which, "fold": trained.config.data.fold},
        steps=False,
        progress=lambda case, done, of: progress(f"{one.name}: {case}", done, of),
    )
    trained.model.cpu()  # one network at a time is on a card
    return evaluation


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


def _command(one: _Weights, overrides: Sequence[str], dataset: Path | None) -> str:
    """The command that makes a bundle of the chosen weights."""
    words = ["volumen", "bundle", str(one.run.path), "--which", one.which]
    words += [word for override in overrides for word in ("-o", override)]
    words += [] if dataset is None else ["--dataset", str(dataset)]
    return shlex.join([*words, "--out", "model.volumen"])
