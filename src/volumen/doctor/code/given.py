"""What a training step is given: grey values, label values, and whether they belong together."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from volumen.doctor.code.agreement import Agreement, Shift, Turn, measure, words
from volumen.doctor.code.subject import Batch, Subject, finding
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

MOST_LOOKED_AT = 8
FAINT, LOUD = 5e-3, 30.0
"""Standard deviations of images between which networks begin to learn."""
OFF = 20.0
"""Mean, in standard deviations or absolute."""
MOSTLY = 0.75
KNOWS, BETTER, GAIN = 0.15, 1.4, 0.05
"""What another place must explain, and by which factor and sum more than this one."""
SHIFTED, SHIFT_GAIN = 1.25, 0.02


def check_batches(subject: Subject) -> Iterator[Finding]:
    """P1 and P7 of the batches."""
    for look in (_shapes, _images, _labels):
        found = look(subject)
        if found is not None:
            yield found
            if found.severity == Severity.stop:
                return
    yield from _places(subject)


def _shapes(subject: Subject) -> Finding | None:
    for batch in subject.batches:
        image, target = batch.image, batch.target
        inner = target.shape[1:] if target.ndim == image.ndim - 1 else target.shape[2:]
        if len(image) != len(target) or image.shape[2:] != inner:
            return finding(
                "P7",
                Severity.stop,
                "image and label have different shapes",
                f"images {list(image.shape)}, labels {list(target.shape)}",
                "a crop, padding or resampling of one of them, or axes in another order",
                "do the same to both, the label by nearest neighbours",
                "batches",
            )
    return None


def _images(subject: Subject) -> Finding | None:
    samples = [one.float() for batch in subject.batches for one in batch.image]
    broken = sum(not bool(torch.isfinite(one).all()) for one in samples)
    if broken:
        return finding(
            "P7",
            Severity.stop,
            "images hold voxels that are no numbers",
            f"{broken} of {counted(len(samples), 'image')} have NaN or infinity",
            "a division by a standard deviation of 0, or a broken file",
            "divide by max(std, 1e-6), and look at the files",
            "batches",
        )
    spreads = np.array([float(one.std()) for one in samples])
    means = np.array([float(one.mean()) for one in samples])
    constant = int((spreads == 0).sum())
    evidence = f"median mean {np.median(means):.4g}, median standard deviation {np.median(spreads):.4g}"
    if constant * 2 >= len(samples):
        return finding(
            "P7",
            Severity.stop,
            "images are constant",
            f"{constant} of {counted(len(samples), 'image')} have one value",
            "a normalisation that divides whole numbers, a clip to nothing, or an empty crop",
            "look at an image after each step of the loader",
            "batches",
        )
    found = _grey(spreads, means, evidence)
    if found is not None:
        return found
    if constant:
        return finding(
            "P7",
            Severity.note,
            "some images are constant",
            f"{constant} of {len(samples)}",
            "crops of an empty part",
            "draw patches from the part that was scanned",
            "batches",
        )
    return None


def _grey(spreads: NDArray[np.float64], means: NDArray[np.float64], evidence: str) -> Finding | None:
    """Too faint or too loud."""
    spread, mean = float(np.median(spreads)), float(np.median(np.abs(means)))
    if spread < FAINT:
        return finding(
            "P7",
            Severity.stop if spread < FAINT / 10 else Severity.warn,
            "images are scaled to next to nothing",
            evidence,
            "a division that is done twice, or by the range of another type",
            "normalise to mean 0 and standard deviation 1",
            "batches",
        )
    if spread > LOUD or mean > OFF:
        return finding(
            "P7",
            Severity.stop if spread > 3000 else Severity.warn,
            "images are not normalised",
            evidence,
            "grey values as the file holds them",
            "subtract the mean and divide by the standard deviation, as prediction must do as well",
            "batches",
        )
    return None


def classes_of(subject: Subject) -> int:
    """Number of classes, the background too."""
    if subject.classes is not None:
        return max(subject.classes, 2)
    if subject.model is not None and not subject.known.get("model_fails"):
        return max(subject.channels, 2)
    target = subject.batch.target
    onehot = target.ndim == subject.batch.image.ndim and target.shape[1] > 1
    return int(target.shape[1]) if onehot else 2


def _labels(subject: Subject) -> Finding | None:
    target = subject.batch.target
    if target.ndim == subject.batch.image.ndim and target.shape[1] > 1:
        return _onehot(subject)
    values, counts = np.unique(np.concatenate([_plain(one) for one in subject.batches]), return_counts=True)
    known = set(range(classes_of(subject))) | ({subject.ignore_index} if subject.ignore_index is not None else set())
    strange = [float(one) for one in values if float(one) not in known]
    evidence = (
        f"values {', '.join(f'{one:g}' for one in values[:8])}{' ...' if len(values) > 8 else ''}; "
        f"{classes_of(subject)} classes"
        + ("" if subject.ignore_index is None else f", {subject.ignore_index} is ignored")
    )
    if strange:
        between = [one for one in strange if not one.is_integer()]
        soft = between and min(strange) >= 0 and max(strange) <= classes_of(subject) - 1
        share = sum(int(n) for one, n in zip(values, counts, strict=True) if float(one) in strange) / counts.sum()
        if soft and len(between) == len(strange):
            scaled = float(values.max()) < 0.5
            return finding(
                "P1",
                Severity.stop if scaled else Severity.warn,
                "labels hold values between the classes",
                f"{evidence}; {share:.1%} of the voxels",
                "a label that was divided by 255" if scaled else "labels that were resampled by interpolation",
                "resample labels by nearest neighbours, as whole numbers",
                "batches",
            )
        return finding(
            "P1",
            Severity.stop,
            "labels hold values that are no class and not ignored",
            f"{evidence}; {share:.1%} of the voxels",
            "masks of 0 and 255, an ignored label that nobody declared, or another table of classes",
            "map them to 0 .. classes - 1, and declare what is ignored with ignore_index=",
            "batches",
        )
    shares = dict(zip(values.tolist(), (counts / counts.sum()).tolist(), strict=True))
    return _share(subject, shares)


def _share(subject: Subject, shares: dict[float, float]) -> Finding | None:
    """Next to nothing or nearly all of one class."""
    ignored = shares.pop(float(subject.ignore_index), 0.0) if subject.ignore_index is not None else 0.0
    if ignored > 0.999:
        return finding(
            "P1",
            Severity.stop,
            "everything is ignored",
            f"{ignored:.1%} of the voxels have the ignored label",
            "a wrong ignore_index, or patches from unlabelled parts",
            "look at the labels' values",
            "batches",
        )
    known = sum(shares.values())
    background = shares.get(0.0, 0.0) / known
    patches = counted(sum(len(one.image) for one in subject.batches), "patch", "patches")
    looked = f"{patches}: background {background:.1%} of the labelled voxels"
    if background == 1.0:
        return finding(
            "P7",
            Severity.stop,
            "the labels hold nothing but background",
            looked,
            "labels of another folder, a wrong threshold or type, or patches that never meet the foreground",
            "look at a label before and after the loader, and draw patches around foreground",
            "batches",
        )
    if background < 1 - MOSTLY:
        return finding(
            "P1",
            Severity.stop if background < 0.02 else Severity.warn,
            "most of the labels are foreground",
            looked,
            "foreground and background are exchanged, or unlabelled voxels count as foreground",
            "see which number means what: 0 is background",
            "batches",
        )
    return None


def _onehot(subject: Subject) -> Finding | None:
    target = torch.cat(
        [one.target.double() for one in subject.batches if one.target.shape[2:] == subject.batch.target.shape[2:]]
    )
    total = target.sum(1)
    least, most = float(target.min()), float(target.max())
    classes = target.shape[1]
    evidence = (
        f"{classes} channels, values {least:g} to {most:g}, their sum over a voxel {float(total.mean()):.3g} on average"
    )
    valid = total if subject.ignore_index is None else total[(target != subject.ignore_index).all(1)]
    if most > 1 or (least < 0 and subject.ignore_index is None):
        return finding(
            "P1",
            Severity.stop,
            "one-hot labels hold other values than 0 and 1",
            evidence,
            "masks of 0 and 255",
            "divide them by their maximum",
            "batches",
        )
    exclusive = bool(((valid - 1).abs() < 1e-3).all())
    if not exclusive and bool(((valid - (classes - 1)).abs() < 1e-3).all()):
        return finding(
            "P1",
            Severity.stop,
            "one-hot labels are turned round",
            evidence,
            "0 where a voxel is of the class, and 1 where it is not",
            "take 1 - label",
            "batches",
        )
    if not exclusive:
        return None
    shares = target.mean(dim=[0, *range(2, target.ndim)]).tolist()
    return _share(subject, {float(number): share for number, share in enumerate(shares) if share > 0})


def _plain(batch: Batch) -> NDArray[np.float64]:
    values = batch.target.double()
    if batch.valid is not None and batch.valid.numel() == values.numel():
        values = values[batch.valid.reshape(values.shape) > 0]
    return values.reshape(-1).cpu().numpy()


def surface_of(subject: Subject, target: Tensor) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a sample's label has foreground, and where it counts, both of the image's shape."""
    values = target.cpu().numpy()
    if values.ndim == subject.batch.image.ndim - 1 and values.shape[0] > 1:
        return np.asarray(values.argmax(0) > 0), np.ones(values.shape[1:], bool)
    values = values[0] if values.ndim == subject.batch.image.ndim - 1 else values
    known = np.ones(values.shape, bool) if subject.ignore_index is None else values != subject.ignore_index
    return (values > 0.5) & known, known


