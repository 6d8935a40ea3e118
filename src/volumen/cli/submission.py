"""`volumen submit`: the zip of masks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.options import Mirror, Overlap, Override, Pipeline, Rotate, RunOrBundle, Tile, Which, tune_process
from volumen.cli.parse import prediction_overrides
from volumen.cli.progress import progress_bar
from volumen.system.output import counted, say

if TYPE_CHECKING:
    from volumen.submission.submit import Submission


Budget = Annotated[str | None, typer.Option(help="Time limit, such as 8h or 90m; it stops cleanly before the end.")]
Work = Annotated[
    Path | None, typer.Option(help="Folder that keeps the masks; otherwise beside the zip, submission.masks.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the zip, and masks that were made with other settings.")
]
AcceptDegenerate = Annotated[
    bool, typer.Option("--accept-degenerate", help="Write the zip even if the predictions are degenerate.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(submit)


def submit(
    source: RunOrBundle,
    test_images: Annotated[Path, typer.Argument(help="Folder of the test images, or the one that holds test_images.")],
    archive: Annotated[Path, typer.Argument(help="The zip to write: a uint8 TIFF of 0 and 1 for every image.")],
    which: Which = "best",
    time_budget: Budget = None,
    work: Work = None,
    overwrite: Overwrite = False,
    accept_degenerate: AcceptDegenerate = False,
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

    from volumen.inference.recipe import open_recipe
    from volumen.submission.pace import OutOfTimeError
    from volumen.submission.submit import check_place, work_folder_of
    from volumen.submission.submit import submit as run
    from volumen.training.budget import parse_duration

    budget = None if time_budget is None else parse_duration(time_budget)
    overrides = prediction_overrides(override, postprocessing, tile=tile, overlap=overlap, mirror=mirror, rotate=rotate)
    folder = work or work_folder_of(archive)
    check_place(archive, folder, overwrite)  # before the network is loaded
    recipe = open_recipe(source, which=which, overrides=overrides)
    try:
        with progress_bar("reading", "steps") as progress:
            made = run(
                recipe, test_images, archive, folder, overwrite=overwrite, accept_degenerate=accept_degenerate,
                budget_seconds=budget, say=lambda text: say(f"warning: {text}", aside=True), progress=progress,
            )  # fmt: skip
    except OutOfTimeError as end:
        return _out_of_time(end, folder)
    _report(made, folder)
    return 0


def _out_of_time(end: Exception, folder: Path) -> int:
    from volumen.errors import EXIT_FAILURE

    say(f"stopped: {end}", aside=True)
    say(
        f"the masks that are done are kept in {folder}: run the same command again to go on; with other settings "
        "it starts over (--overwrite, or another --work)",
        aside=True,
    )
    return EXIT_FAILURE


def _report(made: "Submission", work: Path) -> None:
    """What was written, and what to know about it."""
    from rich.filesize import decimal

    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_predictions

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
