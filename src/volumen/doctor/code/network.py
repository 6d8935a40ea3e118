"""Does the network answer to its image alone, and does every part of it learn?"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from volumen.doctor.code.kept import seed_all
from volumen.doctor.code.subject import Subject, finding, finest
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

LARGEST_ERROR = 1e-3
"""Of the output's spread."""
BLIND = 1e-4
JITTER = 0.02
SMALL_SHARE, LARGE_SHARE = 0.02, 0.5
"""Of the parameters."""
SLOW_AVERAGE, FAST_AVERAGE = 1e-3, 0.7
"""Momentum of batch norm: the share of a new batch in its running statistics."""


def check_network(subject: Subject) -> Iterator[Finding]:
    """P8 of the network."""
    model = subject.model
    assert model is not None
    wide = subject.images.repeat(*([1] * subject.images.ndim))
    for look in (_dropout, _neighbours, _blind, _statistics):
        found = look(subject, model, wide)
        if found is not None:
            yield found
            if found.severity == Severity.stop:
                return
    yield from _frozen(subject, model)
    yield from _reached(subject, model)


def _answer(model: nn.Module, images: Tensor, seed: int = 0) -> Tensor:
    seed_all(seed)
    with torch.no_grad():
        return finest(model(images)).float()


def _gap(one: Tensor, other: Tensor) -> float:
    spread = max(float(one.std()), 1e-6 * float(one.abs().max()), 1e-12)
    return float((one - other).abs().max()) / spread


def _dropout(_subject: Subject, model: nn.Module, images: Tensor) -> Finding | None:
    model.eval()
    gap = _gap(_answer(model, images, 0), _answer(model, images, 1))
    if gap <= LARGEST_ERROR:
        return None
    return finding(
        "P8",
        Severity.stop,
        "the network draws random numbers in evaluation mode",
        f"two answers to one image in eval() differ by {gap:.2g} of their spread",
        "functional dropout without training=self.training, or a train() that eval() does not undo",
        "use nn.Dropout, or pass training=self.training",
        "model",
    )


def _neighbours(subject: Subject, model: nn.Module, images: Tensor) -> Finding | None:
    if subject.known.get("head"):
        return None
    model.eval()
    other = torch.stack([images[0], 2.0 * images[1].flip(-1) + 0.5])
    gap = _gap(_answer(model, images)[0], _answer(model, other)[0])
    if gap <= LARGEST_ERROR:
        return None
    modes = [name for name, one in model.named_modules() if one.training]
    stuck = f"; in training mode after eval(): {', '.join(modes[:3])}" if modes else ""
    return finding(
        "P8",
        Severity.stop,
        "the answer to an image depends on the others in its batch",
        f"in eval(), another neighbour changes it by {gap:.2g} of its spread{stuck}",
        "batch norm that takes the batch's statistics in evaluation, or an operation over the batch's axis",
        "see that eval() reaches every layer and track_running_stats is on, or use instance or group norm",
        "model",
    )


def _blind(subject: Subject, model: nn.Module, images: Tensor) -> Finding | None:
    """Compares what the layers give for the image with what they give for nothing and for scrambled voxels."""
    if subject.known.get("head"):
        return None
    model.train()
    order = torch.randperm(images[0, 0].numel(), generator=torch.Generator().manual_seed(0)).to(images.device)
    scrambled = images.flatten(2)[..., order].reshape(images.shape)
    with _jittered(model):
        plain = _answer(model, images)
        changes = [_gap(plain, _answer(model, other)) for other in (torch.zeros_like(images), scrambled)]
    if max(changes) > BLIND:
        return None
    return finding(
        "P8",
        Severity.stop,
        "the network ignores its image",
        f"zeros change its answer by {changes[0]:.2g} of its spread, scrambled voxels by {changes[1]:.2g}",
        "the image is multiplied by 0 or detached from the output, or the network uses another input",
        "follow the input through forward()",
        "model",
    )


class _jittered:
    """Weights a little off, so that layers that begin with zeros let through what they will."""

    def __init__(self, model: nn.Module) -> None:
        self.kept = [(one, one.detach().clone()) for one in model.parameters()]

    def __enter__(self) -> None:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for one, value in self.kept:
                if one.is_floating_point():
                    noise = torch.randn(one.shape, generator=generator).to(one)
                    one.add_(noise * (JITTER * float(value.std()) if value.numel() > 1 else JITTER)).add_(1e-3 * noise)

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            for one, value in self.kept:
                one.copy_(value)


