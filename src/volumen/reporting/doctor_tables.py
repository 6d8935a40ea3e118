"""What `volumen audit` prints: findings, and the measurements of each of its subjects."""

import math
from collections.abc import Sequence

from rich.console import Console

from volumen.config.describe import value_text
from volumen.doctor.audit import AuditReport
from volumen.doctor.cost.whole_run import BatchCost, Cost
from volumen.doctor.data.places import Place
from volumen.doctor.findings import Severity
from volumen.doctor.learning_rate import RateRange
from volumen.doctor.objective.autopsy import Autopsy, Range
from volumen.doctor.objective.operating_point import OperatingPoint
from volumen.doctor.protocol import ProtocolNoise
from volumen.doctor.settings.check import Effect, Setting
from volumen.reporting.console import plain_table, print_legend
from volumen.reporting.words import PROGRESS, words
from volumen.system.output import counted, duration

SEVERITIES = {Severity.stop: "bold red", Severity.warn: "yellow", Severity.note: "dim"}
EFFECTS = {Effect.ignored: "bold red", Effect.inert: "yellow", Effect.dead: "yellow"}
EFFECT_WORDS = {
    Effect.live: "acts",
    Effect.dead: "never acts",
    Effect.inert: "changes nothing",
    Effect.ignored: "IGNORED",
    Effect.excluded: "for people",
}
RANGE_BAR, RATE_BAR = 28, 40  # characters
MOST_RATES = 24  # rows
LONGEST_VALUE = 20  # characters
CURVE_POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def print_findings(report: AuditReport, console: Console) -> None:
    """Print every finding with evidence, causes and remedies, the gravest first, and a verdict."""
    for finding in report.findings:
        title = f"{finding.code} {finding.severity}: {finding.title}"
        console.print(title, style=SEVERITIES[finding.severity])
        lines = [("evidence", finding.evidence), ("where", finding.where)]
        lines += [("cause", cause) for cause in finding.causes] + [("remedy", remedy) for remedy in finding.remedies]
        for name, text in lines:
            console.print(f"  {name:9}{text}", soft_wrap=True)
        console.print()
    counts = [f"{len(found)} {severity}" for severity in Severity if (found := report.of(severity))]
    checked = ", ".join(report.seconds) or "nothing"
    took = sum(report.seconds.values())
    verdict = ", ".join(counts) if counts else "nothing found"
    console.print(f"{verdict} (checked {checked} in {took:.1f} s; docs/audit.md explains the codes)")


def print_places(places: Sequence[Place], console: Console) -> None:
    """Print suspect places, the most suspect first."""
    if not places:
        console.print("No place of the labels is suspect.")
        return
    headings = ("case", "centre z y x", "box", "voxels", "score", "suspected")
    table = plain_table("Places where label and image disagree", headings)
    for one in places:
        box = " ".join(f"{first}:{end}" for first, end in one.box)
        centre = " ".join(map(str, one.centre))
        table.add_row(one.case, centre, box, str(one.voxels), f"{one.score:.0f}", str(one.suspicion))
    console.print(table)


def print_autopsy(phase: str, found: Autopsy, point: OperatingPoint | None, console: Console) -> None:
    """Print the ranges of terms and sum with a bar each, the sum's optimum, and its operating point."""
    title = f"Objective of phase {phase!r} on {counted(found.patches, 'label patch')} of {list(found.patch)}"
    headings = ("term", "weight", "floor", "perfect", "constant", "at p", "background", "surface", "prior", "shuffled")
    table = plain_table(title, headings)
    rows = (*found.terms, found.total)
    for one in rows:
        values = (one.floor, one.perfect, one.baseline, one.baseline_probability)
        extremes = (one.all_background, one.all_surface, one.prior, one.shuffled)
        numbers = [f"{value:.3f}" for value in (*values, *extremes)]
        table.add_row(one.name, f"{one.weight:g}", *numbers, style="bold" if one is found.total else None)
    console.print(table)
    for one in rows:
        console.print(f" {one.name:16}{_range_bar(one)}")
    console.print(
        " F floor, P perfect prediction, C best constant; from 0 to the largest of them and of the prior's constant\n"
    )
    best = found.optimum
    console.print(
        f"The sum's own optimum: Dice {best.dice:.3f}, surface {best.predicted_share:.1%} "
        f"(labels {best.true_share:.1%}), leaderboard {best.leaderboard:.3f}"
    )
    if point is None:
        console.print("No term has an operating point: all of them depend on neighbouring voxels.")
        return
    console.print(operating_point_text(point), soft_wrap=True)
    curve = plain_table("Optimal prediction p* by true probability q", ("q", *(f"{q:g}" for q in CURVE_POINTS)))
    answers = [point.answer[round(q * (len(point.answer) - 1))] for q in CURVE_POINTS]
    curve.add_row("p*", *(f"{answer:.2f}" for answer in answers))
    console.print(curve)


