"""`volumen diagnose`: what a training has, from what it recorded."""

from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.options import Json
from volumen.system.output import say


def register(app: typer.Typer) -> None:
    """Add `diagnose` to the command."""
    app.command()(diagnose)


def diagnose(
    run: Annotated[Path, typer.Argument(help="Run folder, of a run that goes on or has ended.")],
    as_json: Json = False,
) -> None:
    """Say whether a training learns what it should; if not, why, how sure that is, and what to do.

    Reads what the run recorded, and changes nothing.
    """
    import json
    import sys
    from dataclasses import asdict

    from volumen.files import strict_json
    from volumen.monitors.diagnosis import diagnose as diagnosis_of
    from volumen.monitors.history import read_history
    from volumen.monitors.picture import Picture
    from volumen.monitors.watching import replay
    from volumen.reporting.console import console_for
    from volumen.reporting.letter import letter_of, print_letter
    from volumen.runs.records import read_run_logs

    history = read_history(run)
    memory, signs = replay(history)
    picture = Picture(memory, read_run_logs(run).findings or ())
    found = diagnosis_of(picture)
    for fault in history.faults:
        console_for(sys.stderr).print(f"warning: {fault}", style="yellow", soft_wrap=True)
    if as_json:
        record = {"run": str(run), **found.to_dict(), "signs": [asdict(sign) for sign in signs]}
        say(json.dumps(strict_json(record), indent=2))
        return
    print_letter(letter_of(found, picture, str(run)), console_for())
