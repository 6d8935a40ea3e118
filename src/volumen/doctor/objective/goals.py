"""Criteria held against what can be: constant predictions, the labels themselves, what a run records and when.

P4: a constant meets them. P5: nothing that finds the surface can. P6: the run never comes to where they are judged.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from volumen.criteria import demands, known_quantity, parse_criterion, print_criterion, statements
from volumen.criteria.grammar import Amount, Comparison, Improves, NoChange, OfParent, Statement, When, Within
from volumen.criteria.targets import Target
from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.metrics import mean_of_known
from volumen.runtime import choose_device
from volumen.system.output import counted
from volumen.training.validate import mask_metrics

EXACT = ("leaderboard", "topo")
"""Metrics that a validation computes only where they select the best checkpoint."""
OF_SHARES = ("predicted_share",)
CONSTANTS = ("no surface anywhere", "surface everywhere")
SIDE = 96
"""Of the block of a held-out volume on which constants are scored, in voxels."""
STRICT, IMPOSSIBLE = 0.985, 0.8
"""A score that labels drawn twice do not reach; the Dice that a share of surface has to leave room for."""
WHERE = "experiment.criteria"


def check_met_by_constants(context: Context) -> Iterator[Finding]:
    """P4: criteria on metrics that a constant meets, all of them together."""
    asked = [one for one in _demanded(context) if one.metric is not None]
    if any(True for one in asked if one.metric in OF_SHARES for _ in _check_share(context, one)):
        return  # the labels themselves do not have it: P5 says so
    if not asked:
        return
    known = _constants(context, {one.metric for one in asked if one.metric})
    for constant, values in known.items():
        met = [one for one in asked if one.holds(values.get(one.metric or "", math.nan))]
        if not met:
            continue
        numbers = ", ".join(f"{one.statement.quantity} {values[one.metric or '']:.3f}" for one in met)
        whole = len(met) == len(asked) and not _asks_for_losses(context)
        if not whole and not any(one.alone for one in met):
            continue
        yield Finding(
            code="P4",
            severity=Severity.stop if whole else Severity.note,
            title=f"a constant prediction meets the success criterion {_all(met)}",
            evidence=f"{constant}, on held-out labels: {numbers}",
            causes=(
                "labels hold little surface: a mask without any has a high accuracy",
                "recall alone is best with surface everywhere, precision alone with next to none",
            ),
            remedies=("ask for more than a constant has, by val.dice or val.leaderboard_quick",),
            where=context.where(WHERE),
        )
        return


def check_within_reach(context: Context) -> Iterator[Finding]:
    """P5: criteria on metrics that the labels themselves do not meet, or only they."""
    for one in _demanded(context):
        span = known_quantity(one.statement).span
        if span is not None and one.target.beyond(*span):
            yield _unreachable(context, one, f"it lies between {span[0]:g} and {span[1]:g}, whatever is trained")
        elif one.metric in (*OF_SHARES, "true_share"):
            yield from _check_share(context, one)
        elif one.asks_above(STRICT) and one.metric not in (None, "accuracy", "precision", "recall"):
            yield Finding(
                code="P5",
                severity=Severity.warn,
                title=f"the success criterion {one.text} is met by the labels themselves only",
                evidence=f"labels of a surface that are drawn twice agree to less than {STRICT:g}",
                causes=("the number is of another task",),
                remedies=("ask for what is better than the parent's run, such as val.dice > parent + 0.02",),
                where=context.where(WHERE),
            )


def check_judged(context: Context) -> Iterator[Finding]:
    """P6: criteria on what the run does not record, or at a time that it does not come to."""
    for text in context.config.experiment.criteria:
        for statement in statements(parse_criterion(text)):
            found = next(iter(_reasons(context, statement)), None)
            if found is not None:
                why, remedy, severity = found
                how = "is judged at the end only" if severity == Severity.note else "can never be judged"
                yield Finding(
                    code="P6",
                    severity=severity,
                    title=f"the success criterion {print_criterion(statement)} {how}",
                    evidence=why,
                    causes=("the run was shortened, or the criterion was taken from another one",),
                    remedies=(remedy,),
                    where=context.where(WHERE),
                )


@dataclass(frozen=True)
class Demand:
    """A range of numbers that a criterion asks a quantity to lie in."""

    statement: Comparison | Within
    target: Target
    metric: str | None
    """Of a validation or an evaluation; None for other quantities."""
    alone: bool
    """Whether it is all that its criterion asks for."""

    @property
    def text(self) -> str:
        """As it is written."""
        return print_criterion(self.statement)

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range."""
        margin = self.target.margin(value)
        return margin >= 0 if self.target.inclusive else margin > 0

    def asks_above(self, level: float) -> bool:
        """Whether nothing below a level is enough."""
        return self.target.low >= level


