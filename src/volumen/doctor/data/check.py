"""P7: the data set, its division, and what is really drawn from it."""

from collections.abc import Iterator, Sequence

from volumen.doctor.check import Check
from volumen.doctor.context import Context
from volumen.doctor.data.alignment import check_alignment
from volumen.doctor.data.division import check_division
from volumen.doctor.data.faces import FACES, check_continuations
from volumen.doctor.data.grey import GREY
from volumen.doctor.data.grey_values import check_grey_values
from volumen.doctor.data.patches import SHEETS, check_patches
from volumen.doctor.data.placement import PLACEMENT
from volumen.doctor.data.prints import PRINT
from volumen.doctor.data.readings import Measure, Numbers, numbers_of, read_volumes, some_volumes
from volumen.doctor.data.sampling import check_sampling
from volumen.doctor.data.twins import check_twins
from volumen.doctor.data.volume_numbers import VOLUME
from volumen.doctor.data.volumes import check_volumes, upright
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

OF_IMAGES: tuple[Measure, ...] = (PRINT, GREY, FACES)
OF_LABELS: tuple[Measure, ...] = (PLACEMENT, VOLUME)
"""They take about a second a volume: the quick audit has them of `some_volumes`, the full one of all."""
MEASURES: tuple[Measure, ...] = (*OF_IMAGES, SHEETS)
"""What is measured of every labelled volume, in one read of it; of those without a label what images tell."""


def check_data(context: Context) -> Iterator[Finding]:
    """Whether images and labels belong together, and the fold and the patches are what they should be."""
    yield from _constant_volumes(context)
    chosen = some_volumes(context)
    read_volumes(context, (*MEASURES, *OF_LABELS), chosen)
    read = read_volumes(context, MEASURES)
    yield from check_alignment(_placed(context, chosen))
    yield from check_volumes(context)
    yield from _nothing_to_find(context)
    unlabelled = (case.id for case in context.dataset.cases if not case.has_label)
    read = {**read, **{case_id: numbers_of(context.dataset, case_id, OF_IMAGES) for case_id in unlabelled}}
    prints, greys, faces = (
        {case_id: numbers[measure.name] for case_id, numbers in read.items()} for measure in OF_IMAGES
    )
    yield from check_twins(context, prints)
    yield from check_continuations(context, faces)
    yield from check_grey_values(context, greys, upright(context))
    yield from check_division(context)
    patches = tuple(check_patches(context))
    yield from patches or check_sampling(context)  # what is drawn wrongly follows from patches that are wrong


def check_every_volume(context: Context) -> Iterator[Finding]:
    """What the quick audit asks of some volumes, of all of them where there are more."""
    ids = (*context.training, *context.validation)
    if len(ids) > len(some_volumes(context)):
        yield from check_alignment(_placed(context, ids))
        yield from check_volumes(context, ids)


def _placed(context: Context, ids: Sequence[str]) -> dict[str, Numbers]:
    read = read_volumes(context, (PLACEMENT,), ids)
    return {case_id: numbers[PLACEMENT.name] for case_id, numbers in read.items()}


def _constant_volumes(context: Context) -> Iterator[Finding]:
    flat = [case.id for case in context.dataset.cases if not case.statistics.std > 0]
    if flat:
        yield Finding(
            code="P7",
            severity=Severity.stop,
            title=counted(len(flat), "volume is constant", "volumes are constant"),
            evidence=f"standard deviation 0: {', '.join(flat[:5])}{' ...' if len(flat) > 5 else ''}",
            causes=("an export or conversion failed",),
            remedies=("export them again, or remove them",),
            where=f"train_images/{flat[0]}",
        )


def _nothing_to_find(context: Context) -> Iterator[Finding]:
    """Held-out volumes without surface: no ratio of what was found to what there is has a value on them."""
    if any(context.dataset.case(name).surface_voxels for name in context.validation):
        return
    yield Finding(
        code="P7",
        severity=Severity.stop,
        title="no held-out volume has surface",
        evidence=(
            f"{', '.join(context.validation[:5])}: {context.config.training.selection_metric}, by which the best "
            "checkpoint is chosen, says nothing there of what a network finds"
        ),
        causes=("volumes without surface make up a fold",),
        remedies=("another data.fold, or volumen folds anew with fewer folds",),
        where=context.where("data.fold"),
    )


DATA = Check(code="P7", title="Data and division", run=check_data, seconds=4.0, thorough=check_every_volume)
