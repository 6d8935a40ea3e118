"""Data sets: `volumen prepare`, `phantom`, `import` and `export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volumen.cli.progress import progress_bar
from volumen.system.output import counted, say

if TYPE_CHECKING:
    from volumen.data.dataset import PreparedDataset


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(prepare)
    app.command()(phantom)
    app.command(name="import")(import_)
    app.command()(export)


def prepare(
    dataset: Annotated[Path, typer.Argument(help="Folder with train_images, train_labels, train.csv.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of threads.")] = 2,
    meanings: Annotated[
        Path | None, typer.Option(help="What the label values mean; otherwise dataset.yaml in the data set's folder.")
    ] = None,
    accept_proposal: Annotated[
        bool, typer.Option("--accept-proposal", help="Without dataset.yaml: go on with the proposed meanings.")
    ] = False,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Pack files again if they have changed since.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; compare all files with the recorded hashes.")
    ] = False,
) -> None:
    """Verify a whole data set and pack it for training.

    Everything that is wrong is reported at once. Cases that are packed already are skipped.
    """
    from volumen.errors import UserError

    if check:
        from volumen.data.prepare import check as compare

        prepared, messages = compare(dataset, out)
        if messages:
            listed = "\n".join(f"  {number}. {message}" for number, message in enumerate(messages, start=1))
            raise UserError(f"{out} and {dataset} differ from what was recorded:\n{listed}")
        say(
            f"{counted(len(prepared.cases), 'case')}: every file is as it was recorded (identity "
            f"{prepared.identity[:12]})"
        )
        return
    from volumen.data.prepare import prepare as run

    with progress_bar("preparing", "cases") as show:
        prepared = run(
            dataset,
            out,
            meanings_file=meanings,
            accept_proposal=accept_proposal,
            accept_changes=accept_changes,
            workers=workers,
            progress=show,
        )
    _print_summary(prepared)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write, in the layout that `volumen prepare` reads.")],
    volumes: Annotated[int, typer.Option(min=1, max=100_000, help="Number of labelled volumes.")] = 6,
    test_volumes: Annotated[int, typer.Option(min=0, max=100_000, help="Number of volumes without a label.")] = 0,
    size: Annotated[int, typer.Option(min=32, max=2048, help="Side of a volume in voxels.")] = 96,
    scrolls: Annotated[int, typer.Option(min=1, help="Number of scrolls they come from.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same bytes.")] = 0,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0, help="0 easy to 1 hard.")] = 0.5,
) -> None:
    """Make synthetic scrolls: rolled, folded, touching sheets in a simulated scan, labelled as in the competition."""
    from volumen.phantoms.scrolls import write_phantom_dataset

    folder = write_phantom_dataset(
        out,
        volumes=volumes,
        shape=(size, size, size),
        scrolls=scrolls,
        seed=seed,
        test_volumes=test_volumes,
        difficulty=difficulty,
    )
    say(
        f"{volumes} labelled and {counted(test_volumes, 'test volume')} of {size} x {size} x {size} "
        f"from {counted(scrolls, 'scroll')}: {folder}"
    )


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Text left, numbers right."""
    from rich.box import SIMPLE
    from rich.table import Table

    from volumen.reporting.console import console_for

    table = Table(box=SIMPLE, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console_for().print(table)


def _print_summary(prepared: "PreparedDataset") -> None:
    rows = []
    groups: dict[tuple[str, bool], list[str]] = {}
    for case in prepared.cases:
        groups.setdefault((case.scroll_id, case.has_label), []).append(case.id)
    for (scroll, labelled), ids in sorted(groups.items(), key=lambda item: (not item[0][1], item[0][0])):
        cases = [prepared.case(case_id) for case_id in ids]
        shapes = sorted({case.shape for case in cases})
        shown = " ".join("x".join(map(str, shape)) for shape in shapes[:2]) + (" ..." if len(shapes) > 2 else "")
        voxels, valid = sum(case.voxels for case in cases), sum(case.valid_voxels for case in cases)
        surface = sum(case.surface_voxels for case in cases)
        shares = [f"{surface / valid:.1%}", f"{1 - valid / voxels:.1%}"] if labelled and valid else ["-", "-"]
        rows.append([scroll, "labelled" if labelled else "test", str(len(ids)), shown, *shares])
    print_table(["scroll", "part", "cases", "shapes", "surface (of labelled)", "ignored (of all)"], rows)
    say(f"labels: {prepared.meanings.written}")
    for note in prepared.notes:
        say(f"note: {note}")
    say(f"{counted(len(prepared.cases), 'case')} in {prepared.root} (identity {prepared.identity[:12]})")


def import_(
    folder: Annotated[Path, typer.Argument(help="An nnU-Net data set: DatasetNNN_Name with TIFF volumes.")],
    out: Annotated[Path, typer.Argument(help="New folder, in the layout that `volumen prepare` reads.")],
    surface: Annotated[
        list[str] | None, typer.Option(help="Label that is surface, if there are several. Repeatable.")
    ] = None,
) -> None:
    """Convert an nnU-Net data set to the layout that `volumen prepare` reads, label meanings included."""
    from volumen.data.nnunet import import_nnunet

    count = import_nnunet(folder, out, surface=surface or ())
    say(f"written: {out} ({counted(count, 'case')})")
    say(f"next: volumen prepare {out} --out prepared/{out.name}")


def export(
    prepared: Annotated[Path, typer.Argument(help="Folder written by `volumen prepare`.")],
    out: Annotated[Path, typer.Argument(help="Folder to write, called DatasetNNN_Name as nnU-Net wants it.")],
) -> None:
    """Write a prepared data set as an nnU-Net data set."""
    from volumen.data.dataset import PreparedDataset
    from volumen.data.nnunet import export_nnunet
    from volumen.system.names import some

    with progress_bar("writing", "cases") as progress:
        dataset = PreparedDataset.open(prepared)
        count = export_nnunet(dataset, out, progress)
    unknown = [case.id for case in dataset.cases if (size := dataset.spacing(case.id)) is None or size.whole is None]
    if unknown:
        say(
            f"note: the voxel size of {some(unknown)} is not known, and none was written; nnU-Net takes 1, 1, 1: "
            "declare spacing_um in dataset.yaml and prepare again where that is wrong"
        )
    say(f"written: {out} ({counted(count, 'case')})")