def _demanded(context: Context) -> Iterator[Demand]:
    for text in context.config.experiment.criteria:
        parts = list(demands(parse_criterion(text)))
        for part in parts:
            target = None if isinstance(part, NoChange | Improves) else _target(part)
            if target is not None and isinstance(part, Comparison | Within):
                yield Demand(part, target, _metric_of(part), len(parts) == 1 and not isinstance(part, NoChange))


def _target(statement: Statement) -> Target | None:
    if isinstance(statement, Within):
        return Target(statement.quantity, statement.low.value, statement.high.value, inclusive=True)
    if not isinstance(statement, Comparison) or not isinstance(statement.bound, Amount):
        return None
    bound, below = statement.bound.value, statement.operator in ("<", "<=")
    low, high = (-math.inf, bound) if below else (bound, math.inf)
    return Target(statement.quantity, low, high, inclusive=statement.operator in ("<=", ">="))


def _metric_of(statement: Statement) -> str | None:
    """The metric of a validation or of whole volumes that a statement speaks of."""
    name = known_quantity(statement).name
    if name == "score":
        return "leaderboard"
    prefix, _, metric = name.partition(".")
    return metric if prefix in ("val", "score") and metric not in ("loss", "r") and "." not in metric else None


def _asks_for_losses(context: Context) -> bool:
    """Whether criteria ask something of losses, too, which P4 and P5 look at by themselves."""
    return any(
        known_quantity(part).name.partition(".")[2].startswith(("loss", "term", "r"))
        and known_quantity(part).name not in ("val.recall", "score.recall")
        and not isinstance(part, Improves | NoChange)
        for text in context.config.experiment.criteria
        for part in demands(parse_criterion(text))
    )


def _constants(context: Context, wanted: set[str]) -> dict[str, dict[str, float]]:
    """Metrics of masks that are the same everywhere, as means over held-out volumes."""
    dataset, found = context.dataset, {}
    cases = [dataset.case(name) for name in context.validation]
    shares = [case.surface_voxels / max(case.valid_voxels, 1) for case in cases if case.surface_voxels]
    if not shares:
        return {}
    for number, name in enumerate(CONSTANTS):
        rows = [
            {"accuracy": share, "precision": share, "recall": 1.0, "iou": share, "dice": 2 * share / (1 + share),
             "predicted_share": 1.0}
            if number
            else {"accuracy": 1 - share, "recall": 0.0, "iou": 0.0, "dice": 0.0, "predicted_share": 0.0}
            for share in shares
        ]  # fmt: skip
        found[name] = {key: mean_of_known(row[key] for row in rows) for key in rows[0]}
    more = wanted - set(found[CONSTANTS[1]]) - {"true_share"}
    if more:
        first = next(case.id for case in cases if case.surface_voxels)
        label = context.label_block(first, context.centre(first), min(SIDE, *dataset.case(first).shape))
        for number, name in enumerate(CONSTANTS):
            mask = np.full(label.shape, number, np.uint8)
            quick = mask_metrics(mask, label, full=False)
            exact = mask_metrics(mask, label, full=True) if more & set(EXACT) else {}
            found[name] = {**quick, **exact, **found[name]}
    return found


