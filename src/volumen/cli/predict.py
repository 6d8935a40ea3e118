"""`volumen predict`: from TIFF volumes to masks."""

from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.options import Mirror, Overlap, Override, Pipeline, Rotate, Source, Tile, Which, tune_process
from volumen.cli.parse import box, three_whole_numbers
from volumen.cli.progress import progress_bar
from volumen.system.output import counted, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    source: Source,
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

    from volumen.config.fragments import postprocessing_override
    from volumen.experiments.evaluate import with_threshold
    from volumen.experiments.predicting import open_predictor, predictor_of
    from volumen.inference.files import LOCK, find_images, predict_files
    from volumen.inference.output_folder import Wanted, check_output
    from volumen.inference.side_by_side import Processes
    from volumen.reporting.console import console_for
    from volumen.reporting.tables import print_predictions
    from volumen.system.locks import hold

    found = find_images(images)
    wanted = Wanted(probabilities, view, None if region is None else box(region, "--region"), overwrite, resume)
    check_output(found, out, wanted)  # before the network is loaded
    with hold(out, LOCK):
        pass
    make = partial(
        open_predictor,
        source,
        which=which,
        overrides=(*postprocessing_override(postprocessing), *(override or ())),
        tile=None if tile is None else three_whole_numbers(tile, "--tile"),
        overlap=overlap,
        mirror=mirror,
        rotate=rotate,
    )
    opened = make(processes=parallel)
    with progress_bar("reading", "done") as progress:
        predictions = predict_files(
            opened.predictor,
            found,
            out,
            wanted,
            normalisation=opened.config.data.normalisation,
            postprocessing=with_threshold(opened.config.postprocessing, threshold),
            origin=opened.origin,
            empty=opened.config.inference.declared_empty,
            say=lambda text: say(f"note: {text}", aside=True),
            progress=progress,
            side_by_side=Processes(parallel, partial(predictor_of, make)) if parallel > 1 else None,
        )
    print_predictions(predictions, console_for())
    say(f"written: {out} ({counted(len(predictions), 'mask')}, and what made them in prediction.json)")
    if probabilities:
        say(f"written: {out / 'probabilities'} (uint8: 255 times the probability, rounded)")
