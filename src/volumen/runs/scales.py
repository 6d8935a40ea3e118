"""The scale on which a loss can be read: progress r = (loss - floor) / (baseline - floor).

1 is the best constant predictor, 0 the best attainable on these labels, whatever the terms and weights. Floor and
baseline are measured before the run (`volumen.doctor.objective.progress_scale`) and stored in its folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from volumen.system.records import read_record, write_record

FILE = "progress_scale.json"
SCALES, TOTAL = "scales", "total"
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

    def save(self, folder: Path, owner: str) -> None:
        """Write the scales into the folder of the run that owns them."""
        write_record(folder / FILE, {SCALES: asdict(self)[SCALES]}, owner=owner)

    @staticmethod
    def load(folder: Path, owner: str) -> "ProgressScales":
        """The scales of a run folder; none where it has none.

        Raises:
            DamagedError: They are not what was written.
        """
        path = folder / FILE
        if not path.is_file():
            return NO_SCALES
        fix = "remove it, the run goes on without the scale of progress"
        scales: ProgressScales = read_record(path, ProgressScales, fix, owner=owner)
        return scales


NO_SCALES = ProgressScales({})
