"""Weights of an ensemble, fitted on volumes that none of the members that predict them was trained on.

Folds of one configuration share no held-out volume, so nothing tells one from another: they form a family and weigh
alike. What is weighed is families - other networks, losses, or kinds of weights - each of which has an answer for every
volume from the member that never saw it. Weights are found by greedy selection with replacement (Caruana et al. 2004),
which needs no gradient of the score and rarely overfits; they are used only where, left-one-out, they beat equal
weights by more than the noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from volumen.config.dump import config_hash
from volumen.config.postprocessing import Postprocessing
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.experiments.bundles import bundle_runs, refuse_different
from volumen.experiments.held_out import HeldOut
from volumen.experiments.out_of_fold import RunWeights, check_sources, predict_out_of_fold
from volumen.inference.bundle import Bundle
from volumen.inference.ensemble import Mean
from volumen.metrics import beats_noise, leaderboard, mean_and_noise
from volumen.metrics.comparison import FEWEST_VOLUMES
from volumen.postprocess import apply_pipeline
from volumen.runs.run import override_prediction
from volumen.system.locks import hold
from volumen.system.output import Progress, Warn, counted, unheard
from volumen.system.places import writable_file, writable_folder

ROUNDS = 10
"""Members that the greedy selection draws, with replacement: weights are tenths."""
Weights = tuple[tuple[str, float], ...]
Score = Callable[[Weights, str], float]


@dataclass(frozen=True)
class Family:
    """Sources that differ by their fold only."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Weighed:
    """What was compared, on held-out volumes."""

    families: tuple[Family, ...]
    volumes: int
    """How many."""
    single: Mapping[str, float]
    """Mean score of each family alone."""
    equal: float
    """Mean score of equal weights."""
    fitted: float | None
    """Mean score of weights fitted without the volume that is scored; None where nothing could be fitted."""
    gain: float
    """`fitted` less `equal`."""
    noise: float
    """Standard error of the gain over the volumes."""
    weights: Mapping[str, float]
    """By family, to be used; their sum is 1."""
    verdict: str
    """Which weights these are, and why."""

    def shares(self, sources: Sequence[RunWeights]) -> list[float]:
        """Weight of every source: its family's, divided among the family."""
        family = {name: one for one in self.families for name in one.sources}
        return [self.weights[family[one.name].name] / len(family[one.name].sources) for one in sources]


def ensemble_runs(
    sources: Sequence[RunWeights],
    out: Path,
    work: Path,
    *,
    mean: Mean = "probability",
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = unheard,
    warn: Warn = unheard,
) -> tuple[Weighed, Bundle]:
    """Predict what sources held out, find their weights, and write their bundle.

    Args:
        sources: Weights of runs.
        out: The bundle.
        work: For the held-out predictions.
        mean: What the networks' answers are averaged as.
        dataset, overrides, progress, warn: As in `predict_out_of_fold`.

    Raises:
        UserError: As in `check_sources`, `refuse_different`, `common_cases` and `bundle_runs`, or a folder that cannot
            be written to or is in use.
    """
    writable_file(out, "choose another --out, or make it writable")
    writable_folder(work, "choose another --work, or make it writable")
    known = check_sources(sources, dataset)
    configs = {name: override_prediction(one.trained.config, overrides, f"of {name}") for name, one in known.items()}
    refuse_different(configs)
    families = families_of(sources, {name: one.trained.config for name, one in known.items()})
    common_cases({name: one.trained.data.validation for name, one in known.items()}, families)
    with hold(work, "ensemble"):
        cases = predict_out_of_fold(known, work, overrides=overrides, progress=progress, warn=warn)
        weighed = weigh(cases, families, configs[sources[0].name].postprocessing, mean=mean, progress=progress)
        opened, weights = list(known.values()), weighed.shares(sources)
        made = bundle_runs(sources, out, shares=weights, mean=mean, overrides=overrides, opened=opened)
    return weighed, made


def families_of(sources: Sequence[RunWeights], configs: Mapping[str, Config]) -> tuple[Family, ...]:
    """Put together what differs by fold, name, seed and initial weights only; `configs` by name of the source."""
    found: dict[tuple[str, str], list[RunWeights]] = {}
    for source in sources:
        config = configs[source.name]
        data = config.data.model_copy(update={"fold": 0, "folds": None, "workers": 0})
        model = config.model.model_copy(update={"initial_weights": None})
        alike = config.model_copy(update={"data": data, "model": model, "name": "family", "seed": 0})
        found.setdefault((config_hash(alike), source.which), []).append(source)
    return tuple(Family(members[0].name, tuple(one.name for one in members)) for members in found.values())


