"""`volumen diagnose`: what a training has, from what it recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Json
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.criteria import Verdict
    from volumen.monitors.objective_facts import TermFacts
    from volumen.monitors.picture import Audit
    from volumen.monitors.seen import History

    Judged = tuple[tuple[str, Verdict], ...]
    Sources = tuple[History, Audit, Mapping[str, TermFacts]]
    """A history, what an audit said of it, and what the terms of its loss are worth."""


def register(app: typer.Typer) -> None:
    """Add `diagnose` to the command."""
    app.command()(diagnose)


def diagnose(
    run: Annotated[Path, typer.Argument(help="Run folder, or a training log of another program.")],
    data: Annotated[
        Path | None, typer.Option("--data", "--dataset", help="Of a log: the prepared data set it was trained on.")
    ] = None,
    surface: Annotated[str | None, typer.Option(help="Of a log: share of surface in its labels, 0.17 or 17%.")] = None,
    loss: Annotated[
        str | None, typer.Option(help="Of a log: weights of its loss's terms, dice=0.5,focal=0.3,variance=0.1.")
    ] = None,
    meanings: Annotated[
        list[str] | None, typer.Option("--map", help="Of a log: what a column means, COLUMN=MEANING. Repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether a training learns what it should; if not, why, how sure that is, and what to do.

    Reads what was recorded, by volumen or by others (TensorBoard, CSV, JSON lines, nnU-Net, plain text), and changes
    nothing.
    """
    import json
    import sys
    from dataclasses import asdict

    from volumen.files import strict_json
    from volumen.monitors.diagnosis import diagnose as diagnosis_of
    from volumen.monitors.picture import Picture
    from volumen.monitors.watching import replay, thinned
    from volumen.reporting.console import console_for
    from volumen.reporting.letter import letter_of, print_letter

    is_ours = (run / "config.yaml").is_file()
    if is_ours:
        history, findings, facts = _of_a_run(run)
    else:
        history, findings, facts = _of_a_log(run, data, surface, loss, meanings or [])
    history = thinned(history)
    memory, signs = replay(history)
    picture = Picture(memory, findings, facts)
    found = diagnosis_of(picture)
    for fault in history.faults:
        console_for(sys.stderr).print(f"warning: {fault}", style="yellow", soft_wrap=True)
    criteria = _criteria_of(run) if is_ours else ()
    if as_json:
        told = {"criteria": [{"criterion": text, **one.to_dict()} for text, one in criteria]} if criteria else {}
        record = {"run": str(run), **found.to_dict(), **told, "signs": [asdict(sign) for sign in signs]}
        say(json.dumps(strict_json(record), indent=2))
        return
    print_letter(letter_of(found, picture, str(run), ours=is_ours), console_for())
    if criteria:
        say("\nCriteria")
    for text, one in criteria:
        say(f"  {one.state:12} {text} ({one.sentence})")


def _of_a_run(run: Path) -> "Sources":
    from volumen.monitors.history import read_history
    from volumen.runs.records import read_run_logs

    return read_history(run), read_run_logs(run).findings or (), {}


def _criteria_of(run: Path) -> "Judged":
    from volumen.monitors.criteria import judged, records_of_run
    from volumen.runs.folder import run_config

    criteria = run_config(run).experiment.criteria
    return judged(criteria, records_of_run(run)) if criteria else ()


def _of_a_log(log: Path, data: Path | None, surface: str | None, loss: str | None, meanings: list[str]) -> "Sources":
    from volumen.data.dataset import PreparedDataset, surface_share
    from volumen.logs.names import parse_map, parse_weights
    from volumen.logs.read import read_log_of
    from volumen.monitors.loss_clues import facts_of, scaled, share_of

    weights = None if loss is None else parse_weights(loss)
    share = None if surface is None else share_of(surface)
    if data is not None:
        dataset = PreparedDataset.open(data)
        share = surface_share(dataset, [case.id for case in dataset.cases])
    history = read_log_of(log, mapping=parse_map(meanings), weights=weights)
    facts = facts_of(history, share)
    return scaled(history, facts), (), facts
