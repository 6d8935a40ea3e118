"""`volumen predict`: from TIFF volumes to masks."""

from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.options import Mirror, Overlap, Override, Pipeline, Rotate, RunOrBundle, Tile, Which, tune_process
from volumen.cli.parse import box, prediction_overrides
from volumen.cli.progress import progress_bar
from volumen.system.output import counted, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    source: RunOrBundle,
    images: Annotated[Path, typer.Argument(help="A TIFF volume, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Folder for the masks: uint8 TIFF of 0 and 1, under the images' names.")],
    which: Which = "best",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write probabilities/NAME: uint8, 255 times the probability.")
    ] = False,
    view: Annotated[bool, typer.Option("--view", help="Also write view/NAME: the mask as 0 and 255.")] = False,
    region: Annotated[str | None, typer.Option(help="Predict only this box of every image: z0:z1,y0:y1,x0:x1.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Predict only what is missing.")] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Volumes at a time, each in its own process.")] = 1,
    tile: Tile = None,
    overlap: Overlap = None,
    mirror: Mirror = None,
    rotate: Rotate = None,
    threshold: Annotated[float | None, typer.Option(help="Probability above which a voxel is surface.")] = None,
    postprocessing: Pipeline = None,
    override: Override = None,
) -> None:
    """Predict surface masks of TIFF volumes with a run or a bundle."""
    tune_process()
    from functools import partial

    from volumen.inference.files import LOCK, Processes, find_images, predict_files
    from volumen.inference.output_folder import Wanted, check_output
    from volumen.inference.recipe import open_recipe
    from volumen.reporting.console import console_for
    from volumen.reporting.run_tables import print_predictions
    from volumen.system.locks import hold

    found = find_images(images)
    wanted = Wanted(probabilities, view, None if region is None else box(region, "--region"), overwrite, resume)
    check_output(found, out, wanted)  # before the network is loaded
    with hold(out, LOCK):
        pass
    make = partial(
        open_recipe,
        source,
        which=which,
        overrides=prediction_overrides(
            override, postprocessing, tile=tile, overlap=overlap, mirror=mirror, rotate=rotate
        ),
        threshold=threshold,
    )
    recipe = make(processes=parallel)
    with progress_bar("reading", "done") as progress:
        predictions = predict_files(
            recipe,
            found,
            out,
            wanted,
            say=lambda text: say(f"note: {text}", aside=True),
            progress=progress,
            side_by_side=Processes(parallel, make) if parallel > 1 else None,
        )
    print_predictions(predictions, console_for())
    say(f"written: {out} ({counted(len(predictions), 'mask')}, and what made them in prediction.json)")
    if probabilities:
        say(f"written: {out / 'probabilities'} (uint8: 255 times the probability, rounded)")
