"""What `volumen plan` prints: when a run gets where, and what another batch size would change."""

import time
from datetime import datetime

from rich.console import Console

from volumen.doctor.forecast import Forecast, Milestone
from volumen.doctor.forecast_batches import BatchPlan, Plan, conclusion
from volumen.doctor.forecast_run import RunPlan
from volumen.doctor.forecast_spans import HIGH, LOW, Span
from volumen.reporting.console import plain_table, print_remarks
from volumen.system.output import counted, duration

FAR_DAYS = 6


def clock(moment: float, now: float) -> str:
    """A moment for people, local time: 14:20, tomorrow 14:20, Tue 14:20, 2026-12-24 14:20."""
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    days = (then.date() - today.date()).days
    if days == 0:
        return f"today {then:%H:%M}"
    if days == 1:
        return f"tomorrow {then:%H:%M}"
    return f"{then:%a %H:%M}" if 1 < days <= FAR_DAYS else f"{then:%Y-%m-%d %H:%M}"


def span_text(span: Span) -> str:
    """What is expected, and its range where there is one: 5 min 20 s (5 min 02 s to 6 min 10 s)."""
    middle, low, high = (duration(seconds) for seconds in (span.middle, span.low, span.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def size_text(count: float) -> str:
    """Bytes for people."""
    if count >= 1e8:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def print_plan(plan: Plan, console: Console, now: float | None = None) -> None:
    """Print the forecast of a run that has not begun, then the table of batch sizes."""
    now = time.time() if now is None else now
    own, configured = plan.own, plan.configured_epochs
    if own.run is None:
        console.print(
            f"batch {own.batch} {own.why_not} into the {size_text(plan.available_bytes)} that are available: the run "
            "would fail; give a smaller data.batch, data.patch or model",
            style="bold red",
            soft_wrap=True,
        )
    else:
        run = own.run
        _print_times(f"{plan.config.name}: {_length(run)}, batch {run.batch}", run, now, console)
        if plan.budget_seconds is not None:
            console.print(
                f" {duration(plan.budget_seconds)} have room for {run.epochs} of {counted(configured, 'epoch')}, "
                f"{counted(run.steps, 'step')}",
                soft_wrap=True,
            )
        measured = f"{counted(run.pace.measured_steps, 'step')} of the training itself, done here and now"
        scaled = "a smaller step, scaled, right within a factor 1.5"
        console.print(
            f" measured: {scaled if own.scaled else measured}; ranges: {LOW} to {HIGH} % of the steps, and a "
            "validation taken to be right within a factor 1.5; counted from the first step, after data are opened and "
            "audited",
            soft_wrap=True,
        )
        console.print(f" memory of a step: {_memory(own)} of {size_text(plan.available_bytes)} available")
        print_remarks(run.notes, (), console)
    if plan.others:
        _print_batches(plan, console)


def print_run_plan(plan: RunPlan, console: Console, now: float | None = None) -> None:
    """Print what is left of a run that has begun."""
    now, run = time.time() if now is None else now, plan.run
    done = f"{run.done} of {counted(run.steps, 'step')} done in {duration(plan.spent_seconds)}, {plan.state}"
    _print_times(f"{_length(run)}, batch {run.batch}: {done}", run, now, console, since=plan.since)
    since = "its last status" if plan.state == "running" else "now, if it is gone on with at once"
    console.print(
        f" measured: the run's own epochs and validations; ranges: {LOW} to {HIGH} % of its last ones; counted from "
        f"{since}",
        soft_wrap=True,
    )
    print_remarks(run.notes, plan.notes, console)


def _length(run: Forecast) -> str:
    return f"{counted(run.epochs, 'epoch')} of {counted(run.steps_per_epoch, 'step')}"


def _print_times(title: str, run: Forecast, now: float, console: Console, since: float | None = None) -> None:
    since, pace = now if since is None else since, run.pace
    table = plain_table(title, ("what", "takes", "range"))
    rows = [
        ("a step", Span(pace.median_seconds, pace.median_seconds, pace.median_seconds)),
        *((f"a step of {name}" if len(pace.steps) > 1 else "a step, mean", span) for name, span in pace.steps.items()),
        ("a validation", pace.validation),
        ("an epoch without validation", run.epoch_seconds),
        ("an epoch with validation", run.validated_epoch_seconds),
    ]
    for what, span in rows:
        name = "a step, median" if what == "a step" else what
        table.add_row(name, duration(span.middle), "" if span.low == span.high else _range(span))
    console.print(table)
    places = plain_table(
        "When" + (", at most" if run.at_most else ""), ("what", "epochs", "steps", "in", "range", "at")
    )
    for one in run.milestones:
        places.add_row(*_place(one, since, now))
    console.print(places)
    disk = run.disk
    if disk is not None:
        console.print(
            f" disk: {size_text(disk.least)} to {size_text(disk.most)}: checkpoints of {size_text(disk.checkpoint)}, "
            f"records {size_text(disk.records)}"
        )


def _range(span: Span) -> str:
    return f"{duration(span.low)} - {duration(span.high)}"


def _place(one: Milestone, since: float, now: float) -> tuple[str, str, str, str, str, str]:
    what = f"{one.what} ({one.note})" if one.note and one.seconds is not None else one.what
    if one.seconds is None or one.step is None:
        return (what, "", "", "never", "", one.note)
    if one.seconds.high == 0:
        return (what, str(one.epoch), str(one.step), "done", "", "")
    where = (what, str(one.epoch), str(one.step), duration(one.seconds.middle), _range(one.seconds))
    return (*where, clock(since + one.seconds.middle, now))


def _memory(one: BatchPlan) -> str:
    if one.peak_bytes is None:
        return "unknown"
    return f"{'about ' if one.memory_predicted else ''}{size_text(one.peak_bytes)}"


def _print_batches(plan: Plan, console: Console) -> None:
    """The table before and after, as rows of batches."""
    headings = (
        "batch",
        "steps/epoch",
        "updates",
        "patches",
        "step",
        "a patch",
        "epoch",
        "all",
        "memory",
        "rate (hint)",
    )
    table = plain_table("Other batch sizes, the same epochs" if plan.budget_seconds is None else
                        "Other batch sizes, the same time", headings)  # fmt: skip
    for one in sorted((plan.own, *plan.others), key=lambda one: one.batch):
        name = f"{one.batch} (now)" if one is plan.own else str(one.batch)
        run, rate = one.run, f"{one.learning_rate:.3g}"
        if run is None:
            table.add_row(name, *[""] * 6, one.why_not, _memory(one), rate)
            continue
        times = (run.mean_step, run.patch_seconds, run.validated_epoch_seconds.middle, run.total.middle)
        counts = (str(run.steps_per_epoch), str(run.steps), str(run.patches))
        table.add_row(name, *counts, *(duration(seconds) for seconds in times), _memory(one), rate)
    console.print(table)
    console.print(f" rate: {plan.rate_rule}: a hint, not a fact; memory: {size_text(plan.available_bytes)} available")
    for one in plan.others:
        if plan.own.run is None or one.run is None:
            continue
        console.print(f"\n{conclusion(plan.own.run, one.run)}", style="bold", soft_wrap=True)
        for line in plan.changes[one.batch]:
            console.print(f"  {line}", soft_wrap=True)
