"""Does prediction give every voxel the network's answer, in evaluation mode and by the training's normalisation?

The network is replaced by one that gives its input back as logits. What comes back must then be, voxel by voxel, one
rising function of the volume: holes, lost borders, exchanged tiles and weights that do not add up are seen as they are.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from volumen.doctor.code.calling import Array, caller, echo
from volumen.doctor.code.kept import Kept
from volumen.doctor.code.subject import Output, Subject, finding
from volumen.doctor.findings import Finding, Severity

ERROR = 0.02
"""Of the answer's range by which a voxel may leave the rising function."""
LEVELS = 256
LEFT_OUT = 0.2
"""Share of one and the same value among many that says that these voxels were not predicted."""
SPREAD, OFF = 3.0, 1.5
"""Factor of the spread, and difference of the mean in spreads, between the inputs of training and of prediction."""
OVERLAP = 1.02


@dataclass
class Seen:
    """What the network was given while it predicted."""

    training: bool = False
    tiles: int = 0
    voxels: int = 0
    least: float = math.inf
    most: float = -math.inf
    moments: list[tuple[float, float]] = field(default_factory=list)
    channels: int = 1


def check_prediction(subject: Subject) -> Iterator[Finding]:
    """P3, P7 and P8 of `predict`."""
    model = subject.model
    kept = Kept(subject.roots)
    if model is None or not subject.batches:
        yield from _plain(*caller(subject)[1:])
        kept.restore()
        return
    real = Seen()
    model.train()
    with _watched(model, real, None):
        call, volume, answer = caller(subject)
    yield from _mode(real)
    strange = list(_normalisation(subject, real))
    yield from strange
    if not np.isfinite(answer).all():
        yield finding(
            "P8",
            Severity.stop,
            "predictions hold values that are no numbers",
            f"{int((~np.isfinite(answer)).sum())} of {answer.size} voxels",
            "weights of tiles that add up to 0",
            "divide by the sum of weights only where it is above 0",
            "predict",
        )
    elif real.tiles and not real.training and not strange:
        yield from _stitching(subject, model, call, volume)
    kept.restore()


def _mode(seen: Seen) -> Iterator[Finding]:
    if seen.training:
        yield finding(
            "P8",
            Severity.stop,
            "prediction runs the network in training mode",
            "the model was in training mode when predict was called, and still when it was given its tiles",
            "eval() is missing: batch norm takes the tile's statistics, dropout draws",
            "call model.eval() at the beginning of predict",
            "predict",
        )


def _normalisation(subject: Subject, seen: Seen) -> Iterator[Finding]:
    """Whether tiles look like the training's images; asked only where the volume is the user's own."""
    if subject.volume is None or not seen.moments or subject.known.get("P7"):
        return
    images = [one.float() for batch in subject.batches for one in batch.image]
    mean = float(np.median([float(one.mean()) for one in images]))
    spread = max(float(np.median([float(one.std()) for one in images])), 1e-9)
    theirs = float(np.median([one for one, _ in seen.moments])), float(np.median([one for _, one in seen.moments]))
    if 1 / SPREAD <= theirs[1] / spread <= SPREAD and abs(theirs[0] - mean) <= OFF * max(spread, theirs[1]):
        return
    yield finding(
        "P8",
        Severity.stop,
        "prediction normalises otherwise than training",
        f"tiles have mean {theirs[0]:.4g} and standard deviation {theirs[1]:.4g}, the training's images {mean:.4g} and "
        f"{spread:.4g}",
        "the normalisation is missing or other numbers are used",
        "use one function of normalisation for both",
        "predict",
    )


