"""What the loss really asks for: on free logits, without any network."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from volumen.doctor.code.probe import Probe, describe
from volumen.doctor.code.subject import Subject, finding
from volumen.doctor.findings import Finding, Severity

STEPS = 60
BLIND = 0.01
LEAST_DICE, LOST_DICE = 0.95, 0.7
SURE = 0.75
"""Mean probability of the truth at the optimum; label smoothing of 0.2 leaves 0.9."""
DETACHED = 0.05
"""Share of the loss's change that the gradient may not know of; measured on healthy losses: below 0.01."""
NUDGE = 0.02
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
LOW_SHARE, HIGH_SHARE = 0.02, 0.8
SLOW, FAST = 0.6, 5.0
"""Decay of the gradient by logit: 1 for cross-entropy and Dice, 1 + gamma for focal, 1 / T at a temperature T."""


def check_objective(subject: Subject) -> Iterator[Finding]:
    """P3, P4, P5 and P8 of the loss; what follows from an earlier finding is not said."""
    probe = Probe(subject)
    subject.known["probe"] = probe
    if subject.batches and subject.model is not None:
        subject.known["heads"] = "all" if probe.parted else "finest"
    looks = (_finite, _sense, _gradient, _samples, _optimum, _operating_point, _temperature)
    for look in looks:
        found = look(probe)
        if found is not None:
            subject.known["objective"] = found
            yield found
            if found.severity == Severity.stop or look in (_gradient, _optimum):
                return


def _finite(probe: Probe) -> Finding | None:
    values = [probe.at(probe.logits(truth, 2.0)) for truth in (probe.truth, probe.wrong)]
    if not all(map(math.isfinite, values)):
        return finding(
            "P8",
            Severity.stop,
            "the loss is not finite",
            f"{values[0]:g} for a right and {values[1]:g} for a wrong answer with logits of +-2",
            "a logarithm of 0, or a division by 0",
            "use the function of PyTorch that takes logits",
            "loss",
        )
    sure = probe.at(probe.logits(probe.truth, 30.0))
    if probe.wants != "unknown" and not math.isfinite(sure):
        return finding(
            "P8",
            Severity.warn,
            "the loss is not finite for a certain answer",
            f"{sure:g} where every voxel is right with a logit of 30",
            "a logarithm of a probability that rounds to 0",
            "use the function of PyTorch that takes logits",
            "loss",
        )
    return None


def _sense(probe: Probe) -> Finding | None:
    """Better answers must cost less."""
    _, slope = probe.slope(probe.logits(probe.truth, 0.3) + 0.5 * _noise(probe))
    right, half, wrong = (
        probe.at(probe.logits(*pair)) for pair in ((probe.truth, 3.0), (probe.truth, 0.0), (probe.wrong, 3.0))
    )
    if not bool(slope.any()):
        return finding(
            "P8",
            Severity.stop,
            "the loss gives no gradient",
            f"it is {right:.4g} for the right answer and {wrong:.4g} for a wrong one, and its gradient is 0",
            "argmax, a threshold, detach, .item() or NumPy inside of the loss",
            "compute it from logits or probabilities, without rounding",
            "loss",
        )
    scale = max(abs(right), abs(wrong), abs(half), 1e-9)
    if abs(right - wrong) < 1e-5 * scale:
        return finding(
            "P4",
            Severity.stop,
            "the loss does not tell a right answer from a wrong one",
            f"{right:.5g} for the truth, {wrong:.5g} for its opposite",
            "it does not look at the target, or weighs it with 0",
            "look at how target and weights enter it",
            "loss",
        )
    if right > wrong:
        return finding(
            "P5",
            Severity.stop,
            "the loss prefers the opposite of the truth",
            f"{right:.4g} for the truth, {wrong:.4g} for its opposite: training drives it there",
            "a sign is turned round, a similarity is minimised, or classes are exchanged",
            "minimise 1 - similarity, and see that channel and class number agree",
            "loss",
        )
    return None


