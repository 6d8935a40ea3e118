"""`volumen experiment`: hypotheses, what was expected, and what came of them, as files."""

import datetime
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volumen.cli.options import Json, Setting
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.config.experiment import ExpectedOutcome
    from volumen.ledger.picture import Picture

app = typer.Typer(
    help="Keep experiments: hypothesis, parent, criteria, what was expected and what came of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Name = Annotated[str, typer.Argument(help="The experiment, as its file is called.")]
Ledger = Annotated[Path, typer.Option("--ledger", help="Folder of the experiments' files.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder in which runs are looked for.")]
FOLDER, RUNS = Path("experiments"), Path("runs")


@app.command()
def new(
    name: Name,
    config: Annotated[str | None, typer.Option(help="Its configuration: a YAML file or preset:NAME.")] = None,
    override: Setting = None,
    parent: Annotated[str | None, typer.Option(help="The experiment that it is compared with.")] = None,
    hypothesis: Annotated[
        str | None, typer.Option(help="What should happen, and why; the configuration's otherwise.")
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help='What may come of it: "text: 60%", "text: 60% if val.loss < 0.4". Repeatable.'),
    ] = None,
    criterion: Annotated[
        list[str] | None, typer.Option(help='When it is a success: "val.loss < 0.45 by epoch 20". Repeatable.')
    ] = None,
    fallback: Annotated[list[str] | None, typer.Option(help="What is done where it fails. Repeatable.")] = None,
    run: Annotated[
        list[Path] | None, typer.Option(help="A run folder, or a log of another program. Repeatable.")
    ] = None,
    ledger: Ledger = FOLDER,
) -> None:
    """Write the file of a new experiment, and show it.

    What is not given is taken from the configuration; what differs from the parent is computed, never written down.
    """
    from volumen.criteria import parse_criterion
    from volumen.errors import UserError
    from volumen.ledger.entry import Entry, place_of, read_ledger
    from volumen.ledger.picture import config_of
    from volumen.ledger.writing import write_new

    place_of(ledger, name)
    for text in criterion or []:
        parse_criterion(text)
    known = read_ledger(ledger) if ledger.is_dir() else {}
    if parent is not None and parent not in known:
        raise UserError(f"there is no experiment {parent} in {ledger}: make the parent first, or leave out --parent")
    entry = Entry(
        name=name,
        hypothesis=hypothesis or "",
        parent=parent,
        config=config,
        overrides=tuple(override or ()),
        runs=tuple(str(each) for each in run or ()),
        criteria=tuple(criterion or ()),
        outcomes=outcomes_of(outcome or []),
        fallback=tuple(fallback or ()),
    )
    settings = config_of(entry)
    if settings is not None:
        own, above = settings.experiment, None if parent is None else config_of(known[parent])
        if above is None or above.experiment.hypothesis != own.hypothesis:  # not what a base handed down
            given = {"hypothesis": hypothesis or own.hypothesis, "outcomes": entry.outcomes or own.outcomes}
            entry = entry.model_copy(update=given)
    path = write_new(ledger, entry)
    say(f"written: {path}")
    _print(_pictures(ledger, RUNS, name)[0])


@app.command("list")
def list_all(ledger: Ledger = FOLDER, runs: Runs = RUNS, as_json: Json = False) -> None:
    """One line an experiment, and how good the probabilities of the closed ones were."""
    from volumen.files import strict_json
    from volumen.ledger.calibration import calibration_of
    from volumen.reporting.console import console_for
    from volumen.reporting.ledger_tables import print_list

    pictures = _pictures(ledger, runs)
    calibration = calibration_of(one.entry for one in pictures)
    if as_json:
        document = {"experiments": [one.to_dict() for one in pictures], "calibration": calibration.to_dict()}
        say(json.dumps(strict_json(document), indent=2))
        return
    print_list(pictures, calibration, console_for())


@app.command()
def show(name: Name, ledger: Ledger = FOLDER, runs: Runs = RUNS, as_json: Json = False) -> None:
    """How an experiment stands: difference from its parent, verdicts on its criteria, what to do next."""
    from volumen.files import strict_json

    (picture,) = _pictures(ledger, runs, name)
    if as_json:
        say(json.dumps(strict_json(picture.to_dict()), indent=2))
        return
    _print(picture)