def common_cases(held_out: Mapping[str, Sequence[str]], families: Sequence[Family]) -> set[str]:
    """The cases that every family has an answer for, from a source that held them out (ids by its name).

    Raises:
        UserError: There is none.
    """
    common = set.intersection(*({case for name in one.sources for case in held_out.get(name, ())} for one in families))
    if not common:
        asked = ", ".join(family.name for family in families)
        raise UserError(
            f"no volume was held out by all of {asked}: train them on the same folds, or give weights by "
            "`volumen bundle --weights`"
        )
    return common


def weigh(
    cases: Sequence[HeldOut],
    families: Sequence[Family],
    settings: Postprocessing,
    *,
    mean: Mean = "probability",
    progress: Progress = unheard,
) -> Weighed:
    """Find weights of the families, judged under a post-processing on volumes that every family never saw.

    Raises:
        UserError: There is no such volume.
    """
    sources = {name for case in cases for name in case.files}
    known = common_cases({name: [case.id for case in cases if name in case.files] for name in sources}, families)
    common = [case for case in cases if case.id in known]
    score, ids = _scorer(common, families, settings, mean), [case.id for case in common]
    names = [family.name for family in families]
    equal: Weights = tuple((name, 1.0) for name in names)
    base = _mean(score, equal, ids)
    weights, gain, noise = dict.fromkeys(names, 1 / len(names)), 0.0, 0.0
    if len(families) == 1:
        verdict = "all alike: the runs differ by their fold only, and no volume tells one from another"
    elif len(common) < FEWEST_VOLUMES:
        few = counted(len(common), "common held-out volume is", "common held-out volumes are")
        verdict = f"all alike: {few} too few to fit weights and to test them"
    else:
        gain, noise = _gain(score, names, ids, equal, progress)
        said = f"they gain {gain:+.4f} ± {noise:.4f} on volumes they were not fitted to"
        verdict = f"all alike: fitted ones are not clearly better ({said})"
        if beats_noise(gain, noise, len(common)):
            verdict, best = f"fitted: {said}", dict(_greedy(score, names, ids))
            weights = {name: best.get(name, 0.0) / sum(best.values()) for name in names}
    return Weighed(
        families=tuple(families),
        volumes=len(common),
        single={name: _mean(score, ((name, 1.0),), ids) for name in names},
        equal=base,
        fitted=base + gain if len(families) > 1 and len(common) >= FEWEST_VOLUMES else None,
        gain=gain,
        noise=noise,
        weights=weights,
        verdict=verdict,
    )


def _gain(
    score: Score,
    names: Sequence[str],
    ids: Sequence[str],
    equal: Weights,
    progress: Progress,
) -> tuple[float, float]:
    """What weights fitted without a volume gain on it over equal ones, and the noise of that."""
    differences = []
    for number, left_out in enumerate(ids):
        progress("weights without one volume", number, len(ids))
        rest = [case_id for case_id in ids if case_id != left_out]
        differences.append(score(_greedy(score, names, rest), left_out) - score(equal, left_out))
    return mean_and_noise(differences)


def _greedy(score: Score, names: Sequence[str], ids: Sequence[str]) -> Weights:
    """Add, again and again, the family that the mean score gains most by; the best of all rounds."""
    counts: dict[str, float] = {}
    best: Weights = ()
    reached = float("-inf")
    for _ in range(ROUNDS):
        tried = {name: _sorted({**counts, name: counts.get(name, 0.0) + 1}) for name in names}
        means = {name: _mean(score, weights, ids) for name, weights in tried.items()}
        added = max(names, key=lambda name: means[name])
        counts = dict(tried[added])
        if means[added] > reached:
            best, reached = tried[added], means[added]
    return best


def _sorted(counts: Mapping[str, float]) -> Weights:
    return tuple(sorted(counts.items()))


def _mean(score: Score, weights: Weights, ids: Sequence[str]) -> float:
    return sum(score(weights, case_id) for case_id in ids) / len(ids)


def _scorer(cases: Sequence[HeldOut], families: Sequence[Family], settings: Postprocessing, mean: Mean) -> Score:
    """Leaderboard score of weights on a case, each computed once."""
    by_id, by_name = {case.id: case for case in cases}, {family.name: family for family in families}

    @cache
    def normalised(weights: Weights, case_id: str) -> float:
        case = by_id[case_id]
        mixed = case.mixed({_answer_of(case, by_name[name]) or "": weight for name, weight in weights}, mean)
        return leaderboard(apply_pipeline(mixed, settings, case.scan), case.label).score

    def score(weights: Weights, case_id: str) -> float:
        total = sum(weight for _, weight in weights)
        return normalised(tuple((name, round(weight / total, 6)) for name, weight in sorted(weights)), case_id)

    return score


def _answer_of(case: HeldOut, family: Family) -> str | None:
    """The source of a family that held a case out."""
    return next((name for name in family.sources if name in case.files), None)


def work_folder_of(bundle: Path) -> Path:
    """Where the held-out predictions of an ensemble are kept: beside it."""
    return bundle.with_suffix(".predictions")
