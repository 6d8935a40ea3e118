"""Does a training step change what it is meant to, by as much as it is meant to?"""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from volumen.doctor.code.kept import Kept, same_bits, seed_all
from volumen.doctor.code.network import declared
from volumen.doctor.code.subject import Batch, Subject, finding, parameters_of
from volumen.doctor.findings import Finding, Severity
from volumen.system.output import counted

ADAPTIVE_HIGH, PLAIN_HIGH, LOW = 0.03, 3.0, 1e-7
"""Rates of optimisers that divide by the gradient's size, and of others, that are absurd."""
LARGE_CHANGE, SMALL_CHANGE = 0.5, 1e-6
"""Of a weight tensor's size, in one step."""
CLIPPED = 1e-3
FORGETS_STEPS = 500
DECAYS = 1.0
STEPS, SECONDS = 12, 10.0


def check_optimiser(subject: Subject) -> Iterator[Finding]:
    """P8 and P10 of the optimiser: what it holds, and its numbers."""
    model, optimiser = subject.model, subject.optimiser
    groups = optimiser.param_groups
    held = {id(one) for group in groups for one in group["params"]}
    if model is not None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and not declared(subject, n)]
        lost = [(name, one) for name, one in named if id(one) not in held]
        total = sum(one.numel() for _, one in named) or 1
        share = sum(one.numel() for _, one in lost) / total
        others = len(held) - sum(id(one) in held for one in model.parameters())
        if lost and (share > 1e-3 or any(one.ndim > 1 for _, one in lost)):
            names = f"{', '.join(name for name, _ in lost[:4])}{', ...' if len(lost) > 4 else ''}"
            yield finding(
                "P8",
                Severity.stop if share > 0.9 else Severity.warn,
                "the optimiser holds another model's parameters"
                if others and share > 0.9
                else f"the optimiser does not hold {share:.0%} of the parameters",
                f"{counted(len(lost), 'tensor')} of the model that ask for gradients: {names}; it holds "
                f"{counted(others, 'tensor')} that are not the model's",
                "it was made before the model was changed or moved, from another model, or from a part of it",
                "make it last, from model.parameters(); declare what stays as it is with frozen=(...)",
                "optimiser",
            )
            if share > 0.9:
                subject.known["optimiser"] = True
                return
    yield from _numbers(subject, groups)


def _numbers(subject: Subject, groups: list[dict[str, Any]]) -> Iterator[Finding]:
    """Rates and weight decay that cannot work."""
    adaptive = any(name in type(subject.optimiser).__name__.lower() for name in ("adam", "rms", "lion", "adagrad"))
    peak = _peak_rates(subject, groups)
    high = ADAPTIVE_HIGH if adaptive else PLAIN_HIGH
    for group, rate in zip(groups, peak, strict=True):
        where = f"the rate is {rate:g}, with {type(subject.optimiser).__name__}"
        share = sum(one.numel() for one in group["params"]) / max(
            sum(p.numel() for g in groups for p in g["params"]), 1
        )
        if rate == 0 and share > 0.01:
            yield finding(
                "P10",
                Severity.stop if share > 0.5 else Severity.warn,
                "the learning rate is 0",
                where,
                "a schedule or group that begins and stays at 0",
                "set lr",
                "optimiser",
            )
        elif not math.isfinite(rate) or rate < 0 or rate > high:
            absurd = not rate <= 10 * high or rate < 0
            yield finding(
                "P10",
                Severity.stop if absurd else Severity.warn,
                "the learning rate is too high",
                where,
                "a number that was meant for another optimiser",
                f"try {1e-3 if adaptive else 1e-2:g}",
                "optimiser",
            )
        elif rate < LOW:
            yield finding(
                "P10",
                Severity.stop,
                "the learning rate is next to nothing",
                where,
                "a number that was divided twice",
                f"try {1e-3 if adaptive else 1e-2:g}",
                "optimiser",
            )
        else:
            yield from _decay(subject, group, rate, adaptive)
            continue
        subject.known["rate"] = True
        return