@app.command()
def tree(ledger: Ledger = FOLDER, runs: Runs = RUNS) -> None:
    """The family: each experiment below its parent, with what it changed and how it stands."""
    from volumen.reporting.console import console_for
    from volumen.reporting.ledger_tables import print_tree

    print_tree(_pictures(ledger, runs), console_for())


@app.command()
def note(name: Name, text: Annotated[str, typer.Argument(help="What was seen or decided.")],
         ledger: Ledger = FOLDER) -> None:  # fmt: skip
    """Add a dated note."""
    from volumen.ledger.entry import place_of
    from volumen.ledger.writing import append, edit

    path = place_of(ledger, name)
    edit(path, lambda document: append(document, "notes", {"date": _today(), "text": text}))
    say(f"noted in {path}")


@app.command()
def close(
    name: Name,
    outcome: Annotated[
        int | None, typer.Option(help="The outcome that came true, as `show` counts them; 0 for none of them.")
    ] = None,
    conclusion: Annotated[str, typer.Option(help="What was learnt.")] = "",
    ledger: Ledger = FOLDER,
) -> None:
    """Close an experiment: which outcome came true, and what was learnt. Closing again corrects it."""
    from volumen.errors import UserError
    from volumen.ledger.entry import place_of, read_entry
    from volumen.ledger.writing import edit, put

    path = place_of(ledger, name)
    entry = read_entry(path)
    if outcome is None and entry.outcomes:
        listed = "; ".join(f"{place} {one.what}" for place, one in enumerate(entry.outcomes, 1))
        raise UserError(f"{name} has outcomes ({listed}): say with --outcome which came true, 0 for none of them")
    if outcome is not None and not 0 <= outcome <= len(entry.outcomes):
        raise UserError(f"{name} has no outcome {outcome}: give --outcome 0 to {len(entry.outcomes)}")

    def change(document: Any) -> None:
        values = {"status": "closed", "closed": _today(), "came_true": outcome, "conclusion": conclusion}
        for key, value in values.items():
            if value not in (None, ""):
                put(document, key, value)

    edit(path, change)
    say(f"closed: {path}")


def outcomes_of(texts: list[str]) -> tuple["ExpectedOutcome", ...]:
    """Outcomes as they are given: `text`, `text: 60%`, `text: 0.6 if CRITERION`.

    Raises:
        UserError: A criterion that is none, or probabilities that add up to more than 1.
    """
    from volumen.config.experiment import ExpectedOutcome, check_outcomes
    from volumen.criteria import parse_criterion
    from volumen.errors import UserError

    found = []
    for text in texts:
        match = re.fullmatch(r"(.+?):\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)(?:\s+if\s+(.+))?", text.strip(), re.S)
        what, number, percent, criterion = match.groups() if match else (text.strip(), None, "", None)
        if not what:
            raise UserError('--outcome is empty: write "text: 60%"')
        probability = None if number is None else float(number) / (100 if percent else 1)
        if probability is not None and probability > 1:
            raise UserError(f"--outcome {text!r:.200}: a probability is at most 1: write 60% or 0.6")
        if criterion is not None:
            parse_criterion(criterion)
        found.append(ExpectedOutcome(what=what, probability=probability, criterion=criterion))
    try:
        check_outcomes(tuple(found))
    except ValueError as error:
        raise UserError(f"--outcome: {error}") from None
    return tuple(found)


def _pictures(ledger: Path, runs: Path, name: str | None = None) -> list["Picture"]:
    """All experiments, or the one that is named."""
    from volumen.ledger.entry import place_of, read_entry, read_ledger
    from volumen.ledger.picture import picture_of

    if name is not None and ledger.is_dir():
        read_entry(place_of(ledger, name))
    known = read_ledger(ledger)
    return [picture_of(each, known, runs) for each in known if name in (None, each)]


def _print(picture: "Picture") -> None:
    from volumen.reporting.console import console_for
    from volumen.reporting.ledger_tables import print_picture

    print_picture(picture, console_for())


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).astimezone().date().isoformat()
