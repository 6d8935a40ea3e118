"""How a loss weighs its classes and its logits."""

import math

import torch
from torch import Tensor

from volumen.doctor.code.probe import Probe
from volumen.doctor.code.subject import finding
from volumen.doctor.findings import Finding, Severity

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
LOW_SHARE, HIGH_SHARE = 0.02, 0.8
SLOW, FAST = 0.6, 5.0
"""Decay of the gradient by logit: 1 for cross-entropy and Dice, 1 + gamma for focal, 1 / T at a temperature T."""


def check_weights(probe: Probe) -> Finding | None:
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
    if not heavy and not (crossing <= LOW_SHARE and _separate(probe, zeros)):
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


def check_temperature(probe: Probe) -> Finding | None:
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