def operating_point_text(point: OperatingPoint) -> str:
    """From which probability on the optimum predicts surface, and how much surface that is."""
    left_out = f"; without {', '.join(point.left_out)} (depends on neighbouring voxels)" if point.left_out else ""
    return (
        f"The optimum predicts surface where its true probability is at least {point.crossing():.2f}: "
        f"{point.asked_share():.1%} of the voxels, where the labels hold {point.population.surface_share:.1%}{left_out}"
    )


def print_noise(noise: ProtocolNoise, console: Console) -> None:
    """Print the noise of every quantity and what follows from it."""
    title = (
        f"One validation sees {noise.seen_share:.1%} of {counted(noise.held_out, 'held-out volume')} "
        f"({noise.looked_at} looked at)"
    )
    table = plain_table(title, ("quantity", "reference", "one validation", "volumes", "two epochs", "two runs"))
    for one in noise.quantities:
        values = (one.value, one.protocol, one.volumes, one.between_epochs, one.between_runs)
        numbers = ["unknown from one volume" if math.isnan(value) else f"{value:.4f}" for value in values]
        table.add_row(one.quantity.replace("_", " "), *numbers)
    console.print(table)
    for line in (
        "one validation: scatter at fixed weights; volumes: standard error over the held-out volumes",
        "two epochs: smallest difference between two validations of one run that is more than noise",
        "two runs: smallest difference between two runs on the same volumes that also holds for other volumes",
        "measured on a reference prediction, the image's sheetness; differences are two standard deviations\n",
    ):
        console.print(f" {line}")


def print_liveness(settings: Sequence[Setting], defaults: int, console: Console) -> None:
    """Print a row for each setting, and how many values stand at their defaults."""
    table = plain_table("Settings of the configuration", ("key", "value", "what", "set in"))
    for one in settings:
        text = value_text(one.value)
        reason = f": {one.reason}" if one.reason and one.verdict != Effect.excluded else ""
        reason += "; the default, written out" if one.is_default and one.verdict == Effect.inert else ""
        value = text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."
        table.add_row(one.key, value, EFFECT_WORDS[one.verdict] + reason, one.origin, style=EFFECTS.get(one.verdict))
    console.print(table)
    counts = {verdict: sum(one.verdict == verdict for one in settings) for verdict in Effect}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(f"{told}; {defaults} values stand at their defaults", soft_wrap=True)


def print_rates(found: RateRange, console: Console) -> None:
    """The curve as bars of progress, and where the run's learning rate lies on it."""
    table = plain_table("Progress after a step at each learning rate", ("learning rate", "r", "curve"))
    every = max(1, len(found.progress) // MOST_RATES)
    shown = list(zip(found.rates, found.progress, strict=False))[every - 1 :: every]
    marked = min((rate for rate, _ in shown), key=lambda rate: abs(rate / found.configured - 1), default=None)
    for rate, progress in shown:
        bar = "#" * round(RATE_BAR * min(max(progress, 0.0), 1.5) / 1.5)
        table.add_row(f"{rate:.1e}", f"{progress:.2f}", bar + ("  <- the run's highest rate" if rate == marked else ""))
    console.print(table)
    print_legend(PROGRESS, console)
    low, high, diverging = found.interval.lower, found.interval.upper, found.interval.diverging
    useful = "no learning rate lowered the loss" if low is None else f"useful {low:.2g} to {high:.2g}"
    beyond = "not reached" if diverging is None else f"{diverging:.2g}"
    console.print(
        f"{useful}; divergence {beyond}; highest learning rate of the run {found.configured:.3g}; {found.seconds:.0f} s"
        + ("" if found.complete else "; ended by the time limit")
    )


def print_cost(cost: Cost, console: Console) -> None:
    """Print the step's parts, the run's time and memory, and the table before and after."""
    _print_step(cost, console)
    before, validation = cost.before, cost.validation
    lines = [
        f"an epoch: {counted(before.steps_per_epoch, 'step')} of {before.step_seconds:.2f} s with the loader in "
        f"parallel, {duration(before.epoch_seconds)} with its share of the validations",
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
    how = "a real step of it fitted" if largest.verified else "predicted from two batches, not verified"
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
    table.add_row(f"loader ({counted(profile.workers, 'worker')} in parallel)", f"{profile.loader_seconds:.4f}", "")
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
        size = (str(plan.batch), str(plan.steps_per_epoch))
        table.add_row(name, *size, *times, _memory(plan), share, f"{plan.learning_rate:.3g}")
    console.print(table)
    console.print(f" learning rate scaled by the rule: {cost.rate_rule}; a starting point, to be tried")


def _memory(plan: BatchCost) -> str:
    if plan.peak_bytes is not None:
        return f"{plan.peak_bytes / 1e9:.2f} GB"
    return "does not fit" if plan.fits is False else "unknown (the trial took too long)"


def _range_bar(one: Range) -> str:
    """Floor, perfect and constant on a line from 0 to the largest of them and the constant at the prior."""
    top = max(one.floor, one.perfect, one.baseline, one.prior, 1e-9)
    line = ["·"] * (RANGE_BAR + 1)
    for mark, value in (("C", one.baseline), ("P", one.perfect), ("F", one.floor)):
        line[round(RANGE_BAR * value / top)] = mark
    return f"0 {''.join(line)} {top:.3f}"