def _gradient(probe: Probe) -> Finding | None:
    """Whether the gradient is that of the value: terms that are detached or rounded change the value only."""
    worst, seen = 0.0, (0.0, 0.0)
    for certainty in (0.0, 1.0):
        place = probe.logits(probe.truth, certainty) + _noise(probe)
        for direction in (probe.logits(probe.truth, 1.0), torch.ones_like(place)):
            _, slope = probe.slope(place)
            known = float((slope.double() * direction.double()).sum())
            measured = (probe.at(place + NUDGE * direction) - probe.at(place - NUDGE * direction)) / (2 * NUDGE)
            size = float(slope.double().norm() * direction.double().norm())
            if not math.isfinite(measured) or abs(known) + abs(measured) < 0.02 * size:
                continue
            gap = abs(known - measured) / max(abs(known), abs(measured), 1e-12)
            if gap > worst:
                worst, seen = gap, (measured, known)
    if worst <= DETACHED:
        return None
    return finding(
        "P5",
        Severity.warn,
        "a part of the loss gives no gradient",
        f"logits moved by {NUDGE} change the loss at a rate of {seen[0]:.4g}, its gradient says {seen[1]:.4g}",
        "a term on a detached tensor, an argmax or a threshold: it is counted and never learnt",
        "take out detach(), argmax and no_grad() from the term, or drop the term",
        "loss",
    )


def _samples(probe: Probe) -> Finding | None:
    """Every sample counts, and the loss is a mean over them."""
    one = probe.truth[:1]
    place = probe.logits(one, 0.3) + 0.5 * _noise(probe)[:1]
    _, alone = probe.slope(place, one)
    three = (3, *(1,) * (place.ndim - 1))
    _, beside = probe.slope(place.repeat(three), one.repeat(three[: one.ndim]))
    sizes = [float(slope.norm()) for slope in beside]
    single = float(alone.norm())
    if min(sizes) < 0.5 * max(sizes):
        return finding(
            "P8",
            Severity.stop,
            "only some samples of a batch count",
            f"gradients of three equal samples have the sizes {', '.join(f'{size:.3g}' for size in sizes)}",
            "an index into the batch, or a maximum over it, inside of the loss",
            "take the mean over all samples",
            "loss",
        )
    ratio = sum(sizes) / max(single, 1e-30)
    zero = probe.at(probe.logits(probe.truth, 0.0))
    if ratio > 1.5 or ratio < 0.6 or zero > 50:
        return finding(
            "P8",
            Severity.warn,
            "the loss is no mean over the batch: its size depends on the number of samples or voxels",
            f"three equal samples have {ratio:.2f} times the gradient of one; the loss of undecided logits is {zero:.4g}",
            "reduction='sum', or a division by the batch that is missing or done twice",
            "use reduction='mean': the learning rate then means the same for every batch and patch",
            "loss",
        )
    return None


def _optimum(probe: Probe) -> Finding | None:
    """The best logits, and the best constant."""
    perfect = probe.logits(probe.truth, min(probe.certain, 12.0))
    right = probe.at(perfect)
    best, least = perfect, right
    for start in (probe.logits(probe.truth, 2.0), 2.0 * _noise(probe)):
        found, value = _minimised(probe, start)
        if value < least - 1e-3 * abs(least) - 1e-4:
            best, least = found, value
    constants = _constants(probe)
    constant = min(constants)
    wrong = probe.at(probe.logits(probe.wrong, 3.0))
    if constant - least < BLIND * max(wrong - least, 1e-9):
        return finding(
            "P4",
            Severity.stop,
            "a constant is as good as the truth",
            f"one answer for all voxels has {describe(constant)}, the least value found is {describe(least)}, the "
            f"truth has {describe(right)}",
            "a term that misses only one kind of mistake, such as recall alone",
            "add soft Dice or cross-entropy",
            "loss",
        )
    dice, share, sure = _agreement(probe, best)
    if dice < LEAST_DICE:
        true = float((probe.truth > 0).float().mean())
        return finding(
            "P5",
            Severity.stop if dice < LOST_DICE else Severity.warn,
            "the loss's own optimum is not the truth",
            f"its best logits have Dice {dice:.3f} with the truth and {share:.1%} foreground, where it holds {true:.1%}; "
            f"loss {describe(least)} there, {describe(right)} at the truth",
            "a term whose sign is turned round, or that outweighs those that follow the labels",
            "give the terms' signs and weights another look, one term at a time",
            "loss",
        )
    if sure < SURE:
        return finding(
            "P5",
            Severity.warn,
            "the loss wants its answers unsure",
            f"at its optimum the truth has a mean probability of {sure:.2f}",
            "a term that works against the labels, or strong label smoothing",
            "give the terms' signs and weights another look",
            "loss",
        )
    return None