def _stitching(
    subject: Subject, model: nn.Module, call: Callable[[Array], Array], like_volume: Array
) -> Iterator[Finding]:
    """Predict noise with a network that gives its input back."""
    volume = _noise_like(like_volume)
    seen = Seen()
    model.eval()
    with _watched(model, seen, echo(subject, model)):
        answer = call(volume)
    if seen.tiles == 0:
        return
    shape = answer.shape
    if shape != volume.shape:
        yield finding(
            "P8",
            Severity.stop,
            "predictions have another shape than their volume",
            f"{list(volume.shape)} becomes {list(shape)}",
            "padding that is not cut off, or a border that is",
            "crop the prediction to the volume's shape",
            "predict",
        )
        return
    values, counts = np.unique(answer, return_counts=True)
    empty = answer == values[counts.argmax()]  # what no tile has reached has one value
    stays = empty if len(values) > 2 and empty.mean() > LEFT_OUT else np.zeros(shape, bool)
    expected, range_ = _rising(volume, answer, ~stays)
    off = stays | (np.abs(answer - expected) > ERROR * range_ if range_ > 0 else np.ones(shape, bool))
    share = float(off.mean())
    if range_ == 0:
        yield finding(
            "P8",
            Severity.stop,
            "prediction is one value, whatever the network says",
            f"logits from {seen.least:.3g} to {seen.most:.3g} all become {float(answer.flat[0]):.4g}",
            "a threshold on another scale, or an activation over an axis of one",
            "follow logits to the mask",
            "predict",
        )
        return
    binary = len(np.unique(answer)) <= 2
    if share > (0.01 if binary else 1e-3):
        yield _misplaced(off, share)
        return
    yield from _scale(subject, seen, volume, answer, binary)
    yield from _overlap(subject, seen, volume)


def _overlap(subject: Subject, seen: Seen, volume: Array) -> Iterator[Finding]:
    """Tiles that stand side by side."""
    if seen.tiles > 1 and seen.voxels <= OVERLAP * volume.size and seen.channels == 1:
        yield finding(
            "P8",
            Severity.warn,
            "tiles do not overlap",
            f"{seen.tiles} tiles hold {seen.voxels / volume.size:.2f} times the volume's voxels",
            "steps as long as a tile: answers at the borders of tiles lack their surroundings, and seams are seen",
            "let tiles overlap by half, and weigh them by a Gaussian",
            "predict",
        )


def _noise_like(like_volume: Array) -> Array:
    """Noise of the type, shape, mean and spread of a volume."""
    random = np.random.default_rng(0)
    centre, spread = float(np.mean(like_volume)), max(float(np.std(like_volume)), 1e-6)
    noise = random.normal(size=like_volume.shape)
    if np.issubdtype(like_volume.dtype, np.integer):
        bounds = np.iinfo(like_volume.dtype)
        volume = np.clip(np.round(centre + spread * noise), bounds.min, bounds.max).astype(like_volume.dtype)
    else:
        volume = (centre + spread * noise).astype(like_volume.dtype)
    return volume


def _misplaced(off: NDArray[np.bool_], share: float) -> Finding:
    border = np.ones(off.shape, bool)
    border[tuple(slice(2, -2) for _ in off.shape)] = False
    profile = [off.mean(axis=tuple(a for a in range(off.ndim) if a != axis)) for axis in range(off.ndim)]
    ends = [len(one) for one in profile if one[-1] > 0.9 or one[0] > 0.9]
    if ends and off[~border].mean() < 0.9:
        title, cause = "prediction loses the volume's border", "the last tile stops short of the volume's end"
        remedy = "let the last tile end with the volume, or pad the volume to a multiple of the step"
    elif share > 0.5:
        title, cause = "tiles are put back in other places", "axes or order of the tiles are exchanged on the way back"
        remedy = "keep each tile's origin beside it, in the order z y x"
    else:
        title, cause = (
            "tiles do not add up to the volume",
            "a hole between tiles, or weights that are not divided by their sum",
        )
        remedy = "divide the sum of answers by the sum of weights, voxel by voxel"
    places = np.argwhere(off)
    return finding(
        "P8",
        Severity.stop,
        title,
        f"with a network that gives its input back, {share:.1%} of the voxels do not have their own answer, from "
        f"{places.min(axis=0).tolist()} to {places.max(axis=0).tolist()} of {list(off.shape)}",
        cause,
        remedy,
        "predict",
    )


def _rising(volume: Array, answer: Array, where: NDArray[np.bool_]) -> tuple[Array, float]:
    """The answer as a function of the grey value alone (medians of levels), and its range."""
    values, answers = volume[where].astype(np.float64), answer[where].astype(np.float64)
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, min(LEVELS, len(order)))
    at = np.array([np.median(values[part]) for part in parts])
    level = np.array([np.median(answers[part]) for part in parts])
    found = np.interp(volume.ravel().astype(np.float64), at, level).reshape(volume.shape)
    inner = np.sort(level)
    return found, float(inner[-1] - inner[0])


