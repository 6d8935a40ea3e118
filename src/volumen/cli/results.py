"""`volumen evaluate`, `volumen predict` and `volumen report`: what a run can do, on what, and on one page."""

from pathlib import Path
from typing import Annotated

import typer

from volumen.cli.parse import three_whole_numbers
from volumen.cli.progress import progress_bar

Run = Annotated[Path, typer.Argument(help="Run folder, as `volumen train` printed it.")]
Source = Annotated[Path, typer.Argument(help="Run folder, or a bundle (model.volumen), which needs nothing beside it.")]
Which = Annotated[str, typer.Option(help="Weights of a run: best, last, plain, average or swa.")]

Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override", "-o", help="Other settings of prediction: -o postprocessing.minimum_component_voxels=500"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the three commands."""
    app.command()(evaluate)
    app.command()(predict)
    app.command()(report)


def evaluate(
    run: Run,
    which: Which = "best",
    fold: Annotated[int | None, typer.Option(help="Fold to evaluate; the run's own otherwise.")] = None,
    cases: Annotated[str | None, typer.Option(help="Case ids, separated by commas, instead of a fold.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability above which a voxel is surface.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Prepared data set, where it has moved.")] = None,
    override: Override = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evaluation as JSON.")] = False,
) -> None:
    """Score a run on whole held-out volumes with the leaderboard's metric.

    Writes evaluation.json and evaluation/slices/ID.png into the run folder.
    """
    tune()
    import json

    from volumen.experiments.evaluate import evaluate_run
    from volumen.reporting.console import console_for
    from volumen.reporting.tables import print_evaluation

    chosen = None if cases is None else [name.strip() for name in cases.split(",") if name.strip()]
    with progress_bar("reading", "tiles") as progress:
        evaluation = evaluate_run(
            run,
            which=which,
            fold=fold,
            cases=chosen,
            threshold=threshold,
            dataset=dataset,
            overrides=override or (),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(evaluation.to_dict(), indent=2))
        return
    print_evaluation(evaluation, console_for())
    typer.echo(f"written: {run / 'evaluation.json'}, {run / 'evaluation' / 'slices'}")
    typer.echo(f"next: volumen report {run}")


def predict(
    source: Source,
    images: Annotated[Path, typer.Argument(help="A TIFF volume, or a folder of them.")],
    out: Annotated[Path, typer.Argument(help="Folder for the masks: uint8 TIFF of 0 and 1, under the images' names.")],
    which: Which = "best",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write probabilities/NAME: uint8, 255 times the probability.")
    ] = False,
    view: Annotated[bool, typer.Option("--view", help="Also write view/NAME: the mask as 0 and 255.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Predict only what is missing.")] = False,
    tile: Annotated[str | None, typer.Option(help="Tile in voxels, z,y,x; the configured one otherwise.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share that neighbouring tiles have in common.")] = None,
    mirror: Annotated[
        bool | None, typer.Option("--mirror/--no-mirror", help="Average over the eight mirror images.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability above which a voxel is surface.")] = None,
    override: Override = None,
) -> None:
    """Predict surface masks of TIFF volumes with a run or a bundle."""
    tune()
    from volumen.experiments.evaluate import with_threshold
    from volumen.experiments.predicting import open_predictor
    from volumen.inference.files import Wanted, find_images, predict_files
    from volumen.reporting.console import console_for
    from volumen.reporting.tables import print_predictions

    sides = None if tile is None else three_whole_numbers(tile, "--tile")
    found = find_images(images)
    opened = open_predictor(source, which=which, overrides=override or (), tile=sides, overlap=overlap, mirror=mirror)
    with progress_bar("reading", "tiles") as progress:
        predictions = predict_files(
            opened.predictor,
            found,
            out,
            Wanted(probabilities=probabilities, view=view, overwrite=overwrite, resume=resume),
            normalisation=opened.config.data.normalisation,
            postprocessing=with_threshold(opened.config.postprocessing, threshold),
            origin=opened.origin,
            progress=progress,
        )
    print_predictions(predictions, console_for())
    typer.echo(f"written: {out} ({len(predictions)} masks, and what made them in prediction.json)")
    if probabilities:
        typer.echo(f"written: {out / 'probabilities'} (uint8: 255 times the probability, rounded)")


def report(
    run: Run, out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the run otherwise.")] = None
) -> None:
    """Write one self-contained HTML page about a run."""
    from volumen.reporting.html import write_report

    typer.echo(f"report: {write_report(run, out)}")


def tune() -> None:
    """Settings that have to be made before torch is imported."""
    from volumen.runtime import tune_allocator

    tune_allocator()  # before torch allocates anything
