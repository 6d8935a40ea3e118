"""`volumen audit`: what a run can reach, said before it starts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volumen.cli.options import ConfigSource, Fold, Json, Setting, overrides_of
from volumen.cli.progress import progress_bar
from volumen.cli.subjects import Subjects
from volumen.system.output import counted, say

if TYPE_CHECKING:
    from rich.console import Console

    from volumen.doctor.context import Context

EVERYTHING = "everything"
"""The subject where none is named."""


class AuditSubjects(Subjects):
    """What can be audited."""

    usual = EVERYTHING


app = typer.Typer(
    cls=AuditSubjects,
    help="Look for what will make a run useless, before it starts: volumen audit [SUBJECT] CONFIG.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Data = Annotated[
    Path | None,
    typer.Option(
        "--dataset", "--data", help="Prepared data set, or one to prepare first; otherwise the configuration's."
    ),
]
Meanings = Annotated[Path | None, typer.Option(help="What the label values of an unprepared data set mean.")]
AsRun = Annotated[
    bool, typer.Option("--as-run", help="Audit the objective that really ran (experiment.ran), not the file's.")
]
Record = Mapping[str, Any] | list[dict[str, Any]]
Shown = tuple[Record, Callable[["Console"], None]]
"""What was measured, as JSON values and as a table."""


@app.command(EVERYTHING)
def everything(
    config: ConfigSource,
    data: Data = None,
    meanings: Meanings = None,
    fold: Fold = None,
    as_run: AsRun = False,
    override: Setting = None,
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Also the checks that take minutes: overfitting, rates, memory.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the check of this code, such as P3. Repeatable.")
    ] = None,
    accept: Annotated[list[str] | None, typer.Option(help="Code of a finding to accept. Repeatable.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for a picture of every volume that is unlike the others.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Every check; what is meant where no subject is named.

    Exit code 0 if nothing stops the run, 2 if something does.
    """
    from volumen.doctor.audit import run_audit
    from volumen.errors import EXIT_USER_ERROR
    from volumen.reporting.doctor_tables import print_findings

    with progress_bar("reading", "checks") as show:
        context = _context(config, data, meanings, fold, as_run, override)
        report = run_audit(context, full=full, only=tuple(only or ()), progress=show)
    if pictures is not None:
        from volumen.doctor.data.volumes import write_pictures

        written = write_pictures(context, pictures)
        say(f"written: {counted(len(written), 'picture')} in {pictures}", aside=as_json)
    findings = [finding.to_dict() for finding in report.findings]
    _print(as_json, findings, lambda console: print_findings(report, console))
    return EXIT_USER_ERROR if report.refusals(tuple(accept or ())) else 0


@app.command()
def loss(
    config: ConfigSource,
    data: Data = None,
    meanings: Meanings = None,
    fold: Fold = None,
    as_run: AsRun = False,
    override: Setting = None,
    page: Annotated[Path | None, typer.Option(help="Write the loss autopsy as an HTML page.")] = None,
    as_json: Json = False,
) -> None:
    """What the objective can reach here: floor, perfect, best constant and operating point of every term."""
    from volumen.doctor.objective.check import autopsies, operating_points
    from volumen.reporting.doctor_tables import print_autopsy

    context = _context(config, data, meanings, fold, as_run, override)
    found, points = autopsies(context), operating_points(context)
    if page is not None:
        from volumen.files import write_atomically
        from volumen.reporting.autopsy_page import autopsy_page
        from volumen.system.places import writable_file

        writable_file(page, "choose another file with --page")
        patches = (context.image_patches, context.label_patches)
        write_atomically(page, autopsy_page(context.config.name, found, points, *patches))
        say(f"written: {page}", aside=as_json)

    def show(console: "Console") -> None:
        for phase, one in found.items():
            print_autopsy(phase, one, points[phase], console)

    _print(as_json, {phase: one.to_dict() for phase, one in found.items()}, show)


