"""`volumen intervene`: ask a training that goes on to change something."""

from typing import Annotated

import typer

from volumen.cli.options import Run
from volumen.system.output import say

_PARAMETERS = "Of that kind, as KEY=VALUE: factor=3, name=soft_dice weight=0.5, to='{kind: constant}'."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(intervene)


def intervene(
    run: Run,
    parameters: Annotated[list[str] | None, typer.Argument(help=_PARAMETERS)] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="rate_scale, schedule, optimiser, drop_term, weight_term, gradient_clip, weight_noise, reload_best, "
            "start_averaging, unfreeze, reset_layer or restore_layer."
        ),
    ] = "",
    now: Annotated[bool, typer.Option("--now", help="Do it without a trial against a control.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the training has answered.")] = False,
) -> None:
    """Change a training that goes on: between two epochs, and only if it helps.

    The change is tried beside a control that changes nothing, on the same patches, and stays if it beats the control by
    more than twice the noise of the validation. The answer is an event of the run.
    """
    from volumen.config.intervention import described, read_intervention
    from volumen.errors import UserError
    from volumen.runs.requests import ask, wait_for_answer

    if not kind:
        raise UserError("say what to do with --kind, such as: volumen intervene RUN --kind rate_scale factor=3")
    wanted = read_intervention(kind, parameters or [])
    request = ask(run, wanted, now=now)
    say(f"request {request.number}: {described([wanted])}{'' if now else ', against a control'}")
    if not wait:
        say(f"it is answered between two epochs: look for request {request.number} in {run / 'events.jsonl'}")
        return
    answer = wait_for_answer(run, request.number)
    if answer.refused:
        raise UserError(f"refused: {answer.text}")
    say(answer.text)
