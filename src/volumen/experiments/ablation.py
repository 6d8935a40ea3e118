"""Try remedies as short matched runs, a control among them, and say what lies beyond the noise.

The same seed gives control and remedies the same first weights and the same patches; all do the same number of steps,
and the weights after the last one are scored on whole held-out volumes by one protocol. Differences are paired by seed.
What is said of them is in `ablation_report`.
"""

from pathlib import Path
from typing import Any

from volumen import __version__
from volumen.config.dump import dump_yaml
from volumen.config.remedies import Remedy, load_remedies
from volumen.config.schema import Config
from volumen.errors import UserError
from volumen.experiments.ablation_plan import (
    AblationPlan,
    candidates_of,
    layout_of,
    reacts_to_validations,
    steps_per_epoch,
)
from volumen.experiments.ablation_report import AblationReport, compare
from volumen.experiments.ablation_runs import run_jobs
from volumen.experiments.plan_remedies import plan_remedies
from volumen.files import write_atomically
from volumen.system.locks import hold
from volumen.system.output import Progress, Warn, counted, unheard
from volumen.system.places import writable_folder
from volumen.system.records import write_record
from volumen.training.initial import Materials

RESULT, REMEDIES = "ablation.json", "remedies.yaml"
MOST_SEEDS, MOST_STEPS = 100, 10_000_000


def plan_ablation(
    config: Config,
    *,
    remedies: Path | None,
    steps: int,
    seeds: int,
    source: Path | None = None,
) -> AblationPlan:
    """Which runs an ablation needs; nothing is trained or written.

    Args:
        config: The control.
        remedies: A file of remedies; None takes the case study's list.
        steps: Of each run.
        seeds: How many; the configuration's own is the first.
        source: A run folder whose weights every run begins with.

    Raises:
        UserError: Steps or seeds out of range, a wrong file, no data set or fold, or weights that do not fit.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise UserError(f"--steps must be a number from 1 to {MOST_STEPS}, got {steps}")
    if not 1 <= seeds <= MOST_SEEDS:
        raise UserError(f"--seeds must be a number from 1 to {MOST_SEEDS}, got {seeds}")
    epochs = layout_of(steps, steps_per_epoch(config), reacts=False).epochs
    listed: tuple[Remedy, ...]
    listed, inapplicable = plan_remedies(config, epochs) if remedies is None else (load_remedies(remedies, config), {})
    place = None if source is None else source.resolve()
    model = config.model if place is None else config.model.model_copy(update={"initial_weights": str(place)})
    materials = Materials(config.model_copy(update={"model": model}))
    materials.fold  # noqa: B018 - a wrong data set or fold is told before anything is trained
    initial = materials.initial
    reacts = any(reacts_to_validations(one) for one in (config, *(each.config for each in listed)))
    origin = {
        "dataset": materials.dataset.identity,
        "validation": list(materials.fold.validation),
        "initial": None if initial is None else initial.sha256,
        "volumen": __version__,
    }
    return AblationPlan(
        config,
        candidates_of(config, listed, inapplicable, place),
        layout_of(steps, steps_per_epoch(config), reacts=reacts),
        tuple(config.seed + number for number in range(seeds)),
        origin,
        place,
    )


def run_ablation(
    plan: AblationPlan,
    out: Path,
    *,
    jobs: int = 1,
    keep: bool = False,
    progress: Progress = unheard,
    warn: Warn = unheard,
) -> AblationReport:
    """Do the runs of a plan that are not done yet, compare them, and write `ablation.json` and `remedies.yaml`.

    Args:
        plan: As `plan_ablation` made it.
        out: Folder; what was begun there goes on.
        jobs: Runs at a time, each in a process of its own.
        keep: Keep the checkpoints of scored runs.
        progress: Told what runs, and how many of how many steps are done.
        warn: Told the plan, the forecast, and what is damaged and done again.

    Raises:
        UserError: The folder is in use or cannot be written to, the control cannot be trained, or a process was ended
            from outside; the same command goes on.
        OSError: A full disk; the same command goes on.
    """
    writable_folder(out, "choose another --out, or make it writable")
    with hold(out, "ablate"):
        work = plan.jobs(out)
        tried = [one for one in plan.candidates if not one.left_out]
        warn(
            f"{counted(len(work), 'run')} of {counted(plan.layout.steps, 'step')}: the control and "
            f"{counted(len(tried) - 1, 'remedy')}, {counted(len(plan.seeds), 'seed')} each"
        )
        reference = plan.run_config(plan.candidates[0], plan.seeds[0])
        done, problems = run_jobs(work, reference, out, processes=jobs, keep=keep, progress=progress, warn=warn)
        report = compare(plan, work, done, problems)
        write_atomically(out / REMEDIES, dump_yaml(_written(plan)))
        write_record(out / RESULT, report.record)
    return report


def _written(plan: AblationPlan) -> dict[str, Any]:
    """The remedies as a file that could be read again."""
    listed = {}
    for one in plan.candidates[1:]:
        if one.written:
            listed[one.name] = {**({"why": one.why} if one.why else {}), **one.written}
    return listed