def _check_share(context: Context, one: Demand) -> Iterator[Finding]:
    """A share of surface that no volume has."""
    dataset = context.dataset
    cases = [dataset.case(name) for name in (*context.validation, *context.training)]
    shares = [case.surface_voxels / max(case.valid_voxels, 1) for case in cases if case.surface_voxels]
    if not shares:
        return
    least, most = min(shares), max(shares)
    low, high = one.target.low, one.target.high
    if low <= most and high >= least:
        return
    nearest, truth = (low, most) if low > most else (high, least)
    dice = 2 * min(nearest, truth) / max(nearest + truth, 1e-9)
    if one.metric != "true_share" and dice >= IMPOSSIBLE:
        return
    best = "" if one.metric == "true_share" else f"; a mask with {nearest:.1%} has a Dice of {dice:.2f} at most"
    yield _unreachable(context, one, f"the labels hold {least:.1%} to {most:.1%} surface{best}")


def _unreachable(context: Context, one: Demand, why: str) -> Finding:
    return Finding(
        code="P5",
        severity=Severity.stop,
        title=f"the success criterion {one.text} cannot be reached",
        evidence=why,
        causes=("the number is of other labels, or of another quantity", "unlabelled voxels were counted as surface"),
        remedies=("ask for what the labels hold, or judge by val.dice",),
        where=context.where(WHERE),
    )


Reason = tuple[str, str, Severity]


def _reasons(context: Context, statement: Statement) -> Iterator[Reason]:
    """Why a statement is never judged, and what to do."""
    config = context.config if context.budget is None else context.budget.configured
    yield from _of_quantity(context, statement)
    yield from _of_time(config.training.epochs, config.training.validate_every_epochs, statement)
    bound = getattr(statement, "bound", None)
    if isinstance(bound, OfParent) and not config.experiment.parent:
        yield "it is held against a parent, and experiment.parent names none", "name the parent's run", Severity.warn


def _of_quantity(context: Context, statement: Statement) -> Iterator[Reason]:
    name, config = known_quantity(statement).name, context.config
    if name.startswith(("val.term.", "train.term.")):
        term = name.rpartition(".")[2]
        if not any(term in objective.terms for objective in context.objectives.values()):
            terms = ", ".join(sorted({one for objective in context.objectives.values() for one in objective.terms}))
            yield f"the objective has the terms {terms}", f"judge by one of them, or add {term}", Severity.warn
    chosen = config.training.selection_metric
    exact = chosen in EXACT
    if name in ("val.leaderboard", "val.topo") and not exact:
        yield (
            f"a validation computes it only where it chooses the best checkpoint, which {chosen} does",
            "training.selection_metric: leaderboard, or judge by val.leaderboard_quick, or score after the run",
            Severity.warn,
        )
    elif name == "val.leaderboard_quick" and exact:
        yield f"with selection by {chosen} a validation computes leaderboard", "judge by val.leaderboard", Severity.warn
    elif name == "memory" and choose_device(config.device).type == "cpu":
        yield "memory is recorded on an accelerator only", "leave it out on a CPU", Severity.note


def _of_time(epochs: int, every: int, statement: Statement) -> Iterator[Reason]:
    ends = f"the run has {counted(epochs, 'epoch')}"
    first = every if known_quantity(statement).name.startswith("val.") else 1
    if isinstance(statement, NoChange):
        if statement.epochs is not None and statement.epochs[0] > epochs:
            yield f"{ends}", "epochs that the run has", Severity.warn
        return
    if isinstance(statement, Improves):
        if statement.over >= epochs:
            yield f"{ends}, and {statement.over} are compared with those before", "fewer epochs", Severity.warn
        return
    when: When | None = statement.when
    if when is None:
        return
    if when.moment in ("at", "from", "in") and max(when.first, when.last) > epochs:
        yield ends, f"an epoch up to {epochs}", Severity.warn
    elif when.moment == "by" and when.first > epochs:
        yield ends, f"an epoch up to {epochs}", Severity.note
    elif when.moment in ("at", "by") and when.first < first <= epochs:
        yield f"the first validation comes after epoch {first}", f"an epoch from {first} on", Severity.warn


def _all(met: Sequence[Demand]) -> str:
    return " and ".join(one.text for one in met)
