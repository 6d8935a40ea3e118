"""Where in its file does a patch come from, and does its label come from the same place, turned in the same way?"""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from volumen.doctor.code.agreement import Array, Turn, turn, turns, words
from volumen.doctor.code.given import surface_of
from volumen.doctor.code.subject import Subject, finding
from volumen.doctor.findings import Finding, Severity
from volumen.errors import UserError

FOUND = 0.8
"""Correlation from which on a patch counts as found: noise and grey values may be augmented."""
SAME = 0.8
"""Dice of labels from one place."""
SECONDS = 15.0
Place = tuple[float, Turn, tuple[int, ...]]


def check_origin(subject: Subject) -> Iterator[Finding]:
    """P7: look for the first patch in the raw image, and for its label in the raw label."""
    assert subject.raw is not None
    image, label = (np.squeeze(np.asarray(one)) for one in subject.raw)
    patch = subject.batch.image[0, 0].float().cpu().numpy()
    if (
        image.shape != label.shape
        or image.ndim != patch.ndim
        or any(a > b for a, b in zip(patch.shape, image.shape, strict=True))
    ):
        raise UserError(
            f"raw is (image, label) as the files hold them, both of one shape [Z, Y, X] that holds a patch "
            f"{list(patch.shape)}; got {list(image.shape)} and {list(label.shape)}"
        )
    surface, known = surface_of(subject, subject.batch.target[0])
    truth = (label > 0) & (
        np.ones(label.shape, bool) if subject.ignore_index is None else label != subject.ignore_index
    )
    found = _where(image.astype(np.float32), patch)
    if found[0] < FOUND:
        return
    agreed = _dice(truth, surface, known, found)
    if agreed >= SAME:
        return
    other = _where(truth.astype(np.float32), surface.astype(np.float32))
    there = f"; it is found at {list(other[2])} {words(other[1])}".rstrip() if other[0] >= FOUND else ""
    yield finding(
        "P7",
        Severity.stop,
        "a patch's label does not come from where its image comes from",
        f"the image is found at {list(found[2])} {words(found[1])} (correlation {found[0]:.2f}), where the label has "
        f"Dice {agreed:.2f}{there}",
        "a crop, flip or order of axes that is drawn for one of them alone",
        "give image and label to one transform, with one draw",
        "batches",
    )


def _where(whole: Array, patch: Array) -> Place:
    """The best correlation of a patch, turned in any way, with a part of the whole, and where it lies."""
    began = time.perf_counter()
    shape = [fft.next_fast_len(side, real=True) for side in whole.shape]
    spectrum = fft.rfftn(whole - whole.mean(), shape)
    best: Place = (-1.0, turns(patch.shape)[0], (0,) * patch.ndim)
    for how in turns(patch.shape):
        turned = np.ascontiguousarray(turn(patch, how))
        map_ = fft.irfftn(spectrum * np.conj(fft.rfftn(turned - turned.mean(), shape)), shape)
        inside = map_[tuple(slice(0, a - b + 1) for a, b in zip(whole.shape, turned.shape, strict=True))]
        at = tuple(int(one) for one in np.unravel_index(int(np.argmax(inside)), inside.shape))
        part = whole[_window(at, turned)]
        spread = float(part.std() * turned.std())
        value = float(((part - part.mean()) * (turned - turned.mean())).mean()) / spread if spread > 0 else -1.0
        best = max(best, (value, how, at), key=lambda place: place[0])
        if best[0] > 0.95 or time.perf_counter() - began > SECONDS:
            break
    return best


def _window(at: tuple[int, ...], patch: Array) -> tuple[slice, ...]:
    return tuple(slice(one, one + side) for one, side in zip(at, patch.shape, strict=True))


def _dice(truth: NDArray[np.bool_], surface: NDArray[np.bool_], known: NDArray[np.bool_], place: Place) -> float:
    """Dice of a label with the whole's, at the place of its image."""
    mine, counts = turn(surface, place[1]).astype(bool), turn(known, place[1]).astype(bool)
    theirs = truth[_window(place[2], mine)]
    total = int((mine & counts).sum() + (theirs & counts).sum())
    return 1.0 if total == 0 else 2 * int((mine & theirs & counts).sum()) / total