def _minimised(probe: Probe, start: Tensor) -> tuple[Tensor, float]:
    logits = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.5, betas=(0.9, 0.99))
    best, least = start, math.inf
    for _ in range(STEPS):
        optimiser.zero_grad()
        value = probe.value(logits)
        current = float(value.detach())
        if not math.isfinite(current) or not value.requires_grad:
            break
        if current < least:
            best, least = logits.detach().clone(), current
        torch.autograd.backward(value)
        optimiser.step()
    return best, least


def _constants(probe: Probe) -> list[float]:
    """The loss of one answer for all voxels."""
    zeros = torch.zeros_like(probe.logits(probe.truth, 1.0))
    found = []
    for channel in range(probe.channels):
        for level in (-12.0, -6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 6.0, 12.0):
            logits = zeros.clone()
            logits[:, channel] = level
            found.append(probe.at(logits))
    return [one for one in found if math.isfinite(one)] or [math.inf]


def _agreement(probe: Probe, logits: Tensor) -> tuple[float, float, float]:
    """Dice with the truth, share of foreground, and the less of the mean probabilities of the truth by class."""
    truth = probe.truth
    if probe.channels == 1:
        said, chance = (logits[:, 0] > 0).long(), logits[:, 0].sigmoid()
        sure = torch.where(truth > 0, chance, 1 - chance)
    else:
        said = logits.argmax(1)
        sure = logits.softmax(1).gather(1, truth.unsqueeze(1))[:, 0]
    dices, means = [], []
    for number in range(1, probe.classes):
        here, there = said == number, truth == number
        dices.append(2 * float((here & there).sum()) / max(float(here.sum() + there.sum()), 1.0))
    for number in range(probe.classes):
        if bool((truth == number).any()):
            means.append(float(sure[truth == number].mean()))
    return sum(dices) / len(dices), float((said > 0).float().mean()), min(means)


def _operating_point(probe: Probe) -> Finding | None:
    """From which share of foreground on undecided logits are pushed towards it."""
    if probe.channels > 2:
        return None
    generator = torch.Generator().manual_seed(3)
    chance = torch.rand(probe.truth.shape, generator=generator).to(probe.truth.device)
    zeros = torch.zeros_like(probe.logits(probe.truth, 1.0))
    crossing = 1.0
    for share in SHARES:
        _, slope = probe.slope(zeros, (chance < share).long())
        towards = float((slope[:, -1] - (slope[:, 0] if probe.channels == 2 else 0)).sum())
        if towards < 0:
            crossing = share
            break
    heavy = crossing > HIGH_SHARE
    if not heavy and not (crossing < LOW_SHARE and _separate(probe, zeros)):
        return None
    words = f"{crossing:.2f}" if heavy else f"{LOW_SHARE} or less"
    return finding(
        "P3",
        Severity.warn,
        f"the loss asks for far {'less' if heavy else 'more'} foreground than there is",
        f"a voxel is called foreground from a true probability of {words} on",
        "class weights, pos_weight or alpha that weigh the other class than meant"
        if heavy
        else "a very large weight of the foreground",
        "leave the weights at 1 and choose the threshold on held-out predictions",
        "loss",
    )


def _separate(probe: Probe, zeros: Tensor) -> bool:
    """Whether a voxel's gradient depends on that voxel alone."""
    _, here = probe.slope(zeros)
    moved = zeros.clone()
    moved[..., ::2] += 1.5
    _, there = probe.slope(moved)
    gap = float((here - there)[..., 1::2].norm())
    return gap < 0.01 * max(float(here[..., 1::2].norm()), 1e-30)


def _temperature(probe: Probe) -> Finding | None:
    """How fast the gradient of right answers decays as they become sure."""
    if probe.wants != "logits":
        return None
    near, far = (4.0, 8.0) if probe.channels == 1 else (2.0, 4.0)
    sizes = []
    for certainty in (near, far):
        place = probe.logits(probe.truth, certainty)
        _, slope = probe.slope(place)
        towards = -float((slope * torch.sign(place)).sum())
        if towards <= 0:
            return None
        sizes.append(float(slope.norm()))
    if min(sizes) <= 0:
        return None
    decay = math.log(sizes[0] / sizes[1]) / 4.0
    if SLOW <= decay <= FAST:
        return None
    return finding(
        "P3",
        Severity.warn,
        "the loss divides or multiplies its logits",
        f"its gradient falls by e^{decay:.2f} for each unit of a logit, where cross-entropy and Dice have e^1",
        "a temperature inside of the loss that prediction does not have",
        "leave the temperature at 1",
        "loss",
    )


def _noise(probe: Probe) -> Tensor:
    shape = (len(probe.truth), probe.channels, *probe.shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(probe.truth.device)
