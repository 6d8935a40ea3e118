"""Does the network end where the loss begins: logits for a loss with logits, probabilities for one without?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from volumen.doctor.code.probe import Probe
from volumen.doctor.code.subject import Subject, finding, finest
from volumen.doctor.findings import Finding, Severity

SCALES = (1.0, 30.0, 1e3)
SUMS = 1e-3
OPEN = 100.0
"""Beyond which an output counts as having no bound."""
TRIED = 8
"""Last layers among which the output layer is looked for."""
PUSHES, PUSH_RATE = 24, 0.5
WEAK, CRAMPED = 0.02, 0.1
"""The least and, from the other side, the largest probability that a network must reach."""


@dataclass(frozen=True)
class Range:
    """What the network's output can be, whatever its weights."""

    least: float
    most: float
    axis: int | None = None
    """The axis over which it sums to 1."""
    logarithm: bool = False
    """Whether its exponential does."""

    @property
    def words(self) -> str:
        """For evidence."""
        ends = ["no bound" if abs(one) > OPEN else f"{one:.3g}" for one in (self.least, self.most)]
        sums = (
            ""
            if self.axis is None
            else f", {'exponentials sum' if self.logarithm else 'sums'} to 1 over axis {self.axis}"
        )
        return f"least {ends[0]}, most {ends[1]}{sums}"


def range_of(subject: Subject) -> Range:
    """The range of the output, with the output of the last layer replaced by noise of growing size."""
    model = subject.model
    assert model is not None
    model.train()
    last = _last_layer(model, subject.images)
    shown = _pushed(model, subject.images) if last is None else _replaced(model, subject.images, last)
    outputs = [one for one in shown if bool(torch.isfinite(one).any())]
    known = torch.cat([one.flatten() for one in outputs])
    known = known[torch.isfinite(known)]
    least, most = float(known.min()), float(known.max())
    axis, logarithm = _summing(outputs[0])
    return Range(least, most, axis, logarithm)


def _summing(output: Tensor) -> tuple[int | None, bool]:
    """The axis over which an output, or its exponential, sums to 1."""
    for logarithm, values in ((False, output), (True, output.exp())):
        if bool((values < 0).any()) or not bool(torch.isfinite(values).all()):
            continue
        for axis in (1, 0, *range(2, output.ndim)):
            total = values.sum(axis)
            if (output.shape[axis] > 1 or axis == 1) and float((total - 1).abs().max()) < SUMS:
                return axis, logarithm
    return None, False


def _last_layer(model: nn.Module, images: Tensor) -> nn.Module | None:
    """The layer that gives the finest output, before any activation; None where it is none of PyTorch's own."""
    ran: list[nn.Module] = []
    leaves = [one for one in model.modules() if not list(one.children()) and next(one.parameters(), None) is not None]
    handles = [one.register_forward_hook(lambda module, _, __: ran.append(module)) for one in leaves]
    try:
        with torch.no_grad():
            plain = finest(model(images)).clone()
    finally:
        for handle in handles:
            handle.remove()
    tried: list[nn.Module] = []
    for module in reversed(ran):
        if module not in tried:
            tried.append(module)
    for module in tried[:TRIED]:
        (other,) = _replaced(model, images, module, (3.0,))
        if other.shape == plain.shape and not torch.equal(other, plain):
            return module if type(module).__module__.startswith("torch.nn") else None
    return None


def _replaced(model: nn.Module, images: Tensor, layer: nn.Module, scales: tuple[float, ...] = SCALES) -> list[Tensor]:
    found = []
    for scale in scales:

        def noise(_module: nn.Module, _given: Any, output: Tensor, scale: float = scale) -> Tensor:
            generator = torch.Generator().manual_seed(1)
            return (scale * torch.randn(output.shape, generator=generator)).to(output)

        handle = layer.register_forward_hook(noise)
        try:
            with torch.no_grad():
                found.append(finest(model(images)).float().clone())
        finally:
            handle.remove()
    return found


def _pushed(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs while the weights are pushed to make them large, and then small."""
    kept = [(one, one.detach().clone()) for one in model.parameters()]
    found = []
    for sign in (1.0, -1.0):
        moving = [one for one, _ in kept if one.requires_grad]
        optimiser = torch.optim.Adam(moving, lr=PUSH_RATE)
        for _ in range(PUSHES):
            output = finest(model(images))
            found.append(output.detach().float().clone())
            if not output.requires_grad:
                break
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(sign * output.mean())
            optimiser.step()
        with torch.no_grad():
            for one, value in kept:
                one.copy_(value)
    return found


def check_head(subject: Subject) -> Iterator[Finding]:
    """P8: an activation too many, too few, or over another axis."""
    found = range_of(subject)
    subject.known["range"] = found
    if found.axis not in (None, 1):
        subject.known["head"] = True
        yield _wrong(
            f"the softmax runs over axis {found.axis}, not over the classes",
            f"outputs [N, C, ...] have {found.words}",
            "softmax(dim=...) of another axis",
            "write softmax(dim=1), or give logits to a loss that takes them",
        )
        return
    probe: Probe | None = subject.known.get("probe")
    if probe is None or probe.wants == "unknown":
        return
    channels = probe.channels
    verdict = _logits(found, channels) if probe.wants == "logits" else _probabilities(found, channels, probe.wants)
    if verdict is not None:
        subject.known["head"] = True
        yield verdict


def _logits(found: Range, channels: int) -> Finding | None:
    if found.logarithm:
        return None  # the logarithm of a softmax is its own logarithm of a softmax
    span = found.most - found.least
    low, high = (found.least, found.most) if channels == 1 else (-span, span)
    least, most = (_sigmoid(one) for one in (low, high))
    if least <= WEAK and most >= 1 - WEAK:
        return None
    softmax = found.axis == 1
    name = _activation(found)
    return _wrong(
        "the network ends in an activation, and the loss has another",
        f"outputs have {found.words}, whatever the weights; the loss takes logits, so that probabilities stay within "
        f"[{least:.3f}, {most:.3f}]",
        f"{'a softmax' if softmax else name} at the end of the network before a loss with logits",
        "return the last layer's output, and apply the activation where you predict",
        Severity.stop if least > CRAMPED or most < 1 - CRAMPED else Severity.warn,
    )


def _activation(found: Range) -> str:
    bounded = found.least > -OPEN and found.most < OPEN
    if bounded:
        return (
            "a sigmoid" if abs(found.least) < 0.01 and abs(found.most - 1) < 0.01 else "a tanh, clamp or scaled sigmoid"
        )
    return "a ReLU or softplus" if found.most >= OPEN else "a log-sigmoid"


def _probabilities(found: Range, channels: int, wants: str) -> Finding | None:
    if wants == "log_probabilities":
        if found.logarithm:
            return None
        return _wrong(
            "the loss wants logarithms of probabilities, the network gives something else",
            f"outputs have {found.words}; the loss falls without limit as they grow",
            "log_softmax is missing before nll_loss",
            "use cross_entropy, which takes logits, or end in log_softmax(dim=1)",
        )
    if found.least >= -SUMS and found.most <= 1 + SUMS and not (channels == 1 and found.axis == 1):
        return None
    return _wrong(
        "the loss wants probabilities, the network does not give any",
        f"outputs have {found.words}; the loss was found to apply no activation",
        "a sigmoid or softmax is missing between network and loss",
        "use the loss's variant with logits (sigmoid=True, softmax=True, ..._with_logits)",
    )


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))


def _wrong(title: str, evidence: str, cause: str, remedy: str, severity: Severity = Severity.stop) -> Finding:
    return finding("P8", severity, title, evidence, cause, remedy, "model")
