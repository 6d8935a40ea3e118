"""What repair is worth: arms against doing nothing, against each other, and their harm on healthy runs."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from volumen.doctor.benchmark.arm_running import ArmResult
from volumen.doctor.benchmark.arms import ARMS, PAIR, Arm, healthy_beside
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.qualifying import clopper_pearson, upper_bound

GAP = 0.05
"""Dice that a fault costs at least where there is something to repair."""
REPAIRED = 0.9
SIGMAS = 2.0
LEAST_SIGMA = 0.002
"""Of runs that differ in the seed, where it cannot be measured or is less."""
TRIED: tuple[Arm, ...] = ("tournament", "random", "restart", "reduce_on_plateau")
Results = Mapping[str, ArmResult]


@dataclass(frozen=True)
class Case:
    """A variant under one seed: the Dice of every arm that is there, with `nothing` and `healthy` among them."""

    variant: str
    seed: int
    arms: dict[str, ArmResult]

    @property
    def gap(self) -> float:
        """What the fault costs."""
        return self.arms["healthy"].dice - self.arms["nothing"].dice

    def repair(self, arm: str) -> float:
        """(arm - nothing) / (healthy - nothing): 0 is nothing, 1 as if there had been no fault."""
        return (self.arms[arm].dice - self.arms["nothing"].dice) / self.gap


@dataclass(frozen=True)
class Row:
    """A variant over its seeds."""

    variant: str
    kind: str
    strength: float
    onset: float
    setup: str
    seeds: int
    healthy: float
    nothing: float
    repair: dict[str, float]
    """By arm, of the means; empty where the fault costs less than `GAP`."""
    done: tuple[str, ...]
    """What tournaments kept."""


@dataclass(frozen=True)
class ArmScore:
    """An arm over all cases with something to repair; the interval is exact, at 95 %."""

    arm: str
    cases: int
    repaired: int
    share: float
    interval: tuple[float, float]
    median_repair: float
    steps: float
    """Mean of all that were made, as a share of the budget's."""


@dataclass(frozen=True)
class Duel:
    """The tournament against another arm, by the Dice of pairs of one variant and seed."""

    other: str
    pairs: int
    better: int
    worse: int
    mean_gain: float
    p_sign: float
    p_wilcoxon: float


@dataclass(frozen=True)
class HarmDone:
    """Healthy runs with the tournament against the same without."""

    pairs: int
    changed: int
    """Whose Dice is another one."""
    worse: int
    """By more than two sigma."""
    better: int
    worse_bound: float
    """One-sided 95 % bound of their share."""
    worst: float
    """The largest loss of Dice, 0 where there is none."""
    mean_change: float
    sigma: float
    tournaments: int
    cut_short: int
    """Runs that were ended as sick."""
    cost: float
    """Mean share of trial steps in the planned ones."""
    names: tuple[str, ...]
    """Of those made worse."""


@dataclass(frozen=True)
class RepairTable:
    """All figures of the proof of repair."""

    runs: int
    rows: tuple[Row, ...]
    scores: tuple[ArmScore, ...]
    duels: tuple[Duel, ...]
    harm: HarmDone


def repair_table(results: Results) -> RepairTable:
    """The figures of the runs that are there."""
    cases = cases_of(results.values())
    broken = [one for one in cases if one.gap >= GAP]
    scores = tuple(score_of(arm, broken) for arm in TRIED)
    duels = tuple(duel_of(arm, broken) for arm in ("nothing", *TRIED[1:]))
    names = sorted({one.variant for one in cases})
    rows = tuple(_row([one for one in cases if one.variant == name]) for name in names)
    return RepairTable(len(results), rows, scores, duels, harm_of(results.values()))


def cases_of(results: Iterable[ArmResult]) -> list[Case]:
    """Faulty runs beside their healthy one; without `nothing` or `healthy` there is no case."""
    by = {(one.draw, one.arm): one for one in results}
    found = []
    for draw in sorted({draw for draw, _ in by if draw.group == "fault"}, key=lambda one: (one.variant, one.seed)):
        arms: dict[str, ArmResult] = {arm: by[draw, arm] for arm in ARMS if (draw, arm) in by}
        healthy = by.get((healthy_beside(draw), "healthy"))
        if healthy is not None and "nothing" in arms:
            found.append(Case(draw.variant, draw.seed, {**arms, "healthy": healthy}))
    return found