def _scale(subject: Subject, seen: Seen, volume: Array, answer: Array, binary: bool) -> Iterator[Finding]:
    """From which logit on the mask begins, or which probability logits become."""
    values = volume.astype(np.float64)
    slope = (seen.most - seen.least) / max(float(values.max() - values.min()), 1e-12)
    logits = (values - values.min()) * slope + seen.least
    if subject.channels > 1:
        logits = 2 * logits  # the echo says -x for the background and x for the foreground
    if binary:
        high = float(np.unique(answer)[-1])
        inside = answer == high
        crossing = (float(logits[inside].min()) + float(logits[~inside].max())) / 2
        wanted = math.log(subject.threshold / (1 - subject.threshold))
        if abs(crossing - wanted) > 0.15 and len(seen.moments) > 0 and seen.most - seen.least > 2:
            chance = 1 / (1 + math.exp(-max(-60.0, min(60.0, crossing))))
            yield finding(
                "P3",
                Severity.warn,
                "the mask begins at another probability than the threshold",
                f"voxels are foreground from a logit of {crossing:.2f} on, a probability of {chance:.2f}; the "
                f"threshold is {subject.threshold:g}",
                "the threshold is held against logits, or probabilities go through a second sigmoid",
                "apply sigmoid or softmax once, before the threshold; another one is declared with threshold=",
                "predict",
            )
        return
    least, most = float(answer.min()), float(answer.max())
    if least < -0.01 or most > 1.01:
        yield finding(
            "P3",
            Severity.warn,
            "prediction gives no probabilities",
            f"values from {least:.3g} to {most:.3g}",
            "logits are returned as they are",
            "apply sigmoid or softmax at the end of predict",
            "predict",
        )
        return
    expected = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    gap = float(np.abs(answer - expected).mean())
    if subject.known.get("head"):
        return
    if gap > 0.08 and (least > 0.2 or most < 0.8) and seen.most - seen.least > 4:
        yield finding(
            "P8",
            Severity.stop,
            "probabilities go through a second activation",
            f"logits from {seen.least:.3g} to {seen.most:.3g} become {least:.3g} to {most:.3g}",
            "a sigmoid of probabilities",
            "apply sigmoid or softmax once",
            "predict",
        )


class _watched:
    """The model's forward pass, noted, and replaced where there is something to replace it by."""

    def __init__(self, model: nn.Module, seen: Seen, instead: Callable[[Tensor], Output] | None) -> None:
        self.model, self.seen, self.instead = model, seen, instead
        self.own = "forward" in vars(model)
        self.forward: Any = model.forward

    def __enter__(self) -> None:
        def forward(image: Tensor, *others: Any, **named: Any) -> Output:
            seen = self.seen
            seen.training |= self.model.training
            seen.tiles += len(image)
            seen.voxels += image[:, 0].numel()
            seen.least, seen.most = min(seen.least, float(image.min())), max(seen.most, float(image.max()))
            seen.moments.append((float(image.float().mean()), float(image.float().std())))
            seen.channels = image.shape[1]
            return self.forward(image, *others, **named) if self.instead is None else self.instead(image)

        self.model.forward = forward

    def __exit__(self, *_: object) -> None:
        if self.own:
            self.model.forward = self.forward
        else:
            del self.model.forward


def _plain(volume: Array, answer: Array) -> Iterator[Finding]:
    """Without the model: shape and values alone."""
    if answer.shape != volume.shape:
        yield finding(
            "P8",
            Severity.stop,
            "predictions have another shape than their volume",
            f"{list(volume.shape)} becomes {list(answer.shape)}",
            "padding that is not cut off",
            "crop the prediction to the volume's shape",
            "predict",
        )
    elif not np.isfinite(answer).all():
        yield finding(
            "P8",
            Severity.stop,
            "predictions hold values that are no numbers",
            "NaN or infinity",
            "weights of tiles that add up to 0",
            "divide by the sum of weights where it is above 0",
            "predict",
        )
