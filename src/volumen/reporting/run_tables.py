"""What is made of runs, for people: predicted masks, bundles, the choice of weights, a tuned post-processing."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from volumen.data.spacing import not_cubes
from volumen.experiments.ensembling import Weighed
from volumen.experiments.selection import Choice
from volumen.experiments.tuned_runs import TuningReport
from volumen.experiments.tuning import OWN, THRESHOLD, TUNED
from volumen.inference.bundle import Bundle
from volumen.inference.degenerate import degenerate_warnings, emptiness_notes
from volumen.inference.prediction_record import FilePrediction
from volumen.inference.views import views
from volumen.metrics.comparison import NOISE_ERRORS, unproven
from volumen.models import build_model
from volumen.postprocess import describe
from volumen.reporting.console import plain_table, print_remarks
from volumen.reporting.words import number
from volumen.system.output import counted, plural

METHODS = {OWN: "the run's own", "raw": "threshold 0.5", THRESHOLD: "best threshold", TUNED: "tuned pipeline"}


def print_predictions(predictions: Sequence[FilePrediction], console: Console) -> None:
    """Print what `volumen predict` wrote."""
    table = plain_table("Masks", ("image", "shape z y x", "surface %", "probabilities"))
    for one in predictions:
        look = one.appearance
        spread = f"{look.probability_minimum:.3f} to {look.probability_maximum:.3f}"
        table.add_row(one.name, " x ".join(map(str, one.shape)), f"{100 * look.surface_share:.2f}", spread)
    console.print(table)
    padded = [one.name for one in predictions if one.padded_to is not None]
    looks = [one.appearance for one in predictions]
    notes = [f"Smaller than the tile and padded with the nearest voxels: {', '.join(padded)}."] if padded else []
    notes += [*emptiness_notes(looks), *not_cubes({one.name: one.spacing for one in predictions})]
    print_remarks(degenerate_warnings(looks), notes, console)


def print_bundle(bundle: Bundle, path: Path, console: Console) -> None:
    """Print members, shares and sizes, and how the bundle predicts."""
    table = plain_table("Bundle", ("network", "what", "parameters", "share"))
    total = sum(member.share for member in bundle.members)
    for member in bundle.members:
        parameters = sum(parameter.numel() for parameter in build_model(member.config.model).parameters())
        table.add_row(member.name, member.config.model.kind, f"{parameters:,}", f"{100 * member.share / total:.1f} %")
    console.print(table)
    several = f", mean of {plural(bundle.mean)}" if len(bundle.members) > 1 else ""
    inference = bundle.config.inference
    labels = bundle.labels.get("labels")
    seen = views(mirror=inference.mirror, rotate=inference.rotate)
    lines = {
        "networks": f"{len(bundle.members)}{several}",
        "tiles": f"{list(bundle.config.tile)}, overlap {inference.overlap:g}, views of each {len(seen)}",
        "post-processing": describe(bundle.config.postprocessing),
        "labels": ", ".join(f"{value} {name}" for value, name in labels.items()) if labels else "not known",
        "size": decimal(path.stat().st_size),
        "identity": bundle.identity,
    }
    for name, text in lines.items():
        console.print(f"{name}: {text}", soft_wrap=True)


def print_weighed(weighed: Weighed, console: Console) -> None:
    """Print what each family of runs reaches alone and together, and which weights are used."""
    heading = f"Leaderboard score on {counted(weighed.volumes, 'held-out volume')}"
    table = plain_table(heading, ("", "runs", "score", "weight"))
    for family in weighed.families:
        score, weight = weighed.single[family.name], weighed.weights[family.name]
        table.add_row(family.name, str(len(family.sources)), f"{score:.4f}", f"{100 * weight:.0f} %")
    if len(weighed.families) > 1:
        table.add_section()
        table.add_row("equal weights", "", f"{weighed.equal:.4f}", "")
    if weighed.fitted is not None:
        table.add_row("fitted, on volumes left out", "", f"{weighed.fitted:.4f}", "")
    console.print(table)
    console.print(f"weights: {weighed.verdict}", soft_wrap=True)


def print_choice(choice: Choice, console: Console) -> None:
    """Print the ranking with its noise, what is not sound or missing and why, and the next command."""
    table = plain_table(
        f"Weights on {counted(len(choice.cases), 'whole held-out volume')}",
        ("weights", "score", "Dice", "surface %", "sound", "difference"),
    )
    for one in choice.selection.candidates:
        noise = "?" if math.isnan(one.noise) else f"{NOISE_ERRORS * one.noise:.4f}"
        difference = "chosen" if one is choice.selection.chosen else f"{one.difference:+.4f} ± {noise}"
        share = number(100 * one.predicted_share, ".2f")
        sound = "yes" if one.sound else "no"
        table.add_row(one.name, f"{one.score:.4f}", number(one.dice, ".4f"), share, sound, difference)
    console.print(table)
    low, high = choice.label_range
    lines = [f"the labels of the data set hold {100 * low:.1f} to {100 * high:.1f} % surface"]
    lines += [f"not sound: {one.name}: {reason}" for one in choice.selection.candidates for reason in one.reasons]
    lines += [f"the same weights as {name}: {', '.join(same)}" for name, same in choice.same.items() if same]
    lines += [f"missing: {name}: {reason}" for name, reason in choice.missing.items()]
    if len(choice.selection.candidates) > 1:
        lines.append(
            "± is two standard errors of the paired difference over the volumes; smaller differences are noise"
        )
    if choice.selection.note:
        lines.append(f"note: {choice.selection.note}")
    caution = "" if choice.selection.chosen.sound else "none of these should be submitted; to look at one anyway: "
    for line in (*lines, f"next: {caution}{choice.command}"):
        console.print(line, soft_wrap=True)


def print_tuning(report: TuningReport, console: Console) -> None:
    """Scores on volumes that no search saw, by method and scroll, and what each step is worth."""
    tuned, scrolls = report.tuned, sorted({case.scroll_id for case in report.cases})
    table = plain_table("Leaderboard score on volumes that the search did not see", ("", *METHODS.values()))
    for scroll in (*scrolls, None):
        count = sum(scroll in (None, case.scroll_id) for case in report.cases)
        name = f"all {counted(count, 'volume')}" if scroll is None else f"scroll {scroll} ({count})"
        table.add_row(name, *(_cell(report, method, scroll) for method in METHODS), end_section=scroll == scrolls[-1])
    console.print(table)
    console.print("gain over the run's own post-processing, plus or minus its standard error over the volumes\n")
    steps = plain_table("What each step is worth there", ("step", "in searches", "gain", "effect"))
    for one in report.steps:
        verdicts = ["lowers the score"] if one.harmful else []
        verdicts += [unproven(one.volumes)] if one.within_noise else []
        gain = f"{one.gain:+.4f} ± {number(one.noise, '.4f')}"
        steps.add_row(one.step, f"{one.searches} of {len(tuned.nested)}", gain, ", ".join(verdicts))
    console.print(steps)
    if tuned.advised == OWN:
        said = f"keep what you have: {describe(tuned.own)}; nothing improves on it by more than twice the noise"
    else:
        said = f"to use: {describe(tuned.to_use)} ({METHODS[tuned.advised]})"
    console.print(said, soft_wrap=True)


def _cell(report: TuningReport, method: str, scroll: str | None) -> str:
    mean, gain, noise = report.gain(method, scroll)
    return f"{mean:.4f}" if method == OWN else f"{mean:.4f} ({gain:+.4f} ± {number(noise, '.4f')})"