def _places(subject: Subject) -> Iterator[Finding]:
    """Labels that fit their images better elsewhere."""
    pairs = [pair for batch in subject.batches for pair in zip(batch.image, batch.target, strict=True)][:MOST_LOOKED_AT]
    found: list[Agreement] = []
    for image, target in pairs:
        shown = image[0].float().cpu().numpy()
        one = measure(shown, *surface_of(subject, target)) if min(shown.shape) >= 12 else None
        if one is not None:
            found.append(one)
    if not found:
        return
    subject.known["agreement"] = float(np.mean([one.here for one in found]))
    odd = [(one, how) for one in found if (how := _better(one)) is not None]
    if odd:
        yield _turned(found, odd)
        return
    shifts = {shift: float(np.mean([one.shifted.get(shift, 0.0) for one in found])) for shift in found[0].shifted}
    here = subject.known["agreement"]
    best: Shift = max(shifts, key=lambda shift: shifts[shift])
    if shifts[best] > max(SHIFTED * here + SHIFT_GAIN, KNOWS):
        yield finding(
            "P7",
            Severity.stop,
            "labels are shifted against their images",
            f"over {counted(len(found), 'patch', 'patches')} images explain {here:.3f} of their labels' variance; with "
            f"labels moved by {list(best)} voxels {shifts[best]:.3f}",
            "another origin, padding or crop of one of them",
            "crop and pad image and label by the same numbers",
            "batches",
        )


def _better(one: Agreement) -> Turn | None:
    best = max(one.turned, key=lambda how: one.turned[how])
    return best if one.turned[best] > max(BETTER * one.here + GAIN, KNOWS) else None


def _turned(found: list[Agreement], odd: list[tuple[Agreement, Turn]]) -> Finding:
    one, how = odd[0]
    some = len(odd) < len(found) or len({turn for _, turn in odd}) > 1
    return finding(
        "P7",
        Severity.stop,
        "some images are turned without their labels" if some else "labels are turned against their images",
        f"{len(odd)} of {counted(len(found), 'patch', 'patches')} fit better with the label {words(how)}: the image "
        f"then explains {one.turned[how]:.3f} of the label's variance, as it is {one.here:.3f}",
        "an augmentation that is drawn for the image and not for the label"
        if some
        else "axes of one of the files in another order or direction",
        "give image and label to one transform, with one draw" if some else "read both with the same order of axes",
        "batches",
    )
