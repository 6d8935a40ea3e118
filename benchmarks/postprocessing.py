"""What does post-processing of a volume of 320^3 cost: both presets, and every step there is?

    ./run bench postprocessing [--dataset ../shared/data/semi]

The probabilities are the blurred labels of a real volume, mirrored to 320^3, with noise on their logits. Each pipeline
runs in a process of its own; a first run on a small block compiles what is compiled once. The peak is the process's,
interpreter and probabilities included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from volumen.config.fragments import load_postprocessing, postprocessing_names
from volumen.config.postprocessing import Postprocessing
from volumen.data.labels import SURFACE
from volumen.data.prepare import prepare
from volumen.postprocess import apply_pipeline, count, walk
from volumen.runtime import cpu_description, proc_status

SIDE = 320
EVERYTHING = "every step"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/semi"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--probabilities", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options.child, options.probabilities)
    print(cpu_description())
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "probabilities.npy"
        np.save(file, _probabilities(options.dataset, Path(temporary)))
        print(
            f"\n{SIDE}^3\n\n| pipeline | seconds | CPU s | peak MB | components, tunnels, cavities |\n"
            + "| --- " * 5
            + "|"
        )
        for name in (*postprocessing_names(), EVERYTHING):
            command = [sys.executable, __file__, "--child", name, "--probabilities", str(file)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            numbers = f"{found['seconds']:.2f} | {found['cpu']:.2f} | {found['peak'] / 1e6:.0f}"
            print(f"| {name} | {numbers} | {found['counts']} |")
            if name == EVERYTHING:
                print("\n| step | CPU s |\n| --- | --- |")
                for step, seconds in found["steps"]:
                    print(f"| {step} | {seconds:.2f} |")
    return 0


def _probabilities(raw: Path, folder: Path) -> np.ndarray:
    dataset = prepare(raw, folder / "prepared", accept_proposal=True)
    label = np.asarray(dataset.label(next(case.id for case in dataset.cases if case.surface_voxels)))
    padding = [(0, SIDE - side) for side in label.shape]
    sheet = ndimage.gaussian_filter((np.pad(label, padding, mode="symmetric") == SURFACE).astype(np.float32), 1.0)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(sheet.shape, np.float32), 1.0)
    return (1 / (1 + np.exp(-(8 * (sheet - 0.4) + 1.5 * noise / noise.std())))).astype(np.float32)


def _settings(name: str) -> Postprocessing:
    if name != EVERYTHING:
        return load_postprocessing(name)
    kinds = ("sharpen_ridges", "hysteresis", "split_fused", "remove_small_components", "close", "open", "median")
    kinds += ("plug_pinholes", "patch_sheets", "fill_holes", "fill_cavities")
    extra = {"open": {"radius_voxels": [1, 0, 0]}}
    return Postprocessing.model_validate_json(
        json.dumps({"steps": [{"kind": kind, **extra.get(kind, {})} for kind in kinds]})
    )


def _child(name: str, file: Path) -> int:
    settings, probabilities = _settings(name), np.load(file)
    apply_pipeline(np.ascontiguousarray(probabilities[:64, :64, :64]), settings)
    wall, cpu, steps = time.perf_counter(), time.process_time(), []
    last = cpu
    for step, state in walk(probabilities, settings):
        steps.append((step.kind, time.process_time() - last))
        last, mask = time.process_time(), state.mask
    seconds, used, peak = time.perf_counter() - wall, time.process_time() - cpu, proc_status("VmHWM")["VmHWM"]
    found = count(mask)
    counts = f"{found.components}, {found.tunnels}, {found.cavities}"
    print(json.dumps({"seconds": seconds, "cpu": used, "peak": peak, "steps": steps, "counts": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
