"""The scale on which a loss can be read: progress r = (loss - floor) / (baseline - floor).

1 is the best constant predictor, 0 the best attainable on these labels, whatever the terms and weights. Floor and
baseline are measured before the run (`volumen.doctor.progress_scale`) and stored in its folder.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from volumen.files import write_atomically

FILE = "progress_scale.json"
TOTAL = "total"
TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True)
class Scale:
    """Of one quantity."""

    floor: float
    """Least value over free logits."""
    baseline: float
    """Least value over constant predictions."""

    def progress(self, loss: float) -> float:
        """A value on the scale on which 1 is the best constant and 0 the best attainable."""
        return (loss - self.floor) / max(self.baseline - self.floor, 1e-12)


@dataclass(frozen=True)
class ProgressScales:
    """By phase of the objective, kind of labels (`train`: patches as drawn, `validation`) and term or `total`."""

    scales: Mapping[str, Mapping[str, Mapping[str, Scale]]]

    def read(self, phase: str, kind: str, total: float, terms: Mapping[str, float]) -> dict[str, float]:
        """The progress of a total and of its terms; empty where it was not measured."""
        known = self.scales.get(phase, {}).get(kind, {})
        values = {TOTAL: total, **terms}
        return {name: known[name].progress(value) for name, value in values.items() if name in known}

    def save(self, folder: Path) -> None:
        """Write the scales into a run folder."""
        plain = {
            phase: {kind: {name: asdict(scale) for name, scale in each.items()} for kind, each in kinds.items()}
            for phase, kinds in self.scales.items()
        }
        write_atomically(folder / FILE, json.dumps(plain, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "ProgressScales":
        """The scales of a run folder; none where it has none."""
        path = folder / FILE
        plain = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return ProgressScales(
            {
                phase: {kind: {name: Scale(**one) for name, one in each.items()} for kind, each in kinds.items()}
                for phase, kinds in plain.items()
            }
        )


NO_SCALES = ProgressScales({})
