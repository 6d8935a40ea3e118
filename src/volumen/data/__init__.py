"""The data room: from files on disk to training samples.

`volumes` reads and verifies, `prepare` packs, `dataset` opens what was packed, `folds` divides it, `sampling` and
`augment` make patches, `loader` batches them. `phantom` invents scrolls for tests and demonstrations.

Names are imported on first use: the label codes and the statistics must not cost an import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from volumen.data.dataset import Case as Case
    from volumen.data.dataset import PreparedDataset as PreparedDataset
    from volumen.data.labels import BACKGROUND as BACKGROUND
    from volumen.data.labels import IGNORE as IGNORE
    from volumen.data.labels import SURFACE as SURFACE
    from volumen.data.labels import LabelMeanings as LabelMeanings
    from volumen.data.loader import PatchLoader as PatchLoader
    from volumen.data.loader import epoch_loader as epoch_loader
    from volumen.data.normalise import IntensityStatistics as IntensityStatistics
    from volumen.data.normalise import statistics_of as statistics_of
    from volumen.data.randomness import generator as generator
    from volumen.data.sampling import PatchDataset as PatchDataset

_HOMES = {
    "BACKGROUND": "labels",
    "IGNORE": "labels",
    "SURFACE": "labels",
    "Case": "dataset",
    "IntensityStatistics": "normalise",
    "LabelMeanings": "labels",
    "PatchDataset": "sampling",
    "PatchLoader": "loader",
    "PreparedDataset": "dataset",
    "epoch_loader": "loader",
    "generator": "randomness",
    "statistics_of": "normalise",
}

__all__ = [
    "BACKGROUND",
    "IGNORE",
    "SURFACE",
    "Case",
    "IntensityStatistics",
    "LabelMeanings",
    "PatchDataset",
    "PatchLoader",
    "PreparedDataset",
    "epoch_loader",
    "generator",
    "statistics_of",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
