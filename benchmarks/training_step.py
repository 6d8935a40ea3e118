"""One training step on this CPU: plain float32 PyTorch, the same with the allocator tuned, and ours; and what a step
consists of.

    python benchmarks/training_step.py                                   # 32 filters / depth 4 / 64^3 and 8 / 3 / 48^3
    python benchmarks/training_step.py --filters 16 --depth 3 --patch 64 --batch 2

Every variant lives in a process of its own with a fresh allocator. The parent asks each in turn for one step, round
after round, so that whatever else the machine does falls on all of them alike; the ratios are medians over rounds of
the two steps of one round. "Plain" is the same network by PyTorch's own operations, channels first, float32. The
accuracy check trains a small network on synthetic sheets both ways from the same seeds and compares the Dice on sheets
it has not seen.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from volumen.models import UNet, count_parameters, set_plain
from volumen.runtime import (
    Precision,
    choose_precision,
    cpu_description,
    cpu_flags,
    cpu_has_fast_bfloat16,
    physical_cores,
    tune_allocator,
)

CPU = torch.device("cpu")
PRIOR = 0.07
LEARNT = 0.5  # Dice below which the plain training has not learnt enough for a comparison to say anything
TOLERATED = 0.005  # a loss of Dice too small to call harm, whatever its significance
PROFILED_STEPS = 3
UPSAMPLE = "part:upsample"
POOLING = "pooling and upsampling"
# The part of a step that an operation belongs to, by a word in its own name or in that of the nearest caller that has
# one.
PARTS: dict[str, tuple[str, ...]] = {
    "optimiser": ("Optimizer.",),
    "loss": ("part:loss",),
    POOLING: ("max_pool3d", "MaxPool3D"),
    "norm and activation": (
        "norm",
        "Norm",
        "leaky_relu",
        "LeakyRelu",
        "AsStridedBackward",
        "CopySlices",
        "CloneBackward",
    ),
    "convolutions": ("conv", "Conv"),
    "skip connections": ("aten::cat", "CatBackward"),
}


@dataclass(frozen=True)
class Variant:
    """One way to do the step."""

    name: str
    tuned: bool
    plain: bool
    precision: str


def variants() -> list[Variant]:
    """What is worth measuring on this CPU."""
    best = choose_precision("auto", CPU).name
    ours = [Variant(f"ours, {name}", True, False, name) for name in dict.fromkeys(("fp32", best))]
    return [
        Variant("plain fp32", False, True, "fp32"),
        Variant("plain fp32, tuned allocator", True, True, "fp32"),
        *ours,
    ]


def make_network(variant: Variant, filters: int, depth: int) -> tuple[nn.Module, Precision]:
    """The plan's network, ready for one way of training."""
    model = UNet(filters=filters, depth=depth, prior=PRIOR).train()
    precision = Precision(variant.precision, "cpu")  # type: ignore[arg-type]
    for upsampler in model.upsamplers:
        _mark(upsampler)
    set_plain(model, variant.plain)
    if not variant.plain:
        model = model.to(memory_format=precision.memory_format)  # type: ignore[call-overload]
    return model, precision


def _mark(module: nn.Module) -> None:
    """Show the profiler where this module's forward pass begins and ends."""
    spans: list[Any] = []

    def begin(*_: Any) -> None:
        spans.append(torch.profiler.record_function(UPSAMPLE))
        spans[-1].__enter__()

    def end(*_: Any) -> None:
        spans.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end)


def make_step(variant: Variant, options: argparse.Namespace) -> Callable[[], float]:
    """A function that does one step on a fixed batch and returns the loss before it."""
    torch.manual_seed(0)
    model, precision = make_network(variant, options.filters, options.depth)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.99, nesterov=True)
    size = (options.batch, 1, options.patch, options.patch, options.patch)
    image, target = torch.randn(size), (torch.rand(size) < PRIOR).float()

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        with precision.autocast():
            logits = model(image)
        # The loss on a leaf of its own, so that the profiler sees its forward and backward pass as one part.
        leaf = logits.detach().float().requires_grad_()
        with torch.profiler.record_function("part:loss"):
            loss = functional.binary_cross_entropy_with_logits(leaf, target)
            loss.backward()
        logits.backward(leaf.grad.to(logits.dtype))
        optimiser.step()
        return float(loss.detach())

    return step


