"""What is in a bundle, for people."""

from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from volumen.inference.bundle import Bundle
from volumen.inference.views import views
from volumen.models import build_model
from volumen.postprocess import describe
from volumen.reporting.console import plain_table


def print_bundle(bundle: Bundle, path: Path, console: Console) -> None:
    """Print members, shares and sizes, and how the bundle predicts."""
    table = plain_table("Bundle", ("network", "what", "parameters", "share"))
    total = sum(member.share for member in bundle.members)
    for member in bundle.members:
        parameters = sum(parameter.numel() for parameter in build_model(member.config.model).parameters())
        table.add_row(member.name, member.config.model.kind, f"{parameters:,}", f"{100 * member.share / total:.1f} %")
    console.print(table)
    several = f", mean of {bundle.mean}s" if len(bundle.members) > 1 else ""
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
        console.print(f"{name}: {text}", markup=False, soft_wrap=True)
