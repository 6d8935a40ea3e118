"""How fast is a card, and is it right? Correctness, steps, layers, data, prediction and a minute of training.

    ./run bench gpu [--sections correctness,step] [--seconds 330] [--out gpu-results]

Correctness comes first, against float64 on the CPU: where it fails, nothing is measured (exit code 1). Then come the
figures of this package beside those of plain PyTorch, its compiler, and MONAI's and nnU-Net's networks where they are
installed. Results are written to `--out` after each row; what does not fit into `--seconds` is named. No network is
needed. Without a card it says so (exit code 2); `--device cpu --tiny` only shows that every section works.
"""

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_sections import correctness, layers, peers, runs, steps, workers
from gpu_sections.phantom_data import Phantoms
from gpu_sections.plan import Plan, tiny
from gpu_sections.report import Report
from volumen.errors import EXIT_USER_ERROR
from volumen.runtime import cpu_description, machine_description

EXPECTED_SECONDS = {
    "correctness": 20, "step": 25, "peers": 85, "norm": 5, "convolutions": 15, "profile": 10, "prediction": 25,
    "data": 25, "training": 50, "accuracy": 40, "compiled": 60,
}  # fmt: skip
"""What each takes on a card, in the order in which they are done; one that does not fit any more is left out."""
NEED_PHANTOMS = ("data", "training")


def main() -> int:
    """Measure and print."""
    options = parse()
    if options.worker:
        workers.work(options.worker)
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch sees no CUDA device, so there is nothing to measure: use a machine with one", file=sys.stderr)
        return EXIT_USER_ERROR
    device = torch.device(options.device)
    plan = tiny(device, options.out) if options.tiny else Plan(device, options.out)
    report, began = Report(options.out, facts_of(device)), time.monotonic()
    wanted = [name for name in EXPECTED_SECONDS if name in options.sections]
    needed = any(name in NEED_PHANTOMS for name in wanted)
    phantoms = Phantoms(options.out / "phantoms", plan.phantoms if needed else 0, plan.phantom)
    try:
        return measure(plan, report, phantoms, wanted, began + options.seconds)
    finally:
        phantoms.stop()
        shutil.rmtree(phantoms.folder, ignore_errors=True)
        report.facts["seconds"] = round(time.monotonic() - began, 1)
        report.write()


def measure(plan: Plan, report: Report, phantoms: Phantoms, wanted: list[str], deadline: float) -> int:
    """Do the sections that fit; 1 where the card computes wrongly."""

    def left() -> float:
        return deadline - time.monotonic()

    sections: dict[str, Callable[[], Any]] = {
        "step": lambda: steps.measure(plan, report),
        "peers": lambda: peers.measure(plan, report),
        "norm": lambda: layers.measure_norm(plan, report),
        "convolutions": lambda: layers.measure_convolutions(plan, report),
        "profile": lambda: layers.measure_profile(plan, report),
        "prediction": lambda: runs.measure_prediction(plan, report),
        "data": lambda: runs.measure_data(plan, report, phantoms),
        "training": lambda: runs.measure_training(plan, report, phantoms, min(plan.train_seconds, left() - 25)),
        "accuracy": lambda: runs.measure_accuracy(plan, report),
        "compiled": lambda: steps.measure_compiled(plan, report),
    }
    for name in wanted:
        if plan.on_card and left() < EXPECTED_SECONDS[name]:
            report.note(f"{name} is left out: {left():.0f} s are left, and it takes {EXPECTED_SECONDS[name]}")
            continue
        began = time.monotonic()
        if name == "correctness":
            if not correctness.measure(plan, report):
                report.note("the network computes something else here: nothing is measured")
                return 1
        else:
            report.attempt(name, sections[name])
        report.facts.setdefault("section_seconds", {})[name] = round(time.monotonic() - began, 1)
        report.write()
    return 0


def facts_of(device: torch.device) -> dict[str, Any]:
    """What it is measured on."""
    facts: dict[str, Any] = {
        "device": machine_description(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": cpu_description(),
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        facts |= {"memory_gib": f"{free / 2**30:.1f} free of {total / 2**30:.1f}"}
    return facts


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sections", default=",".join(EXPECTED_SECONDS), help="which, with commas between")
    parser.add_argument("--seconds", type=float, default=330.0, help="what begins must be expected to end by then")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of gpu.json and gpu.md")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: it shows that all works and measures nothing")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sections = options.sections.split(",")
    unknown = set(options.sections) - set(EXPECTED_SECONDS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}: use some of {', '.join(EXPECTED_SECONDS)}")
    if options.device == "cpu" and not (options.tiny or options.worker):
        parser.error("--device cpu goes with --tiny: the real sizes are for a card")
    return options


if __name__ == "__main__":
    sys.exit(main())
