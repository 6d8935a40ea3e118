"""`volumen audit`: what a run can reach, said before it starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.audit_subjects import SUBJECTS, SubjectOptions
from volumen.cli.options import Fold, Setting, overrides_of
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.doctor.audit import Context


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(audit)


def audit(
    subject: Annotated[
        list[str],
        typer.Argument(
            metavar="[SUBJECT] CONFIG",
            help=f"A YAML file or preset:NAME; one of {', '.join(SUBJECTS)} before it shows only that.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--dataset", "--data", help="Prepared data set, or one to prepare first; otherwise the configuration's."
        ),
    ] = None,
    meanings: Annotated[Path | None, typer.Option(help="What the label values of an unprepared data set mean.")] = None,
    fold: Fold = None,
    as_run: Annotated[
        bool, typer.Option("--as-run", help="Audit the objective that really ran (experiment.ran), not the file's.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full/--quick", help="Also the checks that take minutes: overfitting, rates, memory.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the check of this code, such as P3. Repeatable.")
    ] = None,
    accept: Annotated[list[str] | None, typer.Option(help="Code of a finding to accept. Repeatable.")] = None,
    override: Setting = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="For `cost`: another batch size to compare; twice the run's by default.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the loss autopsy as an HTML page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
) -> int:
    """Look for what will make a run useless, before it starts.

    Exit code 0 if nothing stops the run, 2 if something does. `volumen audit loss CONFIG` shows what the objective can
    reach on this data set: floor, perfect, best constant and operating point of every term; `liveness` what each
    setting changes; `noise` which differences between two epochs or two runs are real; `rate` which learning rates the
    run can use; `cost` where time and memory go, the largest batch that fits and what another batch size would change.
    """
    from volumen.errors import EXIT_USER_ERROR, UserError

    shown = SUBJECTS.get(subject[0])
    sources = subject[1:] if shown else subject
    if len(sources) != 1:
        choice = "|".join(SUBJECTS)
        raise UserError(f"volumen audit takes one configuration, got {sources}: volumen audit [{choice}] CONFIG")
    overrides = overrides_of(override, fold, None)
    with progress_bar("reading", "checks") as show:
        context = _context(sources[0], overrides, data, meanings, as_run)
        if shown:
            return shown(context, SubjectOptions(as_json, page, batch))
        from volumen.doctor.audit import run_audit

        report = run_audit(context, full=full, only=tuple(only or ()), progress=show)
    import json

    from volumen.reporting.console import console_for
    from volumen.reporting.doctor_tables import print_findings

    if as_json:
        say(json.dumps([finding.to_dict() for finding in report.findings], indent=2))
    else:
        print_findings(report, console_for())
    return EXIT_USER_ERROR if report.refusals(tuple(accept or ())) else 0


def _context(source: str, overrides: list[str], data: Path | None, meanings: Path | None, as_run: bool) -> "Context":
    """Everything the checks look at; an unprepared data set is prepared into a temporary folder first."""
    import atexit
    import shutil
    import tempfile

    from volumen.config import load_config
    from volumen.data.dataset import MANIFEST
    from volumen.data.prepare import prepare
    from volumen.doctor.audit.setup import open_context

    folder = data
    if folder is not None and not (folder / MANIFEST).is_file():
        made = Path(tempfile.mkdtemp(prefix="volumen-audit-"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        prepare(folder, made, meanings_file=meanings, accept_proposal=meanings is None)
        folder = made
    if folder is not None:
        overrides = overrides_of(overrides, None, folder)
    return open_context(load_config(source, overrides), as_run=as_run)