def shares_of(step: Callable[[], float]) -> dict[str, float]:
    """Share of a step's time that each part takes, by torch.profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(PROFILED_STEPS):
            step()
    events = profiler.events()
    # A transposed convolution has the name of the others; its backward pass bears the number of its forward pass.
    upsampling = {event.sequence_nr for event in events if event.sequence_nr >= 0 and _within(event, UPSAMPLE)}
    times = dict.fromkeys([*PARTS, "rest"], 0.0)
    for event in events:
        times[_part(event, upsampling)] += event.self_cpu_time_total
    total = sum(times.values())
    return {part: spent / total for part, spent in times.items()}


def _within(event: Any, name: str) -> bool:
    while event is not None and event.name != name:
        event = event.cpu_parent
    return event is not None


def _part(event: Any, upsampling: set[int]) -> str:
    if _within(event, UPSAMPLE):
        return POOLING
    while event is not None:
        if "Backward" in event.name and event.sequence_nr in upsampling:
            return POOLING
        for part, words in PARTS.items():
            if any(word in event.name for word in words):
                return part
        event = event.cpu_parent
    return "rest"


def work(variant: Variant, options: argparse.Namespace) -> None:
    """A worker: one step for each line read, one line of JSON for each step; `profile` asks for the shares."""
    if variant.tuned:
        tune_allocator()
    torch.set_num_threads(options.threads)
    step = make_step(variant, options)
    step()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "profile":
            print(json.dumps(shares_of(step)), flush=True)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, loss]), flush=True)


class Worker:
    """The parent's end of a worker."""

    def __init__(self, variant: Variant, options: argparse.Namespace, stack: ExitStack) -> None:
        self.variant, self.wall, self.cpu, self.loss = variant, list[float](), list[float](), 0.0
        shape = [f"--{name}={getattr(options, name)}" for name in ("filters", "depth", "patch", "batch", "threads")]
        command = [sys.executable, __file__, f"--worker={variant.name}", *shape]
        self.process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(self.process.stdin.close)  # type: ignore[union-attr]
        self.expect()

    def expect(self) -> str:
        """The next line of the worker."""
        output: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = output.readline()
        if not line:
            raise RuntimeError(f"the worker '{self.variant.name}' ended with {self.process.wait()}")
        return line

    def ask(self, question: str) -> Any:
        """Send a line, read the answer."""
        self.process.stdin.write(question + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return json.loads(self.expect())

    def step(self) -> None:
        """One step, timed by the worker itself."""
        wall, cpu, self.loss = self.ask("step")
        self.wall.append(wall)
        self.cpu.append(cpu)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time every variant on one network; prints and returns the numbers."""
    network = UNet(filters=options.filters, depth=options.depth)
    shape = f"{options.patch}^3, batch {options.batch}, {options.threads} threads, {options.rounds} rounds"
    print(f"\n{options.filters} filters, depth {options.depth} ({count_parameters(network):,} parameters), {shape}")
    with ExitStack() as stack:
        workers = [Worker(variant, options, stack) for variant in variants()]
        for _ in range(options.rounds):
            for worker in workers:
                worker.step()
        shares = {worker.variant.name: worker.ask("profile") for worker in (workers[0], workers[-1])}
    shipped, matched = workers[0], workers[1]
    print(f"{'':30}{'seconds':>9}{'cpu s':>9}{'x plain':>9}{'x tuned plain':>15}{'loss':>9}")
    rows = {}
    for worker in workers:
        ratios = [_ratio(base, worker) for base in (shipped, matched)]
        seconds, cpu = statistics.median(worker.wall), statistics.median(worker.cpu)
        rows[worker.variant.name] = {"seconds": seconds, "cpu_seconds": cpu, "ratios": ratios}
        print(f"{worker.variant.name:30}{seconds:9.3f}{cpu:9.3f}{ratios[0]:9.2f}{ratios[1]:15.2f}{worker.loss:9.4f}")
    print(f"\n{'share of the step':30}" + "".join(f"{name:>20}" for name in shares))
    for part in [*PARTS, "rest"]:
        print(f"  {part:28}" + "".join(f"{share[part]:20.1%}" for share in shares.values()))
    return {"options": {key: getattr(options, key) for key in ("filters", "depth", "patch", "batch", "threads")},
            "variants": rows, "shares": shares}  # fmt: skip


def _ratio(base: Worker, worker: Worker) -> float:
    return statistics.median(before / after for before, after in zip(base.wall, worker.wall, strict=True))


def sheets(seed: int, side: int = 32) -> tuple[Tensor, Tensor]:
    """A noisy image of two wavy sheets, two voxels thick, and the truth: [1, 1, side, side, side] each."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(side, dtype=torch.float32)
    wave, tilt = torch.rand(2, generator=generator) * 0.4, (torch.rand(2, generator=generator) - 0.5) * 0.4
    ripple = 2 * torch.sin(axis[:, None] * wave[0] + axis * wave[1])
    height = side / 3 + ripple + axis[:, None] * tilt[0] + axis * tilt[1]
    depth = axis[:, None, None]
    distance = torch.stack([depth - height, depth - height - side / 4]).abs().amin(0)
    truth = (distance <= 1).float()[None, None]
    return truth + 0.8 * torch.randn(truth.shape, generator=generator), truth


def trained_dice(variant: Variant, seed: int, steps: int) -> float:
    """Dice on unseen sheets after a short training from `seed`."""
    torch.manual_seed(seed)
    model, precision = make_network(variant, filters=8, depth=2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for number in range(steps):
        pair = sheets(1000 * seed + 2 * number), sheets(1000 * seed + 2 * number + 1)
        image, truth = (torch.cat(parts) for parts in zip(*pair, strict=True))
        with precision.autocast():
            logits = model(image)
        loss = functional.binary_cross_entropy_with_logits(logits.float(), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    model.eval()
    both = total = 0.0
    with torch.inference_mode():
        for number in range(8):
            image, truth = sheets(-1 - number)
            with precision.autocast():
                mask = model(image).float() > 0
            both += 2 * float((mask & (truth > 0)).sum())
            total += float(mask.sum() + truth.sum())
    return both / total


def accuracy(options: argparse.Namespace) -> dict[str, list[float]]:
    """Train both ways from the same seeds; prints and returns the Dice of each."""
    torch.set_num_threads(options.threads)
    print(f"\nAccuracy: Dice on unseen synthetic sheets after {options.steps} steps, by seed")
    found = {}
    for variant in (variants()[0], *variants()[2:]):
        found[variant.name] = [trained_dice(variant, seed, options.steps) for seed in range(1, options.seeds + 1)]
        values = found[variant.name]
        each = " ".join(f"{value:.4f}" for value in values)
        print(f"  {variant.name:28}{each}   mean {statistics.mean(values):.4f}")
    plain, *others = found.values()
    if len(plain) < 2 or statistics.mean(plain) < LEARNT:
        print(f"  no verdict: it needs two seeds and a plain Dice of {LEARNT} (raise --seeds, --steps)")
        return found
    for name, values in zip(list(found)[1:], others, strict=True):
        pairs = [ours - theirs for ours, theirs in zip(values, plain, strict=True)]
        difference, error = statistics.mean(pairs), statistics.stdev(pairs) / len(pairs) ** 0.5
        verdict = "HARMED" if difference < -max(2 * error, TOLERATED) else "unharmed"
        print(f"  {name}: {difference:+.4f} against plain, standard error of the pairs {error:.4f}: {verdict}")
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("filters", "depth", "patch", "batch"):
        parser.add_argument(f"--{name}", type=int, help="of one network; all four, or none for the standard two")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--steps", type=int, default=100, help="of the accuracy check")
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracy check; 0 leaves it out")
    parser.add_argument("--json", help="write the numbers to this file too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    given = [getattr(options, name) is not None for name in ("filters", "depth", "patch", "batch")]
    if any(given) and not all(given):
        parser.error("give --filters, --depth, --patch and --batch together, or none of them")
    return options


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.worker:
        work(next(variant for variant in variants() if variant.name == options.worker), options)
        return
    print(f"CPU: {cpu_description()}")
    if not cpu_has_fast_bfloat16():
        print("This CPU does not multiply bfloat16 natively: only its best path, fp32, is measured.")
    elif "amx_bf16" not in cpu_flags():
        print("AMX is absent: bfloat16 is measured by AVX512-BF16.")
    networks = [(32, 4, 64, 1), (8, 3, 48, 2)] if options.filters is None else [None]
    results: dict[str, Any] = {"cpu": cpu_description(), "steps": []}
    for network in networks:
        if network is not None:
            options.filters, options.depth, options.patch, options.batch = network
        results["steps"].append(compare(options))
    if options.seeds > 0:
        results["dice"] = accuracy(options)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump(results, stream, indent=2)


if __name__ == "__main__":
    main()
