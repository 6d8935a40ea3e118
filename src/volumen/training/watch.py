"""What a run makes of its validations: best so far, degradation, the plan's intervention, early stopping.

Two numbers are watched, and never mixed. The *selection metric* is fixed and weight-independent; it alone decides which
state is the best and when to stop early. The *validation loss* has meaning only within one objective; degradation
(the plan's three epochs, its 15 %) is measured on it, and forgotten when a curriculum changes the objective.
"""

import math
from dataclasses import dataclass, field

from volumen.config.optimisation import PlanIntervention, Training

FORMULAS: dict[str, tuple[float, float]] = {
    "standard": (1.0, 0.3),
    "aggressive": (1.5, 0.85),
    "conservative": (1.0, 0.15),
}


def plan_multiplier(formula: str, plateau: int) -> float:
    """The plan's multiplier at its `plateau`-th plateau (from 1): first value + slope * (plateau - 1)."""
    first, slope = FORMULAS[formula]
    return first + slope * (plateau - 1)


def plan_scale(settings: PlanIntervention, plateau: int, gradient_norm: float) -> float:
    """The factor on the learning rate at a plateau, from its number and the last gradient norm."""
    factor = settings.reference_gradient_norm / max(gradient_norm, 1e-12)
    factor = min(max(factor, 1.0), settings.maximum_gradient_factor)
    return min(settings.maximum_scale, plan_multiplier(settings.formula, plateau) * factor)


@dataclass(frozen=True)
class Verdict:
    """What to do after a validation."""

    is_best: bool = False
    """The selection metric is the best so far."""
    is_best_loss: bool = False
    """The validation loss is the least so far under this objective."""
    rollback: bool = False
    """Restore the best state, because the loss is catastrophically above its best."""
    intervene: bool = False
    """Restore the best state and scale the learning rate."""
    stop: bool = False
    """Patience is over."""
    numbers: dict[str, float] = field(default_factory=dict)
    """The figures behind it, for the event."""


@dataclass
class Watch:
    """Memory of a run's validations; plain numbers, so that it is saved with the checkpoint."""

    best_metric: float = -math.inf
    best_epoch: int = -1
    patience_metric: float = -math.inf
    waiting: int = 0
    first_total: float = math.nan
    best_total: float = math.inf
    degraded: int = 0
    interventions: int = 0

    def after_validation(self, settings: Training, epoch: int, total: float, metric: float) -> Verdict:
        """Take in a validation of an epoch (from 0) and decide.

        A metric (higher is better) of NaN, where no held-out volume gives it a value, is the best only as long as
        nothing else was validated.
        """
        first = self.best_epoch < 0 or (math.isnan(self.best_metric) and not math.isnan(metric))
        is_best = first or metric > self.best_metric
        stopping = settings.early_stopping
        if metric > self.patience_metric + (stopping.minimum_delta if stopping else 0.0):
            self.patience_metric, self.waiting = metric, 0
        else:
            self.waiting += 1
        if is_best:
            self.best_metric, self.best_epoch = metric, epoch
        if math.isnan(self.first_total):
            self.first_total = total
        above = (total - self.best_total) / max(abs(self.best_total), 1e-12) if math.isfinite(self.best_total) else 0.0
        self.degraded = self.degraded + 1 if above > 0 else 0
        best_total, self.best_total = self.best_total, min(self.best_total, total)
        catastrophic = above > settings.degradation.catastrophic_share
        intervene = self._may_intervene(settings, total)
        return Verdict(
            is_best=is_best,
            is_best_loss=total < best_total,
            rollback=catastrophic and settings.degradation.rollback and self.best_epoch >= 0 and not is_best,
            intervene=intervene,
            stop=stopping is not None and self.waiting >= stopping.patience,
            numbers={
                "total": total,
                "best_total": best_total,
                "above_best_share": above,
                "degraded_validations": float(self.degraded),
                "metric": metric,
                "best_metric": self.best_metric,
            },
        )

    def _may_intervene(self, settings: Training, total: float) -> bool:
        policy = settings.intervention
        if not isinstance(policy, PlanIntervention) or self.degraded < settings.degradation.epochs:
            return False
        improvement = (self.first_total - total) / max(abs(self.first_total), 1e-12)
        return self.interventions < policy.maximum_interventions and improvement < policy.enough_improvement

    def note_intervention(self) -> int:
        """Count an intervention and start counting degraded validations anew; returns its number, from 1."""
        self.interventions += 1
        self.degraded = 0
        return self.interventions

    def forget_totals(self) -> None:
        """The objective has changed: losses before and after are not comparable."""
        self.first_total, self.best_total, self.degraded = math.nan, math.inf, 0