@app.command()
def cost(
    config: ConfigSource,
    data: Data = None,
    meanings: Meanings = None,
    fold: Fold = None,
    as_run: AsRun = False,
    override: Setting = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Another batch size to compare; twice the run's by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Where time and memory go, the largest batch that fits and what another batch size would change."""
    from volumen.doctor.cost.whole_run import measure_cost
    from volumen.reporting.doctor_tables import print_cost

    found = measure_cost(_context(config, data, meanings, fold, as_run, override), batch=batch)
    _print(as_json, found.to_dict(), lambda console: print_cost(found, console))


@app.command()
def places(
    config: ConfigSource,
    data: Data = None,
    meanings: Meanings = None,
    fold: Fold = None,
    as_run: AsRun = False,
    override: Setting = None,
    top: Annotated[int, typer.Option(min=1, help="How many places.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Write the places as a CSV table.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for a picture of every place.")] = None,
    as_json: Json = False,
) -> None:
    """Places where labels are suspect: sheets that are background, labels on nothing; the most suspect first."""
    from volumen.doctor.data.places import suspect_places
    from volumen.doctor.data.places_output import table_of, write_place_pictures
    from volumen.files import write_atomically
    from volumen.reporting.doctor_tables import print_places
    from volumen.system.places import writable_file

    context = _context(config, data, meanings, fold, as_run, override)
    if out is not None:
        writable_file(out, "choose another file with --out")
    with progress_bar("reading", "volumes") as show:
        found = suspect_places(context.dataset, (*context.training, *context.validation), most=top, progress=show)
    if out is not None:
        write_atomically(out, table_of(found))
        say(f"written: {out}", aside=as_json)
    if pictures is not None:
        written = write_place_pictures(context.dataset, found, pictures)
        say(f"written: {counted(len(written), 'picture')} in {pictures}", aside=as_json)
    _print(as_json, [place.to_dict() for place in found], lambda console: print_places(found, console))


def _liveness(context: "Context") -> Shown:
    """Which settings act, and why the others do not."""
    from volumen.config.dump import flat_values
    from volumen.doctor.settings.check import examine_settings
    from volumen.reporting.doctor_tables import print_liveness

    found = examine_settings(context)
    defaults = len(flat_values(context.config)) - len(found)
    return [one.to_dict() for one in found], lambda console: print_liveness(found, defaults, console)


def _noise(context: "Context") -> Shown:
    """Which differences between two epochs or two runs are real."""
    from volumen.doctor.protocol import protocol_noise
    from volumen.reporting.doctor_tables import print_noise

    found = protocol_noise(context)
    return asdict(found), lambda console: print_noise(found, console)


def _rate(context: "Context") -> Shown:
    """Which learning rates the run can use."""
    from volumen.doctor.learning_rate import measure_rates
    from volumen.reporting.doctor_tables import print_rates

    found = measure_rates(context)
    return asdict(found), lambda console: print_rates(found, console)


def _command(name: str, measured: Callable[["Context"], Shown]) -> None:
    """A subject that has no options of its own."""

    @app.command(name, help=measured.__doc__)
    def show(
        config: ConfigSource,
        data: Data = None,
        meanings: Meanings = None,
        fold: Fold = None,
        as_run: AsRun = False,
        override: Setting = None,
        as_json: Json = False,
    ) -> None:
        _print(as_json, *measured(_context(config, data, meanings, fold, as_run, override)))


for name, measured in (("liveness", _liveness), ("noise", _noise), ("rate", _rate)):
    _command(name, measured)


def _print(as_json: bool, record: Mapping[str, Any] | list[dict[str, Any]], table: Callable[["Console"], None]) -> None:
    """What was found: as JSON, NaN as null, or as a table."""
    from volumen.files import strict_json
    from volumen.reporting.console import console_for

    if as_json:
        say(json.dumps(strict_json(record) if isinstance(record, Mapping) else record, indent=2))
    else:
        table(console_for())


def _context(
    source: str,
    data: Path | None,
    meanings: Path | None,
    fold: int | None,
    as_run: bool,
    override: list[str] | None,
) -> "Context":
    """Everything the checks look at; an unprepared data set is prepared into a temporary folder first."""
    import atexit
    import shutil
    import tempfile

    from volumen.config.load import load_config
    from volumen.data.dataset import MANIFEST
    from volumen.data.prepare import prepare
    from volumen.doctor.context import open_context

    if data is not None and not (data / MANIFEST).is_file():
        made = Path(tempfile.mkdtemp(prefix="volumen-audit-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        prepare(data, made, meanings_file=meanings, accept_proposal=meanings is None)
        data = made
    return open_context(load_config(source, overrides_of(override, fold, data)), as_run=as_run)