def _decay(subject: Subject, group: dict[str, Any], rate: float, adaptive: bool) -> Iterator[Finding]:
    """Weights that shrink faster than they learn."""
    decay = float(group.get("weight_decay") or 0.0)
    decoupled = "adamw" in type(subject.optimiser).__name__.lower() or bool(group.get("decoupled_weight_decay"))
    lives = 1 / (rate * decay) if decay > 0 and (decoupled or not adaptive) else math.inf
    if lives < FORGETS_STEPS or (adaptive and not decoupled and decay > 0.05):
        yield finding(
            "P10",
            Severity.warn,
            "weight decay outweighs what is learnt",
            f"weight_decay={decay:g} at a rate of {rate:g}"
            + (
                f" shrinks every weight by e in {lives:.0f} steps"
                if lives < math.inf
                else " is added to gradients that are smaller"
            ),
            "a number that was meant for another optimiser",
            "try 0.01 with AdamW, 1e-4 otherwise",
            "optimiser",
        )


def _peak_rates(subject: Subject, groups: list[dict[str, Any]]) -> list[float]:
    """The rate of each group; the highest of the first steps where a schedule warms it up."""
    rates = [float(group["lr"]) if "lr" in group else 1e-3 for group in groups]
    step = getattr(subject.schedule, "step", None)
    if step is None or getattr(subject.schedule, "optimizer", None) is not subject.optimiser:
        return [max(rate, float(group.get("max_lr", 0) or 0)) for rate, group in zip(rates, groups, strict=True)]
    kept = Kept({"schedule": subject.schedule, "optimiser": subject.optimiser})
    for _ in range(subject.steps or 1000):
        try:
            step()
        except (TypeError, ValueError, RuntimeError):
            break
        rates = [max(rate, float(group["lr"])) for rate, group in zip(rates, groups, strict=True)]
    kept.restore()
    return rates


def stepper(subject: Subject) -> Any:
    """A function of a batch's number that does one training step; None where the parts for it are missing."""
    if subject.step is not None:
        return lambda number: call_step(subject, number)
    if subject.known.get("loss_fails"):
        return None
    if subject.model is None or subject.loss is None or subject.optimiser is None or not subject.batches:
        return None

    def plain(number: int) -> None:
        assert subject.model is not None
        subject.model.train()
        subject.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(subject.loss_of(subject.batches[number % len(subject.batches)]))
        subject.optimiser.step()
        if hasattr(subject.schedule, "step"):
            with suppress(TypeError):  # one that wants a metric
                subject.schedule.step()

    return plain


def call_step(subject: Subject, number: int = 0) -> Any:
    """The given step, with a batch in the form that it asks for."""
    assert subject.step is not None
    count, _ = parameters_of(subject.step)
    if count == 0:
        return subject.step()
    if not subject.batches:
        raise ValueError("step takes a batch: hand over batches= as well")
    batch: Batch = subject.batches[number % len(subject.batches)]
    if count == 1:
        return subject.step(batch.raw)
    given = [batch.image, batch.target, batch.valid][:count]
    return subject.step(*given)


def check_step(subject: Subject) -> Iterator[Finding]:
    """P8 and P10 of one step, and of a few on the same batch."""
    model = subject.model
    run = stepper(subject)
    if model is None or run is None or subject.known.get("optimiser"):
        return
    kept = Kept(subject.roots)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    seed_all(subject.seed)
    run(0)
    left = {name: one.grad.detach().clone() for name, one in model.named_parameters() if one.grad is not None}
    groups = [] if subject.optimiser is None else subject.optimiser.param_groups
    held = {id(one) for group in groups for one in group["params"]} or None
    changes = _changes(model, before, held)
    yield from _size(subject, model, changes, left)
    if subject.step is not None and subject.optimiser is not None:
        found = _clears(subject, model, left)
        if found is not None:
            yield found
    kept.restore()
    if not subject.known.get("rate") and not subject.known.get("small"):
        yield from _course(subject, model, run)
        kept.restore()


def _changes(model: nn.Module, before: dict[str, Tensor], held: set[int] | None) -> dict[str, float]:
    """By how much of its size each weight tensor that the optimiser holds has changed."""
    return {
        name: float((one.detach() - before[name]).norm()) / max(float(before[name].norm()), 1e-12)
        for name, one in model.named_parameters()
        if one.requires_grad and one.ndim > 1 and (held is None or id(one) in held)
    }


