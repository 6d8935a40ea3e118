"""How good examiners are: what they find of harmful faults, and what they say of healthy runs."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from volumen.doctor.benchmark.bench import dices
from volumen.doctor.benchmark.examining import Examiner, Verdict
from volumen.doctor.benchmark.faults import FAULTS
from volumen.doctor.benchmark.qualifying import Harm, clopper_pearson, judge, upper_bound
from volumen.doctor.benchmark.running import RUNS, Job, Result
from volumen.doctor.benchmark.setups import Half

GRAVE = 0.05
"""A drop of the true Dice from which a fault is grave."""
_UNSOUND = 0.5
"""A control below this share of its set-up's healthy Dice is broken itself, and set aside."""


@dataclass(frozen=True)
class Variant:
    """Runs that differ in the seed, and whether their fault does harm."""

    name: str
    kind: str
    family: str
    strength: float
    onset: float
    setup: str
    half: Half
    harm: Harm
    runs: tuple[Result, ...]


@dataclass(frozen=True)
class Table:
    """What is scored: the harmful faults, and the runs on which an alarm is false."""

    half: str
    harmful: tuple[Variant, ...]
    neutral: tuple[Variant, ...]
    undecided: tuple[Variant, ...]
    controls: tuple[Result, ...]
    """Healthy runs, controls and neutral faults."""
    set_aside: tuple[str, ...]
    """Controls that did not learn themselves."""


@dataclass(frozen=True)
class Row:
    """What an examiner makes of a harmful fault."""

    variant: str
    runs: int
    drop: float
    p: float
    found: int
    named: int
    """Runs whose first-named cause is one of the right ones."""
    delay: float | None
    """Median share of the run from onset to detection."""
    said: str
    """The cause that was named most often."""


@dataclass(frozen=True)
class Score:
    """An examiner's figures; intervals are exact, at 95 %."""

    examiner: str
    runs: int
    found: int
    recall: float
    recall_interval: tuple[float, float]
    grave_recall: float
    """Over faults that cost at least 0.05 Dice."""
    faults_found: int
    """Variants that were found in most of their runs."""
    faults: int
    controls: int
    false_alarms: int
    false_alarm_rate: float
    false_alarm_interval: tuple[float, float]
    false_alarm_bound: float
    """One-sided."""
    youden: float
    named: int
    named_share: float
    """Of all harmful runs."""
    delay: float | None
    rows: tuple[Row, ...]
    false_alarms_by: dict[str, int]
    """False alarms by the rule that spoke first."""


def table_of(results: Mapping[str, Result], half: str = "both") -> Table:
    """Sort runs into harmful faults and controls."""
    chosen = {name: one for name, one in results.items() if half in ("both", one.draw.half)}
    variants = [_variant(name, chosen) for name in sorted({one.draw.variant for one in chosen.values()})]
    faults = [one for one in variants if one is not None]
    by = {verdict: tuple(one for one in faults if one.harm.verdict == verdict) for verdict in _VERDICTS}
    deceiving = tuple(one for one in by["neutral"] if FAULTS[one.kind].deceives)
    by["neutral"] = tuple(one for one in by["neutral"] if one not in deceiving)
    by["open"] += deceiving
    others = [one for one in chosen.values() if one.draw.group != "fault"]
    aside = [one.draw.name for one in others if not _is_sound(one, chosen)]
    controls = [one for one in others if one.draw.name not in aside]
    controls += [run for variant in by["neutral"] for run in variant.runs]
    return Table(half, by["harmful"], by["neutral"], by["open"], tuple(controls), tuple(aside))


_VERDICTS = ("harmful", "neutral", "open")


def _variant(name: str, results: Mapping[str, Result]) -> Variant | None:
    runs = tuple(sorted((one for one in results.values() if one.draw.variant == name), key=lambda one: one.draw.seed))
    draw = runs[0].draw
    if draw.group != "fault" or draw.kind not in FAULTS:
        return None
    fault = FAULTS[draw.kind]
    harm = judge([one.dice for one in runs], dices(results, f"healthy-healthy-{draw.setup}"))
    strength = fault.strengths[draw.strength]
    return Variant(name, draw.kind, fault.family, strength, draw.onset, draw.setup, draw.half, harm, runs)


def _is_sound(result: Result, results: Mapping[str, Result]) -> bool:
    healthy = dices(results, f"healthy-healthy-{result.draw.setup}")
    if result.draw.group != "control" or Job(result.draw).has_own_look or not healthy:
        return True
    return result.dice >= _UNSOUND * statistics.fmean(healthy)


