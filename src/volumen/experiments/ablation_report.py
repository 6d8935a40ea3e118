"""What an ablation says: every remedy's difference from the control, its interval over the seeds, and a verdict.

A remedy is recommended only where its difference beats the noise (`metrics.beats_noise`) and its interval, widened for
the number of remedies that were tried, stays clear of 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from volumen.config.remedies import CONTROL
from volumen.experiments.ablation_plan import AblationPlan, Candidate, Job
from volumen.experiments.ablation_runs import RunResult
from volumen.experiments.differences import Paired, paired
from volumen.files import strict_json
from volumen.metrics.comparison import FEWEST_VOLUMES
from volumen.system.output import counted

_Results = Sequence[RunResult | str]
"""Of the seeds; a reason in place of a result that could not be had."""

LOSS, MATCHED_DICE = "loss", "matched_dice"
BETTER, WORSE, ALIKE = "better", "worse", "no difference beyond the noise"
SAME, FAILED, LEFT_OUT, UNTOLD = "the same run", "failed", "left out", "too few seeds to tell"


@dataclass(frozen=True)
class Row:
    """The control or a remedy, and what became of it."""

    name: str
    why: str
    changes: Mapping[str, tuple[Any, Any]]
    verdict: str
    reason: str
    """Why it failed or was left out; empty otherwise."""
    notes: tuple[str, ...]
    values: Mapping[str, tuple[float | None, ...]]
    """By quantity, one for each seed; None where there is none."""
    differences: Mapping[str, Paired]
    """From the control, by quantity, over the seeds that both have."""
    over_cases: Paired | None = None
    """With one seed: the difference of the selection metric over the held-out volumes, which says nothing of seeds."""
    matched_shares: tuple[float | None, ...] = ()
    """Surface share at the matched threshold, one for each seed."""
    thresholds: tuple[float | None, ...] = ()
    seconds: float = 0.0

    def mean(self, quantity: str) -> float | None:
        """Over the seeds that have a value."""
        known = [one for one in self.values.get(quantity, ()) if one is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class AblationReport:
    """What was tried, and what came of it."""

    name: str
    """Of the configuration."""
    metric: str
    """The selection metric, by which remedies are judged; higher is better."""
    steps: int
    epochs: int
    seeds: tuple[int, ...]
    cases: tuple[str, ...]
    """The held-out volumes."""
    true_share: float | None
    """Of surface in them."""
    rows: tuple[Row, ...]
    """The control first, then the remedies, best difference first."""
    recommended: str
    """Name of a remedy; empty where nothing beats the noise."""
    advice: str
    source: str = ""
    """The run whose weights everything began with."""
    notes: tuple[str, ...] = ()

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what is compared, the selection metric first."""
        return tuple(self.rows[0].values)

    @property
    def record(self) -> dict[str, Any]:
        """Plain values for `ablation.json`."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rows"}
        return {**values, "rows": [_row_record(row) for row in self.rows]}

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return strict_json(self.record)


def _row_record(row: Row) -> dict[str, Any]:
    differences = {
        name: {"mean": one.mean, "low": _known(one.low), "high": _known(one.high), "pairs": one.pairs}
        for name, one in row.differences.items()
    }
    over = row.over_cases
    cases = None if over is None else {"mean": over.mean, "low": _known(over.low), "high": _known(over.high)}
    changes = {key: {"before": before, "after": after} for key, (before, after) in row.changes.items()}
    return {**asdict(replace(row, differences={}, over_cases=None)), "changes": changes, "differences": differences,
            "over_cases": cases}  # fmt: skip


def _known(value: float) -> float | None:
    return value if value == value else None


def compare(
    plan: AblationPlan, work: Sequence[Job], done: Mapping[str, RunResult], problems: Mapping[str, str]
) -> AblationReport:
    """The table of an ablation.

    Args:
        plan: What was to be done.
        work: Its runs.
        done: Their results by key.
        problems: Reasons by key of those that could not be made.
    """
    metric = plan.control.training.selection_metric
    by_name: dict[str, list[RunResult | str]] = {}
    for job in work:
        by_name.setdefault(job.candidate, []).append(done.get(job.key, problems.get(job.key, "not done")))
    base = by_name[CONTROL]
    control, *others = [_row(one, by_name.get(one.name, []), base, plan.seeds, metric) for one in plan.candidates]
    others.sort(key=lambda row: -row.differences[metric].mean if metric in row.differences else float("inf"))
    recommended, advice = _advice(others, metric, max(1, len(by_name) - 1), len(plan.seeds))
    shares = [each.matched.true_share for each in base if isinstance(each, RunResult) and each.matched is not None]
    return AblationReport(
        plan.control.name,
        metric,
        plan.layout.steps,
        plan.layout.epochs,
        plan.seeds,
        tuple(plan.origin["validation"]),
        shares[0] if shares else None,
        (control, *others),
        recommended,
        advice,
        "" if plan.source is None else str(plan.source),
        _notes(plan),
    )


def _row(one: Candidate, results: _Results, base: _Results, seeds: Sequence[int], metric: str) -> Row:
    terms = dict.fromkeys(term for each in base if isinstance(each, RunResult) for term in each.terms)
    values, points = (
        _values(results, metric, tuple(terms)),
        [each.matched for each in results if isinstance(each, RunResult)],
    )
    differences: dict[str, Paired] = {}
    verdict, reason, over = "", "", None
    if one.name == CONTROL:
        reason = _failures(results, seeds)
    else:
        differences = _differences(values, _values(base, metric, tuple(terms))) if results else {}
        over = _over_cases(results, base, metric) if len(seeds) == 1 and results else None
        verdict, reason = _verdict(one.left_out, results, base, differences.get(metric), seeds)
    return Row(
        one.name,
        one.why,
        one.changes or {},
        verdict,
        reason,
        one.notes,
        values,
        differences,
        over,
        tuple(None if each is None else each.predicted_share for each in points),
        tuple(None if each is None else each.threshold for each in points),
        sum(each.seconds for each in results if isinstance(each, RunResult)),
    )


def _values(results: _Results, metric: str, terms: Sequence[str]) -> dict[str, tuple[float | None, ...]]:
    """What is compared, by quantity, one for each seed."""
    whole = "leaderboard" if metric in ("leaderboard", "topo") else "leaderboard_quick"
    found: dict[str, tuple[float | None, ...]] = {
        name: tuple(one.metrics.get(name) if isinstance(one, RunResult) else None for one in results)
        for name in dict.fromkeys((metric, whole, "dice"))
    }
    points = [one.matched if isinstance(one, RunResult) else None for one in results]
    found[MATCHED_DICE] = tuple(None if one is None else one.dice for one in points)
    found[LOSS] = tuple(one.loss if isinstance(one, RunResult) else None for one in results)
    for term in terms if len(terms) > 1 else ():
        found[f"{LOSS}.{term}"] = tuple(one.terms.get(term) if isinstance(one, RunResult) else None for one in results)
    return found


def _differences(
    values: Mapping[str, Sequence[float | None]], control: Mapping[str, Sequence[float | None]]
) -> dict[str, Paired]:
    found = {name: paired(values[name], control[name]) for name in values}
    return {name: one for name, one in found.items() if one is not None}


def _over_cases(results: _Results, base: _Results, metric: str) -> Paired | None:
    one, other = results[0], base[0]
    if not isinstance(one, RunResult) or not isinstance(other, RunResult) or not one.cases or not other.cases:
        return None
    names = list(other.cases)
    return paired([one.cases[name].get(metric) for name in names], [other.cases[name].get(metric) for name in names])


def _failures(results: _Results, seeds: Sequence[int]) -> str:
    """Why runs have no numbers, with their seeds; empty where all have some."""
    reasons: dict[str, list[int]] = {}
    for seed, one in zip(seeds, results, strict=True):
        reason = one if isinstance(one, str) else one.failed
        if reason:
            reasons.setdefault(reason, []).append(seed)
    return "; ".join(f"{reason} (seed {', '.join(map(str, of))})" for reason, of in reasons.items())


def _verdict(
    left_out: str,
    results: _Results,
    base: _Results,
    difference: Paired | None,
    seeds: Sequence[int],
) -> tuple[str, str]:
    if left_out:
        return LEFT_OUT, left_out
    failures = _failures(results, seeds)
    if failures:
        return FAILED, failures
    if difference is None:
        return FAILED, f"nothing to compare with: the control {_failures(base, seeds) or 'has no such value'}"
    pairs = zip(results, base, strict=True)
    if all(isinstance(a, RunResult) and isinstance(b, RunResult) and a.weights == b.weights for a, b in pairs):
        return SAME, "it never acted within these steps: its last weights are the control's to the bit"
    if difference.pairs < FEWEST_VOLUMES:
        return UNTOLD, ""
    return {1: BETTER, -1: WORSE, 0: ALIKE}[difference.sign()], ""


def _advice(rows: Sequence[Row], metric: str, comparisons: int, seeds: int) -> tuple[str, str]:
    """The remedy to go on with, and what is said to it."""
    better = [row for row in rows if row.verdict == BETTER]
    certain = [row for row in better if row.differences[metric].sign(comparisons) > 0]
    if certain:
        best = certain[0]
        others = [row.name for row in certain[1:]]
        also = f"; also beyond it: {', '.join(others)}" if others else ""
        return best.name, f"{best.name}: its gain in {metric} is beyond the noise of {counted(seeds, 'seed')}{also}"
    if better:
        names = ", ".join(row.name for row in better)
        tried = f"the best of {comparisons} may look so by chance" if comparisons > 1 else "that is little"
        return "", f"{names} looked better, but {tried}: repeat with more --seeds before it is believed"
    if seeds < FEWEST_VOLUMES:
        return "", f"{counted(seeds, 'seed does', 'seeds do')} not tell a gain from noise: give --seeds 3 or more"
    return "", "no remedy gains more than the noise; keep the configuration"


def _notes(plan: AblationPlan) -> tuple[str, ...]:
    notes = [
        f"Every run is {counted(plan.layout.steps, 'step')} long, its schedule with it: what a remedy does in a long "
        "run is another question."
    ]
    if plan.source is not None:
        notes.append(
            f"Everything begins with the best weights of {plan.source}. The moments of its optimiser, its place in the "
            "schedule and in the data, and its averages are not carried over, for the control neither; seeds differ "
            "in their patches alone."
        )
    return tuple(notes)
