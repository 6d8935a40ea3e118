"""Arguments that several commands have, and what each of them does first."""

import json
from pathlib import Path
from typing import Annotated

import typer

ConfigSource = Annotated[str, typer.Argument(help="A YAML file or preset:NAME.")]
Run = Annotated[Path, typer.Argument(help="Run folder, as `volumen train` printed it.")]
RunOrBundle = Annotated[
    Path, typer.Argument(help="Run folder, or a bundle (model.volumen), which needs nothing beside it.")
]
Which = Annotated[str, typer.Option(help="Weights of a run: best, best_loss, last, plain, average or swa.")]

Dataset = Annotated[Path | None, typer.Option(help="Prepared data set, if it has moved.")]

Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override", "-o", help="Change a setting of prediction: -o postprocessing.steps.1.minimum_voxels=500"
    ),
]
Tile = Annotated[str | None, typer.Option(help="Tile in voxels, z,y,x; the configured one otherwise.")]
Overlap = Annotated[float | None, typer.Option(help="Overlap of neighbouring tiles, share of a tile.")]
Mirror = Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="Average over the eight mirror images.")]
Rotate = Annotated[bool | None, typer.Option("--rotate/--no-rotate", help="Average over four quarter turns about z.")]
Pipeline = Annotated[
    str | None,
    typer.Option(
        "--postprocessing", help="Post-processing from a file (`volumen tune` writes one) or a preset: plan, scroll."
    ),
]


Setting = Annotated[
    list[str] | None, typer.Option("--override", "-o", help="Set one value: -o training.epochs=50. Repeatable.")
]
Fold = Annotated[int | None, typer.Option(help="The fold held out; the same as -o data.fold=K.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def tune_process() -> None:
    """Settings that have to be made before torch is imported."""
    from volumen.runtime import tune_allocator

    tune_allocator()  # before torch allocates anything


def overrides_of(given: list[str] | None, fold: int | None, dataset: Path | None) -> list[str]:
    """The overrides of a configuration, with those that have an option of their own."""
    own = [] if fold is None else [f"data.fold={fold}"]
    own += [] if dataset is None else [f"data.dataset={json.dumps(str(dataset))}"]  # a path may look like a number
    return [*(given or []), *own]
