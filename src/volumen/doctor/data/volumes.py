"""Volumes that are unlike the others: measured one by one, told apart, and shown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from volumen.data.dataset import Case
from volumen.data.pictures import choose_slices, encode_png, slice_panel
from volumen.doctor.context import Context, once
from volumen.doctor.data.outlier_laws import Law
from volumen.doctor.data.outliers import FEWEST_VOLUMES, findings_of, outliers
from volumen.doctor.data.portraits import Portrait, portraits_of
from volumen.doctor.data.readings import Seen, read_volumes, some_volumes
from volumen.doctor.data.volume_numbers import VOLUME, measure_volume
from volumen.doctor.findings import Finding, Severity
from volumen.files import write_atomically
from volumen.system.output import counted

EMPTY_SURFACE = (0.1, 0.25)
"""Share of a volume's surface that may lie where its scan holds nothing, before that is worth a note and a warning;
measured: up to 0.17 in crops whose darkest grey values were cut off."""
MOST_TRIED = 3
PLAINLY, KNOWN = 0.1, 0.15
"""Agreements with the other volumes' model that differ, and that are more than chance."""
FITS = 0.4
"""Agreement from which on another volume's label is this one's: exchanged ones have 0.3 at most, healthy ones 0.5."""

Volumes = tuple[Mapping[str, Portrait], Mapping[str, Law]]


@once
def examine_volumes(context: Context) -> Volumes:
    """Portraits of the labelled volumes, or of many of them, and the outliers among them."""
    return _examined(context, some_volumes(context))


def _examined(context: Context, ids: Sequence[str]) -> Volumes:
    numbers = {case: found[VOLUME.name] for case, found in read_volumes(context, (VOLUME,), ids).items()}
    portraits = portraits_of(numbers)
    return portraits, outliers(portraits)


def check_volumes(context: Context, ids: Sequence[str] | None = None) -> Iterator[Finding]:
    """Volumes in which something is otherwise than in the others: among those named, or among `some_volumes`."""
    if ids is None:
        yield from _surface_where_nothing_is(context)
    portraits, found = examine_volumes(context) if ids is None else _examined(context, ids)
    unrelated = [case for case, law in found.items() if law.title.startswith("label and image")]
    partners = _partners(context, unrelated) if 2 <= len(unrelated) <= MOST_TRIED else []
    for finding in findings_of(portraits, found):
        yield _exchanged(finding, partners) if partners and "label and image" in finding.title else finding


def upright(context: Context) -> frozenset[str]:
    """Cases in which the other volumes' model knows something of the labels, and no more of the image's negative."""
    portraits, _ = examine_volumes(context)
    return frozenset(
        case
        for case, one in portraits.items()
        if one.others > one.negative - PLAINLY and max(one.others, one.negative) > KNOWN
    )


def write_pictures(context: Context, folder: Path) -> list[Path]:
    """Image and label of every outlier at the slice with most surface, and of one volume that is none, as PNG.

    Raises:
        OSError: The folder cannot be written.
    """
    portraits, found = examine_volumes(context)
    usual = [case for case in portraits if case not in found][:1]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case in (*found, *usual):
        image, label = np.asarray(context.dataset.image(case)), np.asarray(context.dataset.lesson(case))
        panel = slice_panel(image, label, np.zeros_like(label), 0, choose_slices(label)[0])
        place = folder / f"{case}-{'outlier' if case in found else 'usual'}.png"
        write_atomically(place, encode_png(panel[:, : (2 * panel.shape[1]) // 3]))
        written.append(place)
    return written


def _surface_where_nothing_is(context: Context) -> Iterator[Finding]:
    """Labelled surface in empty parts of the scan, in few volumes: there an image is lost, not masked."""
    cases = [context.dataset.case(case) for case in (*context.training, *context.validation)]
    cases = [case for case in cases if case.surface_voxels]
    lost = [case for case in cases if _lost(case) > EMPTY_SURFACE[0]]
    if not lost or len(cases) < FEWEST_VOLUMES or 2 * len(lost) > len(cases):
        return
    named = ", ".join(f"{case.id} {_lost(case):.0%}" for case in lost[:MOST_TRIED])
    yield Finding(
        code="P7",
        severity=Severity.warn if max(map(_lost, lost)) > EMPTY_SURFACE[1] else Severity.note,
        title=f"{counted(len(lost), 'volume')} of {len(cases)}: surface is labelled where the image is empty",
        evidence=f"share of the surface that lies there: {named}; the others at most {EMPTY_SURFACE[0]:.0%}",
        causes=("a part of the image was lost", "labels of another volume, or shifted ones"),
        remedies=("export the image again, or mark that part as ignore", "look at a slice of image and label"),
        where=f"train_images/{lost[0].id}",
    )


def _lost(case: Case) -> float:
    return 1 - case.scanned_surface / case.surface_voxels


def _partners(context: Context, unrelated: Sequence[str]) -> list[tuple[str, str]]:
    """Images and the labels of other volumes that fit them."""
    dataset, found = context.dataset, []
    for mine in unrelated:
        for other in unrelated:
            if mine != other and dataset.case(mine).shape == dataset.case(other).shape:
                image, label = np.asarray(dataset.image(mine)), np.asarray(dataset.lesson(other))
                numbers = measure_volume(Seen(dataset.case(mine), image, label))
                if portraits_of({mine: numbers})[mine].own > FITS:
                    found.append((mine, other))
    return found


def _exchanged(finding: Finding, partners: Sequence[tuple[str, str]]) -> Finding:
    pairs = ", ".join(f"the label of {other} fits the image of {mine}" for mine, other in partners)
    return Finding(
        code=finding.code,
        severity=finding.severity,
        title="labels of volumes are exchanged",
        evidence=f"{pairs}. {finding.evidence}",
        causes=("label files were given each other's names",),
        remedies=("give each image its own label file, and prepare again", *finding.remedies),
        where=finding.where,
    )
