"""`volumen score`: the leaderboard metric for whoever has masks and labels in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.parse import three_numbers, three_whole_numbers
from volumen.cli.progress import progress_bar
from volumen.system.output import say

if TYPE_CHECKING:
    from volumen.metrics.files import FileScores, Pair
    from volumen.metrics.leaderboard import LeaderboardOptions

MOST_TILES = 100
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Also write a table of every number and count.")]
Workers = Annotated[int | None, typer.Option(min=1, max=256, help="Cases at a time; as many as processors by default.")]
TrainCsv = Annotated[
    Path | None, typer.Option("--train-csv", help="Table with id and scroll_id: means per scroll as well.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Do not match tunnels: an upper bound, in half the time.")]
PredictionArray = Annotated[
    str | None, typer.Option(help="Which array of an NPZ file or Zarr group the prediction is.")
]
TruthArray = Annotated[str | None, typer.Option(help="Which array of an NPZ file or Zarr group the truth is.")]
IgnoreLabel = Annotated[
    int | None,
    typer.Option(min=-1, max=2**63 - 1, help="Label of unlabelled voxels; 2 by default, -1: none."),
]
Surface = Annotated[
    str | None, typer.Option(help="Values that are surface, such as 1,3; any: all but 0 and the ignored. 1 by default.")
]
MissingIsEmpty = Annotated[
    bool, typer.Option("--missing-is-empty", help="Treat chunks that a Zarr store lacks as empty.")
]
Tolerance = Annotated[float, typer.Option(max=1e6, help="Tolerance of the surface Dice; the leaderboard's is 2.")]
Spacing = Annotated[
    str | None, typer.Option(help="Voxel spacing z,y,x, in the unit of the tolerance; 1,1,1 by default.")
]
Splits = Annotated[str | None, typer.Option(help="Tiles of the TopoScore along z,y,x; 2,2,2 by default.")]
VoiAlpha = Annotated[float, typer.Option(max=1e6, help="How steeply the VOI score falls.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    prediction: Annotated[Path, typer.Argument(help="Mask, or a folder of them: TIFF, NPY, NPZ or Zarr.")],
    truth: Annotated[Path, typer.Argument(help="Label, or a folder of them; matched by name without suffix.")],
    as_json: Json = False,
    csv: Csv = None,
    workers: Workers = None,
    train_csv: TrainCsv = None,
    quick: Quick = False,
    prediction_array: PredictionArray = None,
    truth_array: TruthArray = None,
    ignore_label: IgnoreLabel = None,
    surface: Surface = None,
    missing_is_empty: MissingIsEmpty = False,
    tolerance: Tolerance = 2.0,
    spacing: Spacing = None,
    splits: Splits = None,
    voi_alpha: VoiAlpha = 0.3,
) -> int:
    """Score masks as the leaderboard does.

    Cases that cannot be scored are named and the others are scored all the same. Exit code 0 if every case was scored,
    2 if a file is missing or at fault, 1 if scoring itself failed.
    """
    from volumen.files import refuse_existing
    from volumen.metrics.files import score_files, values_of
    from volumen.system.places import writable_file
    from volumen.system.processes import processors

    if csv is not None:
        refuse_existing(csv, "the table", "choose another name, or remove it")
        writable_file(csv)
    values = values_of(surface, ignore_label)
    pairs = _pairs(prediction, truth, train_csv)
    options: LeaderboardOptions = {"ignore_label": values.ignore, "tolerance": tolerance, "voi_alpha": voi_alpha}
    _add_geometry(options, spacing, splits, pairs)
    workers = workers or processors()
    options["threads"] = max(1, processors() // min(workers, len(pairs)))
    names = (prediction_array, truth_array)
    with progress_bar("scoring", "cases") as show:
        scores = score_files(
            pairs, options, names=names, quick=quick, values=values, missing_is_empty=missing_is_empty,
            workers=workers, progress=show,
        )  # fmt: skip
    return _report(scores, as_json, csv)


def _pairs(prediction: Path, truth: Path, train_csv: Path | None) -> "list[Pair]":
    """The cases, with their scrolls where a table names them."""
    from volumen.data.tables import read_scrolls, unjoined
    from volumen.errors import UserError
    from volumen.metrics.files import find_pairs
    from volumen.system.names import some

    scrolls = {} if train_csv is None else read_scrolls(train_csv)
    pairs = find_pairs(prediction, truth, scrolls)
    if train_csv is not None:
        if problem := unjoined(train_csv, scrolls, [pair.id for pair in pairs]):
            raise UserError(problem)
        if without := [pair.id for pair in pairs if pair.id not in scrolls]:
            say(f"note: no row in {train_csv} for {some(without)}: their scroll is unknown", aside=True)
    return pairs


def _add_geometry(
    options: "LeaderboardOptions", spacing: str | None, splits: str | None, pairs: "Sequence[Pair]"
) -> None:
    """Add voxel sizes and tiles that were asked for; say where files have voxels that are no cubes."""
    from volumen.data.arrays import spacing_in
    from volumen.data.spacing import not_cubes
    from volumen.errors import UserError

    if spacing is None:
        for note in not_cubes({pair.id: spacing_in(pair.truth) for pair in pairs if pair.truth}):
            say(f"note: {note}; --spacing measures the surface Dice in their unit", aside=True)
    else:
        options["spacing"] = three_numbers(spacing, "--spacing")
    if splits is not None:
        options["splits"] = three_whole_numbers(splits, "--splits")
        if max(options["splits"]) > MOST_TILES:
            raise UserError(f"--splits must be at most {MOST_TILES} along each axis, got {splits:.80}")


def _report(scores: "FileScores", as_json: bool, csv: Path | None) -> int:
    """Print and write the scores; the exit code."""
    import json

    from volumen.errors import EXIT_FAILURE, EXIT_USER_ERROR
    from volumen.files import write_atomically
    from volumen.reporting.console import console_for
    from volumen.reporting.score_tables import print_scores

    if as_json:
        say(json.dumps(scores.to_dict(), indent=2))
    else:
        print_scores(scores, console_for())
    for failure in scores.failures:
        say(f"error: case {failure.id}: {failure.message}", aside=True)
    if csv is not None:  # last: a disk that is full by now takes nothing away
        write_atomically(csv, scores.to_csv())
        if not as_json:
            say(f"written: {csv}")
    if not scores.failures:
        return 0
    return EXIT_USER_ERROR if all(failure.is_user_error for failure in scores.failures) else EXIT_FAILURE