def _size(subject: Subject, model: nn.Module, changes: dict[str, float], left: dict[str, Tensor]) -> Iterator[Finding]:
    sizes = torch.tensor(list(changes.values()) or [0.0])
    middle = float(sizes.median())
    evidence = f"one step changes weight tensors by {middle:.2g} of their size (median of {len(changes)})"
    if any(not math.isfinite(one) for one in changes.values()):
        yield finding(
            "P8",
            Severity.stop,
            "the first step makes weights that are no numbers",
            evidence,
            "a gradient that is not finite",
            "look for a division by 0 in the loss",
            "step",
        )
        subject.known["small"] = True
    elif middle < SMALL_CHANGE and not subject.known.get("rate"):
        size = math.sqrt(sum(float(one.norm()) ** 2 for one in left.values()))
        own = _own_gradient(subject, model)
        clipped = own is not None and 0 < size < CLIPPED * own
        yield finding(
            "P10",
            Severity.stop if middle < SMALL_CHANGE / 10 else Severity.warn,
            "gradients are clipped to next to nothing"
            if clipped
            else "a step changes the weights by nothing"
            if middle == 0
            else "a step changes the weights by next to nothing",
            evidence + (f"; of a gradient of {own:.3g} {size:.2g} is left" if clipped else ""),
            "a clipping threshold far below the gradient's size"
            if clipped
            else "a rate next to 0, a step that is skipped, or gradients that are lost before it",
            "clip at a norm of 1 to 12, or not at all" if clipped else "follow one gradient from backward() to step()",
            "step",
        )
        subject.known["small"] = True
    elif middle > LARGE_CHANGE and not subject.known.get("rate"):
        yield finding(
            "P10",
            Severity.warn,
            "a step changes the weights by more than they are",
            evidence,
            "a learning rate that is too high, or a loss that is a sum",
            "lower the rate tenfold",
            "step",
        )
        subject.known["rate"] = True


def _own_gradient(subject: Subject, model: nn.Module) -> float | None:
    """The size of the gradient of the first batch, where model and loss are known."""
    if subject.loss is None or not subject.batches or subject.known.get("loss_fails"):
        return None
    model.zero_grad(set_to_none=True)
    seed_all(subject.seed)
    model.train()
    torch.autograd.backward(subject.loss_of(subject.batch))
    return math.sqrt(sum(float(one.grad.norm()) ** 2 for one in model.parameters() if one.grad is not None))


def _clears(subject: Subject, model: nn.Module, left: dict[str, Tensor]) -> Finding | None:
    """The second step with the gradients of the first left as they were, and taken away."""
    if not any(bool(one.any()) for one in left.values()):
        return None  # the step clears them when it is done
    for name, one in model.named_parameters():  # the own gradient was computed in between
        one.grad = left[name].clone() if name in left else None
    kept, ends = Kept(subject.roots), []
    for cleared in (False, True):
        if cleared:
            for one in model.parameters():
                one.grad = None
        seed_all(subject.seed)
        call_step(subject, 1)
        ends.append([one.detach().clone() for one in model.parameters()])
        kept.restore()
    if all(same_bits(*pair) for pair in zip(*ends, strict=True)):
        return None
    return finding(
        "P8",
        Severity.stop,
        "gradients are not cleared between steps",
        "a second step goes another way where the gradients of the first are taken away",
        "zero_grad() is missing, or of another optimiser",
        "call optimizer.zero_grad() before each backward()",
        "step",
    )


def _course(subject: Subject, model: nn.Module, run: Any) -> Iterator[Finding]:
    """A few steps on one batch: the loss must not run away."""
    if subject.loss is None or not subject.batches or subject.known.get("loss_fails") or subject.known.get("objective"):
        return

    def now() -> float:
        model.train()
        seed_all(subject.seed)
        with torch.no_grad():
            return float(subject.loss_of(subject.batch))

    began, values = time.perf_counter(), [now()]
    for number in range(STEPS):
        seed_all(number)
        run(0)
        values.append(now())
        if time.perf_counter() - began > SECONDS:
            break
    worst, first, last = max(values), values[0], values[-1]
    if not math.isfinite(last) or (len(values) > 6 and last > first + max(1.0, abs(first))):
        yield finding(
            "P10",
            Severity.stop,
            "the loss runs away on one batch",
            f"from {first:.4g} to {last:.4g} in {len(values) - 1} steps, at most {worst:.4g}",
            "a learning rate that is too high, or a sign that is turned round",
            "lower the rate tenfold",
            "optimiser",
        )
