"""`volumen submit` and `volumen wheels`: the zip of masks, and volumen itself where there is no internet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Mirror, Overlap, Override, Pipeline, Rotate, Source, Tile, Which, tune_process
from volumen.cli.parse import three_whole_numbers
from volumen.cli.progress import progress_bar
from volumen.system.output import counted, say

if TYPE_CHECKING:
    from volumen.inference.submission import Submission


def register(app: typer.Typer) -> None:
    """Add the two commands."""
    app.command()(submit)
    app.command()(wheels)


def submit(
    source: Source,
    test_images: Annotated[Path, typer.Argument(help="Folder of the test images, or the one that holds test_images.")],
    archive: Annotated[Path, typer.Argument(help="The zip to write: a uint8 TIFF of 0 and 1 for every image.")],
    which: Which = "best",
    time_budget: Annotated[
        str | None, typer.Option(help="Time limit, such as 8h or 90m; it stops cleanly before the end.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps the masks; otherwise beside the zip, submission.masks.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the zip, and masks that were made with other settings.")
    ] = False,
    accept_degenerate: Annotated[
        bool, typer.Option("--accept-degenerate", help="Write the zip even if the predictions are degenerate.")
    ] = False,
    tile: Tile = None,
    overlap: Overlap = None,
    mirror: Mirror = None,
    rotate: Rotate = None,
    postprocessing: Pipeline = None,
    override: Override = None,
) -> int:
    """Predict test images into a zip that is checked as the leaderboard would read it.

    After a kill or a stop, the same command continues where it was. Exit code 2, and no zip, if the predictions are
    degenerate, such as all surface; 1 if the time budget is too short.
    """
    tune_process()

    from volumen.config.fragments import postprocessing_override
    from volumen.errors import EXIT_FAILURE
    from volumen.experiments.predicting import open_predictor
    from volumen.inference.pace import OutOfTimeError
    from volumen.inference.submission import How, check_place, work_folder_of
    from volumen.inference.submission import submit as run
    from volumen.training import parse_duration

    budget = None if time_budget is None else parse_duration(time_budget)
    sides = None if tile is None else three_whole_numbers(tile, "--tile")
    overrides = (*postprocessing_override(postprocessing), *(override or ()))
    folder = work or work_folder_of(archive)
    check_place(archive, folder, overwrite)  # before the network is loaded
    opened = open_predictor(
        source, which=which, overrides=overrides, tile=sides, overlap=overlap, mirror=mirror, rotate=rotate
    )
    config = opened.config
    try:
        with progress_bar("reading", "steps") as progress:
            made = run(
                How(
                    opened.predictor,
                    config.data.normalisation,
                    config.postprocessing,
                    opened.origin,
                    config.inference.declared_empty,
                ),
                test_images,
                archive,
                folder,
                overwrite=overwrite,
                accept_degenerate=accept_degenerate,
                budget_seconds=budget,
                say=lambda text: say(f"warning: {text}", aside=True),
                progress=progress,
            )
    except OutOfTimeError as end:
        say(f"stopped: {end}", aside=True)
        say(
            f"the masks that are done are kept in {folder}: run the same command again to go on; with other settings "
            "it starts over (--overwrite, or another --work)",
            aside=True,
        )
        return EXIT_FAILURE
    _report(made, folder)
    return 0


def _report(made: "Submission", work: Path) -> None:
    """What was written, and what to know about it."""
    from rich.filesize import decimal

    from volumen.reporting.console import console_for
    from volumen.reporting.tables import print_predictions

    print_predictions(made.predictions, console_for())
    if made.symptoms:
        say(
            f"warning: accepted on demand, and recorded: {counted(len(made.symptoms), 'sign')} that predictions "
            "say nothing"
        )
    size = decimal(made.archive.stat().st_size)
    say(
        f"written: {made.archive} ({counted(len(made.predictions), 'mask')}, {size}, read back and checked: names, "
        "checksums, uint8, 0 and 1 only, shapes of the images)"
    )
    say(f"masks and record: {work}")


def wheels(
    folder: Annotated[Path, typer.Argument(help="Folder to fill.")],
    python_version: Annotated[
        str | None, typer.Option(help="Python of the other machine, such as 3.12; this one's otherwise.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Platform of the other machine, such as manylinux_2_28_x86_64. Repeatable."),
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
    import shlex

    from volumen.offline import Target, fill_folder

    with progress_bar("fetching", "wheels") as progress:
        made = fill_folder(
            folder,
            Target(python_version, tuple(platform or ())),
            without=without or (),
            extras=extra or (),
            progress=progress,
        )
    say(f"written: {folder} ({counted(made.fetched, 'wheel')} fetched, {made.kept} kept, {made.megabytes:.1f} MB)")
    if made.without:
        say(f"not in it, the other machine has to have: {', '.join(made.without)}")
    command = ["pip", "install", "--no-index", "--find-links", str(folder), "-r", str(folder / "requirements.txt")]
    say(f"install with: {shlex.join(command)}")
