"""A time budget, as the audit knows it before the run: how many steps it has room for, and what they leave out."""

from collections.abc import Iterator
from dataclasses import replace

from volumen.config.schema import Config
from volumen.doctor.context import Budget, Context
from volumen.doctor.cost.bench import affordable, least_of, network_job, voxels
from volumen.doctor.findings import Finding, Severity
from volumen.training.budget import affordable_steps, guessed_validation

LEAST_STEPS = 30
"""Fewer give no model: the rate has hardly risen before it has to come down."""
AUDIT_SHARE = 0.25
"""Of a time budget, what the audit before the run may take besides."""
PILOT_SHARE = 0.01  # of a time budget, for the step that is timed


def within_budget(context: Context, seconds: float) -> Context:
    """The run as its time budget leaves it: with as many epochs as there is time for, by a step that is timed."""
    config, per_epoch = context.config, context.config.data.sampling.patches_per_epoch // context.config.data.batch
    measured, bench = affordable(context, config, PILOT_SHARE * seconds, timed_batches=3)
    scale = voxels(config) / voxels(measured)
    working = least_of({"network": network_job(bench)}, bench.device)["network"].seconds * scale
    loading = bench.loader_seconds * scale
    step = working + loading if config.data.workers == 0 else max(working, loading / config.data.workers)
    shapes = [context.dataset.case(name).shape for name in context.validation]
    validation = guessed_validation(config, shapes, working)
    steps = affordable_steps(
        0,
        configured=_steps(config),
        seconds_left=seconds,
        step_seconds=step,
        validation_seconds=validation,
        steps_per_validation=per_epoch * config.training.validate_every_epochs,
    )
    training = config.training.model_copy(update={"epochs": max(1, -(-steps // per_epoch))})
    budget = Budget(seconds, step, validation, steps, config)
    return replace(context, config=config.model_copy(update={"training": training}), budget=budget)


def _steps(config: Config) -> int:
    return config.training.epochs * (config.data.sampling.patches_per_epoch // config.data.batch)


def check_budget(context: Context) -> Iterator[Finding]:
    """Whether a time budget has room for enough steps."""
    budget, least = context.budget, LEAST_STEPS
    if budget is None or budget.steps >= min(least, _steps(budget.configured)):  # a short run is nobody's mistake
        return
    enough = budget.validation_seconds + least * budget.step_seconds
    yield Finding(
        code="P11",
        severity=Severity.stop,
        title=f"a time budget of {budget.seconds:.0f} s has room for {budget.steps} steps: they give no model",
        evidence=(
            f"a step takes about {budget.step_seconds:.2g} s here and now, the validation at the end about "
            f"{budget.validation_seconds:.2g} s; {least} steps are the least"
        ),
        causes=("patch, batch and network are large for this machine", "other programs use it"),
        remedies=(
            f"--time-budget {1.25 * enough:.0f}s or more",
            "a smaller data.patch, data.batch or model",
            "training.validation: {kind: crops}, which takes less of it",
        ),
        where="--time-budget",
    )
