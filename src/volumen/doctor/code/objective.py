"""What the loss really asks for: on free logits, without any network."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from volumen.doctor.code.probe import Probe, describe, noise
from volumen.doctor.code.subject import Subject, finding
from volumen.doctor.code.weighing import check_temperature, check_weights
from volumen.doctor.findings import Finding, Severity

STEPS = 60
GRADES, RISE = 40, 0.4
"""Steps of certainty, and by which share of the gain an answer between may cost more than both ends."""
BLIND = 0.01
LEAST_DICE, LOST_DICE = 0.95, 0.7
SURE = 0.75
"""Mean probability of the truth at the optimum; label smoothing of 0.2 leaves 0.9."""
DETACHED = 0.05
"""Share of the loss's change that the gradient may not know of; measured on healthy losses: below 0.01."""
NUDGE = 0.02


def check_objective(subject: Subject) -> Iterator[Finding]:
    """P3, P4, P5 and P8 of the loss; what follows from an earlier finding is not said."""
    probe = Probe(subject)
    subject.known["probe"] = probe
    if subject.batches and subject.model is not None:
        subject.known["heads"] = "all" if probe.parted else "finest"
    looks = (_finite, _sense, _surer, _gradient, _samples, _optimum, check_weights, check_temperature)
    for look in looks:
        found = look(probe)
        if found is not None and look is _sense and _counts_ignored(probe):
            return  # nothing was ignored so far, and it counts nothing else
        if found is not None:
            subject.known["objective"] = found
            yield found
            if found.severity == Severity.stop:
                probe.wants = "unknown"
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
    _, slope = probe.slope(probe.logits(probe.truth, 0.3) + 0.5 * noise(probe))
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


def _surer(probe: Probe) -> Finding | None:
    """A right answer must not cost more between undecided and sure than at both."""
    if probe.wants != "logits":
        return None
    most = 4.0 if probe.channels == 1 else 2.0
    values = [probe.at(probe.logits(probe.truth, most * step / GRADES)) for step in range(GRADES + 1)]
    known = [one for one in values if math.isfinite(one)]
    rise = max(known) - max(known[0], known[-1])  # a division by what passes 0 between them
    if len(known) == len(values) and rise <= RISE * abs(known[0] - known[-1]):
        return None
    return finding(
        "P8",
        Severity.stop,
        "a part of the loss takes logits for probabilities",
        f"right answers with logits from 0 to {most:g} cost {known[0]:.4g} at first, {min(known):.4g} at least, "
        f"{max(known):.4g} at most and {known[-1]:.4g} at last",
        "a term without its sigmoid or softmax beside one that has it",
        "give every term its activation (sigmoid=True, softmax=True, ..._with_logits)",
        "loss",
    )


def _counts_ignored(probe: Probe) -> bool:
    """Whether a loss that has no gradient has one where half of the voxels are ignored."""
    subject = probe.subject
    if subject.ignore_index is None and subject.takes_valid is None:
        return False
    lost = torch.zeros_like(probe.truth, dtype=torch.bool)
    lost[..., ::2] = True
    truth = probe.truth if subject.ignore_index is None else torch.where(lost, subject.ignore_index, probe.truth)
    _, slope = probe.slope(noise(probe), truth, ~lost)
    _, whole = probe.slope(noise(probe))
    return bool(slope.any()) and not bool(whole.any())


def _gradient(probe: Probe) -> Finding | None:
    """Whether the gradient is that of the value: terms that are detached or rounded change the value only."""
    worst, seen = 0.0, (0.0, 0.0)
    for certainty in (0.0, 1.0):
        place = probe.logits(probe.truth, certainty) + noise(probe)
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
    place = probe.logits(one, 0.3) + 0.5 * noise(probe)[:1]
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
            f"three equal samples have {ratio:.2f} times the gradient of one; that of undecided logits is {zero:.4g}",
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
    for start in (probe.logits(probe.truth, 2.0), 2.0 * noise(probe)):
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
            f"its best logits have Dice {dice:.3f} with the truth and {share:.1%} foreground, the truth {true:.1%}; "
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
