"""`volumen wheels`: a folder from which volumen installs without internet."""

from pathlib import Path
from typing import Annotated

import typer

from volumen.system.output import counted, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(wheels)


def wheels(
    folder: Annotated[Path, typer.Argument(help="Folder to fill.")],
    python_version: Annotated[
        str | None, typer.Option(help="Python of the other machine, such as 3.12; this one's otherwise.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="A Linux that is the other machine, such as manylinux_2_28_x86_64. Repeatable."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="A package that the other machine has already, such as torch. Repeatable."),
    ] = None,
    extra: Annotated[list[str] | None, typer.Option(help="An optional part of volumen, such as monai.")] = None,
) -> None:
    """Prepare a folder from which volumen installs without internet.

    Everything at the versions that are installed here, with hashes. Called again, it fetches only what is missing.
    """
    from volumen.system.wheels import fill_folder

    count, install = fill_folder(folder, python_version, platform or (), without or (), extra or ())
    say(f"written: {folder} ({counted(count, 'wheel')}, hashes checked)")
    if without:
        say(f"not in it, the other machine has to have: {', '.join(sorted(without))}")
    say(f"install with: {install}")
