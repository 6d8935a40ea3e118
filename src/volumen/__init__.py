"""volumen: find papyrus surfaces in CT volumes, and know why a training run is stuck.

    >>> model = volumen.load("runs/default-fold0")
    >>> mask = model.predict(image)
    >>> volumen.leaderboard(mask, label).score

The names below are the public interface (docs/api.md has an example of each); whatever else the rooms hold may change
between two versions. Importing the package imports nothing heavy: a name's module is imported when it is first used.
"""

from importlib import import_module

from volumen._version import __version__

TYPE_CHECKING = False  # as `typing` has it, which takes longer to import than the rest

if TYPE_CHECKING:
    from volumen.api.arrays import Model as Model
    from volumen.api.arrays import load as load
    from volumen.api.arrays import make_mask as make_mask
    from volumen.api.code import CodeReport as CodeReport
    from volumen.api.code import audit_code as audit_code
    from volumen.api.commands import audit as audit
    from volumen.api.commands import evaluate as evaluate
    from volumen.api.commands import folds as folds
    from volumen.api.commands import phantom as phantom
    from volumen.api.commands import prepare as prepare
    from volumen.api.commands import report as report
    from volumen.api.commands import train as train
    from volumen.api.experiments import compare as compare
    from volumen.api.experiments import plan as plan
    from volumen.api.experiments import sweep as sweep
    from volumen.api.experiments import train_folds as train_folds
    from volumen.api.records import Records as Records
    from volumen.api.records import records as records
    from volumen.config.inheritance import preset_names as preset_names
    from volumen.config.load import load_config as load_config
    from volumen.config.schema import Config as Config
    from volumen.data.dataset import PreparedDataset as PreparedDataset
    from volumen.doctor.audit import AuditReport as AuditReport
    from volumen.errors import UserError as UserError
    from volumen.experiments.scoring import Evaluation as Evaluation
    from volumen.metrics.curve import leaderboard_curve as leaderboard_curve
    from volumen.metrics.leaderboard import LeaderboardScore as LeaderboardScore
    from volumen.metrics.leaderboard import leaderboard as leaderboard
    from volumen.metrics.overlap import overlap as overlap
    from volumen.metrics.surface_dice import surface_dice as surface_dice
    from volumen.metrics.topology import topo_score as topo_score
    from volumen.metrics.voi import voi_score as voi_score
    from volumen.training.listener import Outcome as Outcome

_HOMES = {
    "AuditReport": "doctor.audit",
    "CodeReport": "api.code",
    "Config": "config.schema",
    "Evaluation": "experiments.scoring",
    "LeaderboardScore": "metrics.leaderboard",
    "Model": "api.arrays",
    "Outcome": "training.listener",
    "PreparedDataset": "data.dataset",
    "Records": "api.records",
    "UserError": "errors",
    "audit": "api.commands",
    "compare": "api.experiments",
    "audit_code": "api.code",
    "evaluate": "api.commands",
    "folds": "api.commands",
    "leaderboard": "metrics.leaderboard",
    "leaderboard_curve": "metrics.curve",
    "load": "api.arrays",
    "load_config": "config.load",
    "make_mask": "api.arrays",
    "overlap": "metrics.overlap",
    "phantom": "api.commands",
    "plan": "api.experiments",
    "prepare": "api.commands",
    "preset_names": "config.inheritance",
    "records": "api.records",
    "report": "api.commands",
    "surface_dice": "metrics.surface_dice",
    "sweep": "api.experiments",
    "topo_score": "metrics.topology",
    "train": "api.commands",
    "train_folds": "api.experiments",
    "voi_score": "metrics.voi",
}
"""The module of each public name."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