def score_of(arm: str, cases: Sequence[Case]) -> ArmScore:
    """How often an arm repairs."""
    mine = [one for one in cases if arm in one.arms]
    repairs = [one.repair(arm) for one in mine]
    hits = sum(one >= REPAIRED for one in repairs)
    return ArmScore(
        arm=arm,
        cases=len(mine),
        repaired=hits,
        share=hits / len(mine) if mine else math.nan,
        interval=clopper_pearson(hits, len(mine)),
        median_repair=statistics.median(repairs) if repairs else math.nan,
        steps=_mean(one.arms[arm].steps / max(one.arms["healthy"].steps, 1) for one in mine),
    )


def duel_of(other: str, cases: Sequence[Case]) -> Duel:
    """The tournament against another arm; ties say nothing in the sign test, zeros nothing in Wilcoxon's."""
    mine = [one for one in cases if "tournament" in one.arms and other in one.arms]
    gains = [one.arms["tournament"].dice - one.arms[other].dice for one in mine]
    better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    decided = better + worse
    p_sign = float(stats.binomtest(better, decided).pvalue) if decided else 1.0
    p_wilcoxon = float(stats.wilcoxon(gains).pvalue) if decided else 1.0
    return Duel(other, len(mine), better, worse, _mean(gains), p_sign, p_wilcoxon)


def harm_of(results: Iterable[ArmResult]) -> HarmDone:
    """What the tournament does to healthy runs and controls."""
    well = [one for one in results if one.draw.group != "fault"]
    by = {(one.draw, one.arm): one for one in well}
    off, on = PAIR
    pairs = [(one, by[one.draw, on]) for one in well if one.arm == off and (one.draw, on) in by]
    changes = {mine.draw.name: mine.dice - plain.dice for plain, mine in pairs}
    sigma = _sigma(well)
    worse = tuple(name for name, change in changes.items() if change < -SIGMAS * sigma)
    return HarmDone(
        pairs=len(pairs),
        changed=sum(change != 0 for change in changes.values()),
        worse=len(worse),
        better=sum(change > SIGMAS * sigma for change in changes.values()),
        worse_bound=upper_bound(len(worse), len(pairs)),
        worst=max((-change for change in changes.values()), default=0.0),
        mean_change=_mean(changes.values()),
        sigma=sigma,
        tournaments=sum(mine.tournaments for _, mine in pairs),
        cut_short=sum(mine.outcome == "sick" for _, mine in pairs),
        cost=_mean(mine.trial_steps / max(plain.steps, 1) for plain, mine in pairs),
        names=worse,
    )


def _sigma(well: Sequence[ArmResult]) -> float:
    """Of Dice over the seeds of plain healthy runs, pooled over set-ups and lengths."""
    groups: dict[tuple[str, str], list[float]] = {}
    for one in well:
        if one.draw.group == "healthy" and one.arm in ("healthy", "off"):
            groups.setdefault((one.draw.setup, one.arm), []).append(one.dice)
    spread = [(len(group) - 1, statistics.variance(group)) for group in groups.values() if len(group) > 1]
    freedom = sum(count for count, _ in spread)
    pooled = sum(count * variance for count, variance in spread) / freedom if freedom else 0.0
    return max(LEAST_SIGMA, math.sqrt(pooled))


def _row(cases: Sequence[Case]) -> Row:
    draw = cases[0].arms["nothing"].draw
    gap = _mean(one.gap for one in cases)
    repair: dict[str, float] = {}
    for arm in TRIED if gap >= GAP else ():
        mine = [one for one in cases if arm in one.arms]
        if mine and (width := _mean(one.gap for one in mine)) > 0:
            repair[arm] = _mean(one.arms[arm].dice - one.arms["nothing"].dice for one in mine) / width
    tried = [one.arms["tournament"] for one in cases if "tournament" in one.arms]
    return Row(
        variant=cases[0].variant,
        kind=draw.kind,
        strength=FAULTS[draw.kind].strengths[draw.strength],
        onset=draw.onset,
        setup=draw.setup,
        seeds=len(cases),
        healthy=_mean(one.arms["healthy"].dice for one in cases),
        nothing=_mean(one.arms["nothing"].dice for one in cases),
        repair=repair,
        done=tuple(dict.fromkeys(done for one in tried for done in one.done)),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.fmean(found) if found else math.nan


def repair_json(table: RepairTable, results: Results) -> dict[str, Any]:
    """Everything, as plain values, the runs too."""
    return {**asdict(table), "results": [asdict(one) for _, one in sorted(results.items())]}
