"""P7: the data set, its division, and what is really drawn from it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.alignment import measure_alignment
from volumen.doctor.audit.check import Check
from volumen.doctor.audit.context import Context
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

ALIKE = 0.995  # correlation of block means above which two volumes are one
BLOCKS = 8
DRAWS = 200
SAMPLING_ERROR = 0.15
ALIGNED_CASES, ALIGNED_VOXELS = 6, 64
SHIFTED, SMALL_GAIN = 1.2, 0.005
"""Factor and sum by which another place must explain more; measured: healthy 0.98, shifted by 6 voxels 1.4 and more."""
UNRELATED, RELATED = 0.05, 0.1
"""Measured: exchanged labels at most 0.03 in place and 0.055 at any shift, healthy ones 0.22 to 0.47."""


def check_data(context: Context) -> Iterator[Finding]:
    """P7."""
    yield from _constant_volumes(context)
    yield from _alignment(context)
    yield from _nothing_to_find(context)
    yield from _leaks(context)
    yield from _sampling(context)


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


def _alignment(context: Context) -> Iterator[Finding]:
    """Labels that fit their images better elsewhere, or not at all."""
    ids = [case_id for case_id in context.training if context.dataset.case(case_id).scanned_surface]
    chosen = ids[:: max(1, len(ids) // ALIGNED_CASES)][:ALIGNED_CASES]
    found = measure_alignment([context.middle(case_id, ALIGNED_VOXELS) for case_id in chosen]) if chosen else None
    if found is None:
        return
    best, here = found.best, found.here
    measured = (
        f"over {counted(found.volumes, 'volume')} the image's local shape explains {here:.3f} of the labels' variance"
    )
    if found.explained[best] > max(SHIFTED * here + SMALL_GAIN, RELATED):
        yield Finding(
            code="P7",
            severity=Severity.stop,
            title="labels are shifted against their images",
            evidence=f"{measured}; with the labels moved by {list(best)} voxels (z y x) {found.explained[best]:.3f}",
            causes=("another origin, padding or orientation of the label files", "an off-by-one crop"),
            remedies=("look at a slice of image and label, mend the files and prepare again",),
            where="train_labels",
        )
    elif here < UNRELATED:
        twin = f"; with another volume's labels {found.exchanged:.3f}" if found.exchanged > here else ""
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="labels have next to nothing to do with their images",
            evidence=f"{measured}{twin}; measured on healthy data sets: 0.2 to 0.5",
            causes=("labels of other volumes: names that were mixed up", "a scan in which surfaces do not show"),
            remedies=("look at a slice of image and label",),
            where="train_labels",
        )


def _leaks(context: Context) -> Iterator[Finding]:
    dataset = context.dataset
    training, validation = ([dataset.case(i) for i in ids] for ids in (context.training, context.validation))
    shared = sorted({case.scroll_id for case in training} & {case.scroll_id for case in validation})
    if shared and len({case.scroll_id for case in dataset.labelled}) > 1:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="training and validation share scrolls",
            evidence=f"scrolls on both sides: {', '.join(shared[:5])}; volumes of one scroll are alike",
            causes=("the folds were made by volume",),
            remedies=("volumen folds PREPARED --by scroll",),
            where=context.where("data.folds"),
        )
    known = {case.image_sha256: case.id for case in training}
    if not training or not validation:
        return
    ours = np.stack([_block_means(np.asarray(dataset.image(case.id))) for case in training])
    for case in validation:
        likeness = ours @ _block_means(np.asarray(dataset.image(case.id)))
        nearest = int(likeness.argmax())
        twin = known.get(case.image_sha256) or (training[nearest].id if likeness[nearest] > ALIKE else None)
        if twin is not None:
            yield Finding(
                code="P7",
                severity=Severity.stop,
                title=f"the held-out volume {case.id} is in the training part as {twin}",
                evidence=(
                    "same file" if case.image_sha256 in known else f"block means correlate by {likeness[nearest]:.4f}"
                ),
                causes=("a volume is in the data set twice", "two crops overlap"),
                remedies=("remove one of them", "put both into one fold by giving them one scroll_id"),
                where=f"train_images/{case.id}",
            )


def _block_means(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Means of 8 x 8 x 8 blocks' middles: a print of the volume that costs a few thousand reads."""
    picks = [np.linspace(0, n - 1, 4 * BLOCKS).astype(int) for n in image.shape]
    sample = np.asarray(image[picks[0]][:, picks[1]][:, :, picks[2]], dtype=np.float64)
    means = sample.reshape(BLOCKS, 4, BLOCKS, 4, BLOCKS, 4).mean(axis=(1, 3, 5)).ravel()
    centred = means - means.mean()
    result: NDArray[np.float64] = centred / max(float(np.linalg.norm(centred)), 1e-12)
    return result


def _sampling(context: Context) -> Iterator[Finding]:
    wanted = context.config.data.sampling
    draws = [context.patches.draw(0, index) for index in range(min(DRAWS, max(len(context.patches), 1)))]
    centred = sum(draw.centred for draw in draws) / len(draws)
    redrawn = sum(draw.attempts > 1 for draw in draws) / len(draws)
    if abs(centred - wanted.surface_share) > SAMPLING_ERROR and len(draws) >= 50:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="patches are not drawn as requested",
            evidence=f"{centred:.0%} of {len(draws)} patches lie on surface, {wanted.surface_share:.0%} were asked for",
            causes=("volumes without surface",),
            remedies=("change data.sampling.surface_share to what the data set holds",),
            where=context.where("data.sampling.surface_share"),
        )
    if redrawn > 0.5:
        yield Finding(
            code="P7",
            severity=Severity.warn,
            title="most patches have to be drawn again",
            evidence=f"{redrawn:.0%} of {len(draws)} were labelled to less than {wanted.minimum_valid_share:.0%}",
            causes=("the minimum asks for more than the labels hold",),
            remedies=("lower data.sampling.minimum_valid_share",),
            where=context.where("data.sampling.minimum_valid_share"),
        )


DATA = Check(
    code="P7",
    title="Data and division",
    symptom="A validation score that no new volume ever reaches, or a network that cannot tell edges from noise.",
    why=(
        "Volumes of one scroll are alike, a volume may be there twice, and a sampler that asks for more surface than "
        "there is takes what it gets."
    ),
    measured=(
        "Volumes without contrast; labels that fit their images better 4 to 12 voxels away, or not at all, by a linear "
        "model on the image's local derivatives; scrolls, files and near-identical volumes on both sides of the fold; "
        "200 drawn patches against what was requested."
    ),
    remedy="Group folds by scroll, remove duplicates, and look at a slice with its label.",
    run=check_data,
    seconds=4.0,
)
