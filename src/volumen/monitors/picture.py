"""The numbers of a training that its diagnosis rests on, taken from everything that was seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from volumen.monitors.gradients import alignment, update_sizes, weights_of
from volumen.monitors.memory import Memory
from volumen.monitors.objective_facts import TermFacts
from volumen.monitors.seen import ProbeSeen
from volumen.monitors.sign import Sign
from volumen.monitors.statistics import finite, median, slope

LEARNED_PROGRESS, LEARNED_FALL, LEARNED_GAP, LEARNED_DICE = 0.9, 0.06, 0.1, 0.12
"""A run has learned something when its training loss is this far below the constant's, its probabilities are this much
higher on surface than beside it, or its Dice is this much better than that of surface everywhere."""
LEAST_GAP = 0.04
LATE, LATER = 0.5, 0.7
"""Shares of a run after which one that has learned nothing is no slow beginner any more: the second, where its loss
still comes down."""
LEAST_EPOCHS = 4
Audit = Sequence[Mapping[str, str]]
"""Findings: `code`, `severity`, `title`, `evidence`."""


@dataclass(frozen=True)
class Picture:
    """A training as its diagnosis sees it; NaN stands for what is not known."""

    memory: Memory
    audit: Audit = ()
    facts: Mapping[str, TermFacts] = field(default_factory=dict)
    """What terms of the loss are worth, by their names; of histories of other programs."""

    def sign(self, code: str, name: str, where: str = "") -> Sign | None:
        """A sign that stands, or has happened for good; any place where none is named."""
        for known in (self.memory.standing, self.memory.lasting):
            for (its_code, its_name, its_where), sign in known.items():
                if (its_code, its_name) == (code, name) and where in ("", its_where):
                    return sign
        return None

    def finding(self, code: str, *words: str) -> str | None:
        """Title and evidence of a finding of the audit that is no note and names one of the words, if any are given."""
        for one in self.audit:
            text = f"{one.get('title', '')}: {one.get('evidence', '')}"
            grave = one.get("code") == code and one.get("severity") != "note"
            if grave and (not words or any(word in text.lower() for word in words)):
                return text
        return None

    @property
    def done(self) -> float:
        """Share of the planned run."""
        return self.memory.share_done or math.nan

    @cached_property
    def r(self) -> float:
        """Progress of the training loss in the last three epochs."""
        return median(self.memory.train_progress[-3:])

    @cached_property
    def r_first(self) -> float:
        """Progress of the training loss in the first epoch."""
        return next(iter(finite(self.memory.train_progress)), math.nan)

    @cached_property
    def r_most(self) -> float:
        """The worst of it after the first two epochs."""
        return max(finite(self.memory.train_progress[2:]), default=math.nan)

    @cached_property
    def r_best(self) -> float:
        """The best that the training loss has come to, as the median of three epochs."""
        values = self.memory.train_progress
        return min((median(values[index : index + 3]) for index in range(max(0, len(values) - 2))), default=math.nan)

    @cached_property
    def r_held_out(self) -> float:
        """Progress of the validation loss in the last three validations."""
        return median(self.memory.validation_progress[-3:])

    @cached_property
    def r_slope(self) -> tuple[float, float, float]:
        """Slope of the training loss's r an epoch over the last third of the run, with its interval."""
        values = self.memory.train_progress
        return slope(values[-max(4, len(values) // 3) :])

    @cached_property
    def metric(self) -> float:
        """The selection metric in the last three validations."""
        return median(self.memory.metrics[-3:])

    @cached_property
    def metric_best(self) -> float:
        """Its best."""
        return max(finite(self.memory.metrics), default=math.nan)

    @cached_property
    def metric_slope(self) -> tuple[float, float, float]:
        """Its slope a validation over the last third."""
        values = self.memory.metrics
        return slope(values[-max(4, len(values) // 3) :])

    @cached_property
    def late_probes(self) -> tuple[ProbeSeen, ...]:
        """The last three."""
        return self.memory.probes[-3:]

    @cached_property
    def updates(self) -> list[float]:
        """Of each probe: the median over the weights of a step's change relative to the weights."""
        return update_sizes(self.memory.probes)

    @cached_property
    def first_update(self) -> float:
        """At the first probe."""
        return self.updates[0] if self.updates else math.nan

    @cached_property
    def update(self) -> float:
        """Over all probes."""
        return median(self.updates)

    @cached_property
    def aligned(self) -> float:
        """Cosine of successive gradients."""
        return alignment(self.memory.probes)

    @cached_property
    def gap(self) -> float:
        """Mean probability on surface less that beside it, on training patches."""
        return median([one.probability["gap"] for one in self.late_probes if "gap" in one.probability])

    @cached_property
    def moved(self) -> float:
        """How much the probabilities change when the image's voxels are shuffled."""
        return median([one.moved for one in self.late_probes if one.moved is not None])

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """Names of the objective's terms, as it runs or as it is configured."""
        return tuple(self.memory.epochs[-1].weighted if self.memory.epochs else ()) or tuple(
            self.memory.setting.weights
        )

    @cached_property
    def true_share(self) -> float:
        """Share of surface in the labels, as trainings and validations saw them."""
        rows = [one.true_share for one in self.memory.epochs] + [one.true_share for one in self.memory.validations]
        return median([share for share in rows if share is not None])

    @cached_property
    def rate_is_nothing(self) -> bool:
        """Whether the learning rate is all but nothing, long before the end."""
        base, rates = self.memory.setting.base_rate or 0.0, [one.rate for one in self.memory.epochs]
        return bool(rates) and rates[-1] is not None and rates[-1] < 1e-3 * base and not self.done > 0.8

    @cached_property
    def constant_dice(self) -> float:
        """Dice of surface everywhere on the held-out volumes, 2 pi / (1 + pi)."""
        share = median([one.true_share for one in self.memory.validations if one.true_share is not None])
        return 0.3 if math.isnan(share) else 2 * share / (1 + share)

    @cached_property
    def largest_gradient(self) -> float:
        """Of the late probes: the sum of the weights' gradient norms; infinite where there is no probe."""
        return max((sum(weights_of(one.gradient).values()) for one in self.late_probes), default=math.inf)

    @cached_property
    def learned(self) -> bool:
        """Whether it has learned anything at any time."""
        gap = max((one.probability.get("gap", 0.0) for one in self.memory.probes), default=0.0)
        good = self.memory.metric_name == "dice" and self.metric_best > self.constant_dice + LEARNED_DICE
        came_down = self.r_first - self.r_best > LEARNED_FALL
        by_loss = self.r_best < LEARNED_PROGRESS or came_down
        seen = not self.memory.probes or gap > LEAST_GAP  # a loss may come down without telling surface from the rest
        return bool((by_loss and seen) or gap > LEARNED_GAP or good)

    @property
    def hopeless(self) -> bool:
        """Whether a run that has learned nothing so far will not: it is late, and later where its loss still falls."""
        if math.isnan(self.r_best) and not self.memory.probes and self.memory.metric_name != "dice":
            return False  # nothing here says what has been learned
        falls = self.r_slope[2] < 0
        return self.late and (not falls or math.isnan(self.done) or self.done >= LATER)

    @property
    def late(self) -> bool:
        """Whether enough of the run is done to expect something of it."""
        epochs = len(self.memory.epochs)
        return epochs >= LEAST_EPOCHS and (self.done >= LATE if not math.isnan(self.done) else epochs >= 10)

    @cached_property
    def share_ratio(self) -> float:
        """Predicted over true share of surface, in the last three validations."""
        ratios = [one.predicted_share / one.true_share for one in self.memory.validations[-3:]
                  if one.predicted_share is not None and one.true_share]  # fmt: skip
        return median(ratios)
