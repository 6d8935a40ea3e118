"""Is a fold's held-out part new to what learns: scrolls and volumes on both sides."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from volumen.doctor.context import Context
from volumen.doctor.findings import Finding, Severity

ALIKE = 0.995  # correlation of block means above which two volumes are one
BLOCKS = 8


def check_division(context: Context) -> Iterator[Finding]:
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