def _statistics(_subject: Subject, model: nn.Module, _images: Tensor) -> Finding | None:
    """Batch norms whose running statistics follow too slowly or hardly remember."""
    norms = [
        (name, one.momentum)
        for name, one in model.named_modules()
        if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.track_running_stats and one.momentum is not None
    ]
    odd = [(name, rate) for name, rate in norms if not SLOW_AVERAGE <= rate <= FAST_AVERAGE]
    if not odd:
        return None
    name, rate = odd[0]
    return finding(
        "P8",
        Severity.warn,
        "batch norm will not have the statistics that evaluation needs",
        f"{counted(len(odd), 'layer')} such as {name} with momentum {rate:g}, the share of each new batch",
        "another library's meaning: momentum 0.99 there is 0.01 here",
        "momentum=0.1",
        "model",
    )


def _frozen(subject: Subject, model: nn.Module) -> Iterator[Finding]:
    """Parameters that do not ask for a gradient, and were not declared."""
    named = [(name, one) for name, one in model.named_parameters() if not declared(subject, name)]
    total = sum(one.numel() for _, one in named) or 1
    frozen = [(name, one) for name, one in named if not one.requires_grad]
    share = sum(one.numel() for _, one in frozen) / total
    if share > SMALL_SHARE:
        yield finding(
            "P8",
            Severity.stop if share > 0.99 else Severity.warn,
            f"{share:.0%} of the parameters are frozen",
            _names(frozen),
            "requires_grad is False: they stay as they were initialised",
            'let them learn, or declare them with frozen=("name", ...)',
            "model",
        )


def _reached(subject: Subject, model: nn.Module) -> Iterator[Finding]:
    """Parameters that no gradient reaches."""
    named = [(name, one) for name, one in model.named_parameters() if not declared(subject, name)]
    total = sum(one.numel() for _, one in named) or 1
    model.train()
    model.zero_grad(set_to_none=True)
    with _jittered(model):
        seed_all(subject.seed)
        output = model(subject.moved(subject.batch.image))
        value = _loss_or_size(subject, output)
        if not bool(torch.isfinite(value)):
            yield finding(
                "P8",
                Severity.stop,
                "the loss of the first batch is not finite",
                f"it is {float(value):g}",
                "a division by 0 or a logarithm of 0 in network or loss, or voxels that are no numbers",
                "look at the output's range with torch.autograd.set_detect_anomaly(True)",
                "loss",
            )
            return
        if value.requires_grad:
            torch.autograd.backward(value)
    moving = [(name, one) for name, one in named if one.requires_grad]
    lost = [(name, one) for name, one in moving if one.ndim > 1 and (one.grad is None or not bool(one.grad.any()))]
    share = sum(one.numel() for _, one in lost) / total
    heads = any("deep" in name or "aux" in name or "head" in name for name, _ in lost)
    if share > (SMALL_SHARE if not heads else 0.1):
        yield finding(
            "P8",
            Severity.stop if share > LARGE_SHARE else Severity.warn,
            f"{share:.0%} of the parameters get no gradient",
            f"{_names(lost)} after one backward pass",
            "a part that is detached, under no_grad(), multiplied by 0, or not used",
            "see that it takes part in the output that the loss looks at",
            "model",
        )
    wrong = [(n, one) for n, one in moving if one.grad is not None and not bool(torch.isfinite(one.grad).all())]
    if wrong:
        yield finding(
            "P8",
            Severity.stop,
            "gradients are not finite",
            f"{_names(wrong)} after one backward pass",
            "a root or logarithm at 0",
            "add a small number below the root or logarithm",
            "model",
        )
    model.zero_grad(set_to_none=True)


def _loss_or_size(subject: Subject, output: object) -> Tensor:
    wrong = subject.known.get("objective")  # a loss without a gradient says nothing of the network
    if subject.loss is None or subject.known.get("loss_fails") or (wrong and wrong.severity == Severity.stop):
        generator = torch.Generator().manual_seed(6)
        answer = finest(output)
        return (answer * torch.randn(answer.shape, generator=generator).to(answer)).mean()
    return subject.loss_of(subject.batch, output)


def declared(subject: Subject, name: str) -> bool:
    """Whether a parameter was said to stay as it is."""
    return any(name == one or name.startswith(f"{one}.") for one in subject.frozen)


def _names(named: list[tuple[str, nn.Parameter]]) -> str:
    more = ", ..." if len(named) > 4 else ""
    return f"{', '.join(name for name, _ in named[:4])}{more} ({counted(len(named), 'tensor')})"
