"""What a sweep says: its trials, the best of them, which factors matter, and whether the best beats what there was."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from volumen.experiments.differences import Paired, paired
from volumen.experiments.sweep_halving import BASELINE, STOPPED, Entry, ranked
from volumen.experiments.sweep_importance import Importance, importances
from volumen.experiments.sweep_plan import SweepPlan
from volumen.files import strict_json
from volumen.metrics.comparison import FEWEST_VOLUMES
from volumen.system.output import counted


@dataclass(frozen=True)
class Repeated:
    """A trial's repeats with other seeds."""

    number: int
    searched: float
    """Its value in the search, by which it was chosen."""
    values: tuple[float | None, ...]
    """One for each seed; None where it could not be trained."""
    difference: Paired | None
    """From trial 0, by seed; None for trial 0."""
    sign: int
    """1 or -1 where the difference is more than noise, widened for the number of repeated trials."""

    @property
    def mean(self) -> float | None:
        """Over the seeds that have a value."""
        known = [one for one in self.values if one is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class SweepReport:
    """A sweep as far as it is."""

    name: str
    metric: str
    rungs: tuple[int, ...]
    reduction: int
    planned: int
    """Trials."""
    sampler: str
    seed: int
    entries: tuple[Entry, ...]
    """With all their parameters, trial 0's own among them."""
    importances: tuple[Importance, ...]
    repeated: tuple[Repeated, ...]
    """Trial 0 first; empty where nothing was repeated."""
    recommended: int
    """A trial; 0 is the configuration as it is."""
    advice: str

    @property
    def is_over(self) -> bool:
        """Whether all trials are ended."""
        return len(self.entries) >= self.planned and all(one.is_ended(self.rungs) for one in self.entries)

    @property
    def complete(self) -> tuple[Entry, ...]:
        """Trials that reached the end, best first."""
        return tuple(one for one in ranked(self.entries) if len(one.values) == len(self.rungs))

    @property
    def stopped(self) -> tuple[Entry, ...]:
        """Trials that were left at a rung."""
        return tuple(one for one in self.entries if one.reason.startswith(STOPPED))

    @property
    def refused(self) -> tuple[Entry, ...]:
        """Trials that ended with a failure, or could not be begun."""
        return tuple(one for one in self.entries if one.reason and not one.reason.startswith(STOPPED))

    @property
    def epochs(self) -> tuple[int, int]:
        """Epochs that were trained, and what they would be without halving."""
        done = sum(self.rungs[len(one.values) - 1] for one in self.entries if one.values)
        return done, self.rungs[-1] * sum(bool(one.values) for one in self.entries)

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return sum(one.seconds for one in self.entries)

    @property
    def record(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        trials = [
            {key: value for key, value in asdict(one).items() if key not in ("claim", "of", "seed")}
            for one in self.entries
        ]
        factors = [{**asdict(one), "verdict": one.verdict} for one in self.importances]
        repeats = [{**asdict(one), "mean": one.mean} for one in self.repeated]
        return {**plain, "entries": trials, "importances": factors, "repeated": repeats, "is_over": self.is_over}

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON values."""
        return strict_json(self.record)


def report_of(plan: SweepPlan, entries: Sequence[Entry], repeats: Sequence[Entry], planned: int) -> SweepReport:
    """What the journal says.

    Args:
        plan: Of the sweep.
        entries: Its trials.
        repeats: Of the best ones; empty where none were wanted.
        planned: How many trials there are to be.
    """
    own = plan.space.own(plan.config)
    whole = tuple(Entry(**{**vars(one), "parameters": own}) if one.number == BASELINE else one for one in entries)
    repeated = _repeated(plan, whole, repeats)
    recommended, advice = _advice(plan, whole, repeated)
    return SweepReport(
        plan.config.name, plan.metric, plan.rungs, plan.reduction, planned, plan.sampler, plan.seed, whole,
        importances(plan.space, whole, plan.seed), repeated, recommended, advice,
    )  # fmt: skip


def _repeated(plan: SweepPlan, entries: Sequence[Entry], repeats: Sequence[Entry]) -> tuple[Repeated, ...]:
    by_trial: dict[int, dict[int, float]] = {}
    for one in repeats:
        if one.seed in plan.repeat_seeds:
            by_trial.setdefault(one.of, {}).update({one.seed: one.values[-1]} if one.values else {})
    if BASELINE not in by_trial:
        return ()
    values: Mapping[int, tuple[float | None, ...]] = {
        number: tuple(found.get(seed) for seed in plan.repeat_seeds) for number, found in by_trial.items()
    }
    made = []
    for number in sorted(values):
        difference = None if number == BASELINE else paired(values[number], values[BASELINE])
        sign = 0 if difference is None else difference.sign(max(1, len(values) - 1))
        searched = entries[number].values[-1] if entries[number].values else float("nan")
        made.append(Repeated(number, searched, values[number], difference, sign))
    first, *others = made
    others.sort(key=lambda one: -one.difference.mean if one.difference is not None else float("inf"))
    return (first, *others)


def _advice(plan: SweepPlan, entries: Sequence[Entry], repeated: Sequence[Repeated]) -> tuple[int, str]:
    best = [one for one in ranked(entries) if len(one.values) == len(plan.rungs)]
    if not best or best[0].number == BASELINE:
        return BASELINE, "keep the configuration: no trial that reached the end has a higher value"
    if not repeated:
        gain = f"{best[0].values[-1] - entries[BASELINE].values[-1]:+.4f}" if entries[BASELINE].values else "unknown"
        return BASELINE, (
            f"trial {best[0].number} looks best (difference {gain}), but the best of {len(entries)} looks good by "
            "chance, and one seed does not tell: repeat it with --confirm 1"
        )
    better = [one for one in repeated if one.sign > 0]
    if better:
        one = better[0]
        assert one.difference is not None
        return one.number, (
            f"trial {one.number}: better than the configuration by {one.difference.mean:.4f} "
            f"± {one.difference.half:.4f} over {counted(one.difference.pairs, 'other seed')}"
        )
    few = plan.seeds < FEWEST_VOLUMES
    why = (
        f"{counted(plan.seeds, 'seed')} cannot tell: give --seeds 3 or more" if few else "none of them beats the noise"
    )
    return BASELINE, f"keep the configuration: the best were repeated with other seeds, and {why}"
