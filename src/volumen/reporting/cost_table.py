"""What `volumen audit cost` prints: where a step's time goes, what the run takes, and what another batch changes."""

from rich.console import Console

from volumen.doctor.cost.whole_run import BatchCost, Cost
from volumen.reporting.console import plain_table
from volumen.reporting.words import duration, words
from volumen.system.output import counted


def print_cost(cost: Cost, console: Console) -> None:
    """Print the step's parts, the run's time and memory, and the table before and after."""
    _print_step(cost, console)
    before, validation = cost.before, cost.validation
    lines = [
        f"an epoch: {counted(before.steps_per_epoch, 'step')} of {before.step_seconds:.2f} s with the loader "
        "beside them, "
        f"{duration(before.epoch_seconds)} with its share of the validations",
        f"a validation, estimated: {duration(validation.seconds)}: {counted(validation.tiles, 'tile')} of "
        f"{validation.tile_seconds:.2f} s and {validation.scoring_seconds:.1f} s of scoring; {cost.validations} in all",
        f"all {counted(cost.epochs, 'epoch')}: {duration(before.total_seconds)}",
        f"memory of a step: {_memory(before)} of {cost.available_bytes / 1e9:.1f} GB available",
        largest_text(cost),
    ]
    for line in lines:
        console.print(f" {line}", soft_wrap=True)
    if cost.after is not None:
        _print_change(cost, cost.after, console)


def largest_text(cost: Cost) -> str:
    """The largest batch, and how well that is known, in words."""
    largest = cost.largest
    if largest is None:
        return "largest batch: unknown, since no two small batches fitted and ended in time"
    how = "a real step of it fitted" if largest.verified else "predicted from two batches and not tried to its end"
    why = ", as many as an epoch has patches; memory would hold more" if largest.capped else ""
    line = f"{largest.fixed_bytes / 1e9:.2f} GB + {largest.per_patch_bytes / 1e9:.3f} GB a patch"
    return f"largest batch: {largest.batch} ({how}{why}); memory: {line}"


def _print_step(cost: Cost, console: Console) -> None:
    profile = cost.profile
    table = plain_table(f"A step of batch {profile.batch}", ("part", "seconds", "share"))
    for name, part in profile.parts.items():
        shown = f"loss: {words(name)}" if name in profile.terms else name
        table.add_row(shown, f"{part.seconds:.4f}", f"{part.seconds / profile.step_seconds:.1%}")
    table.add_row("all", f"{profile.step_seconds:.4f}", "100.0%", style="bold")
    table.add_row(f"loader ({counted(profile.workers, 'worker')} beside it)", f"{profile.loader_seconds:.4f}", "")
    console.print(table)
    if profile.scale != 1:
        size = " x ".join(map(str, profile.measured))
        console.print(f" measured on {size} voxels and multiplied by {profile.scale:.1f}")


def _print_change(cost: Cost, after: BatchCost, console: Console) -> None:
    headings = ("", "batch", "steps/epoch", "step s", "epoch", "all epochs", "memory", "of available", "learning rate")
    table = plain_table(f"Batch {cost.before.batch} and batch {after.batch}", headings)
    for name, plan in (("before", cost.before), ("after", after)):
        share = "" if plan.memory_share is None else f"{plan.memory_share:.1%}"
        times = (f"{plan.step_seconds:.2f}", duration(plan.epoch_seconds), duration(plan.total_seconds))
        table.add_row(
            name, str(plan.batch), str(plan.steps_per_epoch), *times, _memory(plan), share, f"{plan.learning_rate:.3g}"
        )
    console.print(table)
    console.print(f" learning rate scaled by the rule: {cost.rate_rule}; a starting point, to be tried")


def _memory(plan: BatchCost) -> str:
    if plan.peak_bytes is not None:
        return f"{plan.peak_bytes / 1e9:.2f} GB"
    return "does not fit" if plan.fits is False else "unknown (the trial took too long)"
