"""Do ignored voxels stay without influence, and does the loss stay the same while the training goes on?"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor

from volumen.doctor.code.kept import Kept
from volumen.doctor.code.probe import Probe, describe
from volumen.doctor.code.subject import Subject, finding
from volumen.doctor.findings import Finding, Severity

LEAK = 1e-4
"""Of the change by valid voxels; sums in another order differ by 1e-6."""
DILUTED = 0.1
EPOCHS = (0, 1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000, 5000)
COUNTS = (*EPOCHS, 20_000, 100_000, 1_000_000)
CALLS, SECONDS = 1200, 2.0
CHANGED = 1e-3
Differs = Callable[[float], bool]
COUNTERS = ("epoch", "step", "iteration")


def check_ignored(subject: Subject) -> Iterator[Finding]:
    """P1: scramble what is ignored, and see whether the loss notices."""
    probe: Probe | None = subject.known.get("probe")
    if probe is None or (subject.ignore_index is None and subject.takes_valid is None):
        return
    generator = torch.Generator().manual_seed(5)
    lost = torch.zeros_like(probe.truth, dtype=torch.bool)
    lost[..., : probe.shape[-1] // 2] = True
    truth, valid = _hidden(probe, probe.truth, lost), ~lost
    noise = torch.randn(probe.logits(probe.truth, 1.0).shape, generator=generator).to(lost.device)
    place = probe.logits(probe.truth, 0.5) + noise
    where = lost.unsqueeze(1)
    before, slope = probe.slope(place, truth, valid)
    inside, outside = float(slope[where.expand_as(slope)].norm()), float(slope[~where.expand_as(slope)].norm())
    moved = probe.at(torch.where(where, -place, place), truth, valid) - before
    usual = probe.at(torch.where(where, place, -place), truth, valid) - before
    share = inside / max(inside + outside, 1e-30)
    evidence = (
        f"with half of the voxels ignored, {share:.1%} of the gradient lies on them; turning round their logits "
        f"changes the loss by {describe(moved)}, those of valid voxels by {describe(usual)}"
    )
    if share > 0.99:
        yield finding(
            "P1",
            Severity.stop,
            "the mask of the loss is turned round: only ignored voxels count",
            evidence,
            "the mask is true where voxels are ignored, and the loss takes it for valid ones",
            "invert the mask",
            "loss",
        )
    elif share > LEAK or abs(moved) > LEAK * max(abs(usual), 1e-9):
        yield finding(
            "P1",
            Severity.stop if share > 0.05 or abs(moved) > 0.05 * abs(usual) else Severity.warn,
            "ignored voxels change the loss",
            evidence,
            "a term without the mask, or one that counts the ignored label as background or foreground",
            "multiply every term by the mask before any sum, and divide by the sum of the mask",
            "loss",
        )
    else:
        yield from _dilution(probe, place, lost, truth, valid)


def _hidden(probe: Probe, truth: Tensor, lost: Tensor) -> Tensor:
    """Labels with some voxels ignored, as the loss is told of it."""
    index = probe.subject.ignore_index
    return truth if index is None else torch.where(lost, index, truth)


def _dilution(probe: Probe, place: Tensor, lost: Tensor, truth: Tensor, valid: Tensor) -> Iterator[Finding]:
    """What is valid must count the same, however much beside it is ignored."""
    _, slope = probe.slope(place, truth, valid)
    half = probe.shape[-1] // 2
    size = float(slope[..., half:].norm())
    if probe.heads is None or not probe.parted:
        _, cut = probe.slope(place[..., half:], probe.truth[..., half:], valid[..., half:])
        ratio = size / max(float(cut.norm()), 1e-30)
        if abs(ratio - 1) > DILUTED:
            yield finding(
                "P1",
                Severity.warn,
                "ignored voxels dilute the loss",
                f"beside as many ignored voxels, valid ones have {ratio:.2f} times the gradient that they have alone",
                "a mean over all voxels of a loss that is 0 where it is ignored",
                "divide by the number of valid voxels: (loss * valid).sum() / valid.sum()",
                "loss",
            )
            return
    everything = torch.ones_like(lost)
    empty = probe.at(place, _hidden(probe, probe.truth, everything), ~everything)
    if not math.isfinite(empty):
        yield finding(
            "P1",
            Severity.note,
            "a batch that is ignored altogether has no finite loss",
            f"{empty} where no voxel is valid",
            "a mean over nothing",
            "divide by valid.sum().clamp(min=1), or leave such patches out",
            "loss",
        )


def check_waiting(subject: Subject) -> Iterator[Finding]:
    """P6: the same input again and again, in later epochs and after many calls."""
    probe: Probe | None = subject.known.get("probe")
    if probe is None:
        return
    place = probe.logits(probe.truth, 1.0) + 0.5 * torch.ones_like(probe.logits(probe.truth, 1.0))
    kept = Kept({"loss": subject.loss})
    first = probe.at(place)
    scale = max(abs(first - probe.at(probe.logits(probe.wrong, 1.0))), 1e-6)
    kept.restore()
    for name, changed in (("epoch", _by_epoch), ("count", _by_counter), ("calls", _by_calls)):
        found = changed(probe, place, kept, lambda value: abs(value - first) > CHANGED * scale)
        kept.restore()
        if found is not None:
            when, value = found
            declared = name == "epoch"
            yield finding(
                "P6",
                Severity.note if declared and not _astray(probe, when) else Severity.warn,
                "the loss becomes another while the training goes on",
                f"the same input has {describe(first)} at first and {describe(value)} {_words(name, when)}",
                "a term or weight that begins later: what is looked at today is not what is learnt then",
                "audit the later loss as well (loss=lambda output, target: loss(output, target, epoch=...)), and do "
                "not compare its values with earlier ones",
                "loss",
            )
            probe.epoch = 0
            return


def _words(name: str, when: int) -> str:
    return f"after {when} calls" if name == "calls" else f"once its counter of epochs or steps is {when}"


def _astray(probe: Probe, epoch: int) -> bool:
    """Whether the later loss prefers the opposite of the truth."""
    probe.epoch = epoch
    right, wrong = (probe.at(probe.logits(truth, 3.0)) for truth in (probe.truth, probe.wrong))
    return not right < wrong


def _by_epoch(probe: Probe, place: Tensor, _kept: Kept, differs: Differs) -> tuple[int, float] | None:
    if probe.subject.takes_epoch is None:
        return None
    for epoch in EPOCHS[1:]:
        probe.epoch = epoch
        value = probe.at(place)
        if differs(value):
            return epoch, value
    probe.epoch = 0
    return None


def _by_counter(probe: Probe, place: Tensor, kept: Kept, differs: Differs) -> tuple[int, float] | None:
    """Whole numbers that the loss counts itself, or that are called epoch or step, set to later values."""
    before = {(id(table), name): table[name] for name, table in kept.counters()}
    probe.at(place)
    counting = [
        (name, table)
        for name, table in kept.counters()
        if table.get(name) != before[id(table), name] or any(name.strip("_").endswith(one) for one in COUNTERS)
    ]
    for name, table in counting:
        for count in COUNTS:
            kept.restore()
            table[name] = count
            value = probe.at(place)
            if differs(value):
                return count, value
    return None


def _by_calls(probe: Probe, place: Tensor, _kept: Kept, differs: Differs) -> tuple[int, float] | None:
    began = time.perf_counter()
    small = slice(None) if probe.heads is not None else slice(0, 12)
    places = (slice(None), slice(None), *(small for _ in probe.shape))
    truth = probe.truth[(slice(None), *places[2:])]
    first = probe.at(place[places], truth)
    last = probe.at(place)
    if differs(last):
        return 1, last
    for number in range(2, CALLS):
        value = math.nan
        with suppress(RuntimeError):
            value = probe.at(place[places], truth)
        if abs(value - first) > CHANGED * max(abs(first), 1e-6):
            return number, probe.at(place)
        if time.perf_counter() - began > SECONDS:
            return None
    return None
