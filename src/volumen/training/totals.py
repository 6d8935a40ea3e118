"""Running sums of an epoch's steps, so that its record is the same whether or not the epoch was interrupted."""

from dataclasses import dataclass, field
from typing import Any

from volumen.metrics import ratio
from volumen.training.step import StepResult


@dataclass
class EpochTotals:
    """Sums over the steps of the current epoch; plain numbers, saved with the checkpoint."""

    steps: int = 0
    total: float = 0.0
    raw: dict[str, float] = field(default_factory=dict)
    weighted: dict[str, float] = field(default_factory=dict)
    gradient_norm: float = 0.0
    gradient_norm_maximum: float = 0.0
    clipped: int = 0
    predicted: int = 0
    true: int = 0
    valid: int = 0
    patches: int = 0
    centred: int = 0
    seconds: float = 0.0
    loader_seconds: float = 0.0
    step_totals: list[float] = field(default_factory=list)
    step_gradient_norms: list[float] = field(default_factory=list)

    def add_batch(self, *, patches: int, centred: int, seconds: float, loader_seconds: float) -> None:
        """Take in a step's patches (how many were surface-centred) and times, which are known at once."""
        self.patches += patches
        self.centred += centred
        self.seconds += seconds
        self.loader_seconds += loader_seconds

    def add(self, result: StepResult) -> None:
        """Take in a step's result."""
        self.steps += 1
        self.total += result.total
        for name, value in result.raw.items():
            self.raw[name] = self.raw.get(name, 0.0) + value
        for name, value in result.weighted.items():
            self.weighted[name] = self.weighted.get(name, 0.0) + value
        self.gradient_norm += result.gradient_norm
        self.gradient_norm_maximum = max(self.gradient_norm_maximum, result.gradient_norm)
        self.clipped += result.clipped
        self.predicted += result.predicted
        self.true += result.true
        self.valid += result.valid
        self.step_totals.append(result.total)
        self.step_gradient_norms.append(result.gradient_norm)

    def by_step(self) -> dict[str, Any]:
        """The epoch's steps one by one, to six digits."""
        return {
            "totals": [float(f"{value:.6g}") for value in self.step_totals],
            "gradient_norms": [float(f"{value:.6g}") for value in self.step_gradient_norms],
        }

    def record(self) -> dict[str, Any]:
        """The epoch's means, as they stand in `metrics.jsonl`."""
        steps, patches = max(self.steps, 1), max(self.patches, 1)
        return {
            "total": self.total / steps,
            "terms": {name: value / steps for name, value in self.raw.items()},
            "weighted": {name: value / steps for name, value in self.weighted.items()},
            "gradient_norm": self.gradient_norm / steps,
            "gradient_norm_maximum": self.gradient_norm_maximum,
            "clipped_share": self.clipped / steps,
            "predicted_share": ratio(self.predicted, self.valid),
            "true_share": ratio(self.true, self.valid),
            "surface_centred_share": self.centred / patches,
            "seconds": self.seconds,
            "loader_seconds": self.loader_seconds,
        }
