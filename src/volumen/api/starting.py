"""A training from its order to its outcome: settings, audit, run. The command and the function both end here."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from volumen.config.compare import descent_of
from volumen.config.load import LoadedConfig
from volumen.config.schema import Config
from volumen.doctor.audit import AuditReport
from volumen.doctor.preflight import audit_first
from volumen.runs.folder import WORK, Audited, RunFolder
from volumen.system.locks import refuse_held
from volumen.system.output import Progress, unheard
from volumen.system.places import writable_folder
from volumen.training.distributed import ALONE, World
from volumen.training.initial import Materials
from volumen.training.listener import Listener, Outcome
from volumen.training.loop import run_training
from volumen.training.sharing import refuse_unshared


@dataclass(frozen=True)
class Order:
    """A training that somebody asks for."""

    loaded: LoadedConfig[Config]
    folder: Path
    """Of the run: new, or with `resume` one that was stopped."""
    resume: bool = False
    budget_seconds: float | None = None
    accepted: Sequence[str] = ()
    """Codes of the audit's findings that would stop it."""
    meant: Sequence[str] = ()
    """Keys that were set by name."""


def start_training(
    order: Order,
    listening: AbstractContextManager[Listener],
    *,
    world: World = ALONE,
    auditing: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(unheard),
    report: Callable[[AuditReport], None] = unheard,
) -> Outcome:
    """Audit a new run and train it, or go on with one.

    Args:
        order: What is asked for; a `data.batch: auto` has its number already.
        listening: Opened after the audit.
        world: The processes that train together.
        auditing: What is told of the audit's progress.
        report: Told what the audit found, before anything is refused.

    Raises:
        UserError: As `audit_first` and `run_training`.
        NonFiniteError: A loss or gradient is NaN or infinite; the last checkpoint stands.
    """
    loaded, settings = order.loaded, order.loaded.config
    refuse_unshared(settings, world)
    materials = Materials(settings)

    def audited() -> Audited:
        _claim(order.folder)
        with auditing() as progress:
            return audit_first(
                loaded,
                order.accepted,
                budget_seconds=order.budget_seconds,
                materials=materials,
                progress=progress,
                report=report,
            )

    before = None if order.resume else world.from_first(audited)
    with listening as listener:
        return run_training(
            settings,
            order.folder,
            listener,
            resume=order.resume,
            time_budget_seconds=order.budget_seconds,
            audited=before,
            meant=order.meant,
            descent=None if order.resume else descent_of(loaded),
            materials=materials,
            may_validate_rarely=not loaded.is_meant("training.validate_every_epochs"),
            world=world,
        )


def _claim(folder: Path) -> None:
    """Nobody waits for an audit of a run that has no place to go."""
    refuse_held(folder, WORK)
    RunFolder.claim(folder)
    is_new = not folder.exists()
    writable_folder(folder)
    if is_new:
        folder.rmdir()
