"""`volumen intervene`: ask a training that goes on to change something."""

import json
from typing import Annotated

import typer

from volumen.cli.options import Run
from volumen.system.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(intervene)


def intervene(
    run: Run,
    kind: Annotated[
        str,
        typer.Option(
            help="rate_scale, schedule, optimiser, drop_term, weight_term, gradient_clip, weight_noise, reload_best, "
            "start_averaging, unfreeze, reset_layer or restore_layer."
        ),
    ],
    factor: Annotated[float | None, typer.Option(help="Of rate_scale.")] = None,
    value: Annotated[float | None, typer.Option(help="Of gradient_clip: the largest norm.")] = None,
    name: Annotated[str | None, typer.Option(help="Of a term, or of a layer as its parameters begin.")] = None,
    weight: Annotated[float | None, typer.Option(help="Of weight_term.")] = None,
    std: Annotated[float | None, typer.Option(help="Of weight_noise, relative to each tensor's spread.")] = None,
    decay: Annotated[float | None, typer.Option(help="Of start_averaging.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Of schedule and optimiser, as in a configuration: '{kind: sgd}'.")
    ] = None,
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

    given = {"factor": factor, "value": value, "name": name, "weight": weight, "std": std, "decay": decay}
    parameters = [f"{key}={json.dumps(one)}" for key, one in given.items() if one is not None]
    wanted = read_intervention(kind, parameters + ([] if to is None else [f"to={to}"]))
    request = ask(run, wanted, now=now)
    say(f"request {request.number}: {described([wanted])}{'' if now else ', against a control'}")
    if not wait:
        say(f"it is answered between two epochs: look for request {request.number} in {run / 'events.jsonl'}")
        return
    answer = wait_for_answer(run, request.number)
    if answer.refused:
        raise UserError(f"refused: {answer.text}")
    say(answer.text)
