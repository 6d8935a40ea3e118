"""What is in a bundle, for people."""

from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from volumen.experiments.ensembling import Weighed
from volumen.inference.bundle import Bundle
from volumen.inference.views import views
from volumen.models import build_model
from volumen.postprocess import describe
from volumen.reporting.console import plain_table
from volumen.system.output import counted, plural


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
    meanings = ", ".join(f"{value} {name}" for value, name in labels.items()) if labels else "not known"
    seen = views(mirror=inference.mirror, rotate=inference.rotate)
    lines = {
        "networks": f"{len(bundle.members)}{several}",
        "tiles": f"{list(bundle.config.tile)}, overlap {inference.overlap:g}, views of each {len(seen)}",
        "post-processing": describe(bundle.config.postprocessing),
        "labels": meanings,
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
