"""Single layers: the norm with its activation, convolutions at every level's shape, and what a step's time goes to."""

from typing import Any

import torch
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from volumen.files import write_atomically
from volumen.models import InstanceNormLeakyReLU

from . import steps
from .plan import Plan
from .report import Report
from .timing import free_memory, milliseconds

PASSES = 8
"""Over the activations, that a norm with activation takes at least, forward and backward together."""
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last_3d}
PROFILED_STEPS = 5
COPIES = ("nchwtonhwc", "nhwctonchw", "copy", "memcpy dtod")


def measure_norm(plan: Plan, report: Report) -> None:
    """Rows of section `norm`."""
    free_memory(plan.device)
    ours = InstanceNormLeakyReLU(plan.filters)
    shape = (plan.batch, plan.filters, *[plan.patch] * 3)
    limit = 0.0

    def theirs(values: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(functional.instance_norm(values), 0.01, inplace=True)

    for name, layer, layout in (
        ("volumen, channels last", ours, "channels last"),
        ("PyTorch, channels last", theirs, "channels last"),
        ("PyTorch, channels first", theirs, "channels first"),
    ):
        torch.manual_seed(0)
        values = torch.randn(shape, device=plan.device).to(torch.bfloat16).to(memory_format=LAYOUTS[layout])
        gradient = torch.randn_like(values)
        values.requires_grad_()
        limit = 1000 * PASSES * values.numel() * values.element_size() / plan.bandwidth

        def both(layer: Any = layer, values: Any = values, gradient: Any = gradient) -> object:
            return torch.autograd.grad(layer(values), values, gradient)

        spent = milliseconds(both, plan.device, plan.rounds, plan.warm_up)
        report.add("norm", variant=name, ms=spent, share_of_limit=limit / spent)
    report.add("norm", variant=f"limit: {PASSES} passes at {plan.bandwidth / 1e12:g} TB/s", ms=limit)


def measure_convolutions(plan: Plan, report: Report) -> None:
    """Rows of section `convolutions`: 3x3x3 at each level, and the card's own best at a product of matrices."""
    free_memory(plan.device)
    left = torch.randn(plan.matrix, plan.matrix, device=plan.device).to(torch.bfloat16)
    spent = milliseconds(lambda: left @ left, plan.device, plan.rounds, plan.warm_up)
    peak = 2 * plan.matrix**3 / spent / 1e9
    report.add("convolutions", shape=f"product of {plan.matrix}^2 matrices", tflops=peak, share_of_peak=1.0)
    for level in range(plan.depth + 1):
        side, channels = plan.patch // 2**level, plan.filters * 2**level
        for inside, outside in ((channels, channels), (2 * channels, channels)):
            if level == plan.depth and inside != outside:
                continue
            for layout in LAYOUTS:
                _convolution(plan, report, (inside, outside, side), layout, peak)


def _convolution(plan: Plan, report: Report, size: tuple[int, int, int], layout: str, peak: float) -> None:
    inside, outside, side = size
    made = {"device": plan.device, "dtype": torch.bfloat16}
    image = torch.randn(plan.batch, inside, side, side, side, **made).to(memory_format=LAYOUTS[layout])  # type: ignore[arg-type]
    weight = torch.randn(outside, inside, 3, 3, 3, **made).to(memory_format=LAYOUTS[layout])  # type: ignore[arg-type]
    gradient = torch.randn(plan.batch, outside, side, side, side, **made).to(memory_format=LAYOUTS[layout])  # type: ignore[arg-type]

    def backward(of_image: bool) -> object:
        return torch.ops.aten.convolution_backward(
            gradient, image, weight, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, [of_image, not of_image, False]
        )

    work = 2 * 27 * plan.batch * side**3 * inside * outside
    for name, job in (
        ("forward", lambda: functional.conv3d(image, weight, padding=1)),
        ("data gradient", lambda: backward(True)),
        ("weight gradient", lambda: backward(False)),
    ):
        spent = milliseconds(job, plan.device, max(plan.rounds // 3, 1), 2)
        speed = work / spent / 1e9
        report.add(
            "convolutions", shape=f"{inside}->{outside}, {plan.batch}x{side}^3", layout=layout, what=name, ms=spent,
            tflops=speed, share_of_peak=speed / peak,
        )  # fmt: skip


def measure_profile(plan: Plan, report: Report) -> None:
    """Rows of section `profile`, and all kernels in `profile.txt`."""
    free_memory(plan.device)
    step, _ = steps.step_of(plan, plan.unet, plan.default_precision)
    bare = milliseconds(step, plan.device, plan.rounds, plan.warm_up)
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if plan.on_card else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        for _ in range(PROFILED_STEPS):
            step()
        if plan.on_card:
            torch.cuda.synchronize(plan.device)
    times = _times(profiler, plan.on_card)
    total = sum(spent for spent, _ in times.values()) or 1e-9
    copies = sum(spent for name, (spent, _) in times.items() if any(word in name.lower() for word in COPIES))
    ranked = sorted(times.items(), key=lambda item: -item[1][0])
    lines = [f"{spent:10.4f} ms {count / PROFILED_STEPS:7.1f} a step  {name}" for name, (spent, count) in ranked]
    write_atomically(plan.out / "profile.txt", ("\n".join(lines) + "\n").encode())
    report.add(
        "profile", kernel="all", ms_a_step=total, calls=sum(count for _, count in times.values()) / PROFILED_STEPS,
        share=total / bare,
    )  # fmt: skip
    report.add("profile", kernel="layout copies", ms_a_step=copies, share=copies / total)
    for name, (spent, count) in ranked[:15]:
        report.add(
            "profile", kernel=name[:100].replace("|", "/"), ms_a_step=spent, calls=count / PROFILED_STEPS,
            share=spent / total,
        )  # fmt: skip
    report.note(f"profile: the share of 'all' is the busy time by that of a step that is not profiled ({bare:.4g} ms)")


def _times(profiler: profile, on_card: bool) -> dict[str, tuple[float, int]]:
    """Milliseconds a step and calls of what the device did, by name; of operations where there is no card."""
    found: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        if on_card:
            if event.device_type != DeviceType.CUDA or _is_span(event.key):
                continue
            spent = event.self_device_time_total
        else:
            spent = event.self_cpu_time_total
        found[event.key] = (spent / 1000 / PROFILED_STEPS, event.count)
    return found


def _is_span(name: str) -> bool:
    """Spans that people name, which the profiler shows on the card's time line as well."""
    return name.startswith(("ProfilerStep", "Optimizer.", "## "))