def scores_of(examiners: Mapping[str, Examiner], table: Table, out: Path) -> list[Score]:
    """The figures of several examiners; each run is read by all of them before the next one."""
    runs = [*table.controls, *(run for variant in table.harmful for run in variant.runs)]
    said: dict[str, dict[str, Verdict]] = {name: {} for name in examiners}
    for run in runs:
        for name, examine in examiners.items():
            said[name][run.draw.name] = examine(out / RUNS / run.draw.name)

    def told(name: str) -> Examiner:
        return lambda path: said[name][path.name]

    return [score_of(name, told(name), table, out) for name in examiners]


def score_of(name: str, examine: Examiner, table: Table, out: Path) -> Score:
    """The figures of an examiner on a table, from the records under `out`."""
    said: Callable[[Result], Verdict] = lambda one: examine(out / RUNS / one.draw.name)  # noqa: E731
    found = [(variant, [said(one) for one in variant.runs]) for variant in table.harmful]
    rows = tuple(_row(variant, verdicts) for variant, verdicts in found)
    runs, hits, named = (sum(getattr(row, key) for row in rows) for key in ("runs", "found", "named"))
    grave = [row for row in rows if row.drop >= GRAVE]
    alarms = [verdict for verdict in map(said, table.controls) if verdict.alarm]
    by: dict[str, int] = {}
    for verdict in alarms:
        by[verdict.alarms[0].name] = by.get(verdict.alarms[0].name, 0) + 1
    recall, false = _share(hits, runs), _share(len(alarms), len(table.controls))
    delays = [delay for variant, verdicts in found for delay in _delays(variant, verdicts)]
    return Score(
        examiner=name,
        runs=runs,
        found=hits,
        recall=recall,
        recall_interval=clopper_pearson(hits, runs),
        grave_recall=_share(sum(row.found for row in grave), sum(row.runs for row in grave)),
        faults_found=sum(2 * row.found > row.runs for row in rows),
        faults=len(rows),
        controls=len(table.controls),
        false_alarms=len(alarms),
        false_alarm_rate=false,
        false_alarm_interval=clopper_pearson(len(alarms), len(table.controls)),
        false_alarm_bound=upper_bound(len(alarms), len(table.controls)),
        youden=recall - false,
        named=named,
        named_share=_share(named, runs),
        delay=statistics.median(delays) if delays else None,
        rows=rows,
        false_alarms_by=dict(sorted(by.items(), key=lambda pair: -pair[1])),
    )


def _row(variant: Variant, verdicts: Sequence[Verdict]) -> Row:
    caught = [_caught(run, verdict) for run, verdict in zip(variant.runs, verdicts, strict=True)]
    right = FAULTS[variant.kind].causes
    causes = [verdict.cause for verdict, step in zip(verdicts, caught, strict=True) if step is not None]
    delays = list(_delays(variant, verdicts))
    return Row(
        variant=variant.name,
        runs=len(verdicts),
        drop=variant.harm.drop,
        p=variant.harm.p,
        found=sum(step is not None for step in caught),
        named=sum(cause in right for cause in causes),
        delay=statistics.median(delays) if delays else None,
        said=max(causes, key=causes.count) if causes else "",
    )


def _caught(run: Result, verdict: Verdict) -> int | None:
    """Step of the first alarm that is not before the fault; None where there is none."""
    onset = run.onset_step or 0
    return next((alarm.step for alarm in verdict.alarms if alarm.step >= onset), None)


def _delays(variant: Variant, verdicts: Sequence[Verdict]) -> Iterator[float]:
    for run, verdict in zip(variant.runs, verdicts, strict=True):
        step = _caught(run, verdict)
        if step is not None:
            yield (step - (run.onset_step or 0)) / max(run.planned_steps, 1)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def to_json(table: Table, scores: Sequence[Score]) -> dict[str, Any]:
    """Everything, as plain values."""

    def listed(variants: Sequence[Variant]) -> list[dict[str, Any]]:
        return [
            {
                **{key: value for key, value in vars(one).items() if key not in ("harm", "runs")},
                "harm": asdict(one.harm),
            }
            for one in variants
        ]

    return {
        "half": table.half,
        "harmful": listed(table.harmful),
        "neutral": listed(table.neutral),
        "undecided": listed(table.undecided),
        "controls": len(table.controls),
        "set_aside": list(table.set_aside),
        "scores": [asdict(score) for score in scores],
    }
