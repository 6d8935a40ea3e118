"""What the leaderboard score costs on a full 320^3 volume: CPU seconds, wall time and peak memory.

    ./run bench metric [--fixture ../shared/fixtures/metric/s320_medium.npz] [--repeats 3]

Every measurement runs in a process of its own, so that its peak memory is its own; compiling happens before the clock
starts (and once ever: the kernels are cached). One and two threads take turns, round after round. The score is compared
with the hosts' number, so that a fast wrong answer cannot pass. Memory is the peak of the whole process, interpreter,
libraries and both input volumes included. The curve scores five thresholds of a blurred prediction; the same five by
five calls of the whole score show what sharing is worth.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WHOLE, QUICK = "leaderboard", "without matching tunnels"
CURVE, SEPARATE = "curve, 5 thresholds", "5 thresholds one by one"
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
HOSTS_CPU_SECONDS = 80.0  # of the hosts' code for such a volume: taken from the metric's account, not measured here
FIXTURE = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "metric" / "s320_medium.npz"


def measure(fixture: Path, name: str, threads: int) -> dict[str, float]:
    """Score the fixture once in this process; returns the score and what it cost."""
    import numpy as np
    from scipy import ndimage

    from volumen import metrics

    with np.load(fixture) as volumes:
        prediction, truth = volumes["pred"], volumes["gt"]
    if name in (CURVE, SEPARATE):
        prediction = ndimage.gaussian_filter(prediction.astype(np.float32), 1.0)

    def apply(prediction: Any, truth: Any) -> float:
        if name == CURVE:
            return metrics.leaderboard_curve(prediction, truth, THRESHOLDS, threads=threads).best.score.score
        if name == SEPARATE:
            return max(metrics.leaderboard(prediction > t, truth, threads=threads).score for t in THRESHOLDS)
        metric = metrics.leaderboard if name == WHOLE else metrics.leaderboard_without_matching_tunnels
        return metric(prediction, truth, threads=threads).score

    random = np.random.default_rng(0)
    small = (random.random((24, 24, 24)) < 0.85).astype(prediction.dtype)  # reaches every kernel: it has cavities
    apply(small, small.astype(np.uint8))
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    score = apply(prediction, truth)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"score": score, "cpu": cpu, "wall": wall, "baseline": baseline / 2**20, "peak": peak / 2**20}


def in_subprocess(fixture: Path, name: str, threads: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--fixture", str(fixture), "--measure", name, "--threads", str(threads)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> int:
    """Print one line per metric and number of threads; the best of the repeats of each column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixture", type=Path, default=FIXTURE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.fixture, arguments.measure, arguments.threads)))
        return 0
    if not arguments.fixture.is_file():
        print(f"{arguments.fixture} is not there: pass --fixture with an .npz (pred, gt) beside a .json of scores")
        return 2
    expected = json.loads(arguments.fixture.with_suffix(".json").read_text())["total"]
    print(f"{'metric':26}{'threads':>8}{'CPU s':>8}{'wall s':>8}{'before MB':>11}{'peak MB':>9}{'hosts / ours':>14}")
    for name in (WHOLE, QUICK, CURVE, SEPARATE):
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for _ in range(arguments.repeats):
            for threads, found in runs.items():
                found.append(in_subprocess(arguments.fixture, name, threads))
        if name == WHOLE and any(abs(run["score"] - expected) > 1e-9 for found in runs.values() for run in found):
            print(f"score {runs[1][0]['score']!r}, but the hosts' code gives {expected!r}")
            return 1
        for threads, found in runs.items():
            best = {key: min(run[key] for run in found) for key in found[0]}
            cost = f"{best['cpu']:8.2f}{best['wall']:8.2f}{1024 * best['baseline']:11.0f}{1024 * best['peak']:9.0f}"
            ratio = f"{HOSTS_CPU_SECONDS / best['cpu']:13.0f}x" if name == WHOLE else ""
            print(f"{name:26}{threads:8}{cost}{ratio}")
        faster = statistics.median(one["wall"] / two["wall"] for one, two in zip(runs[1], runs[2], strict=True))
        print(f"{name:26}two threads {faster:.2f} times faster in wall time (median of {arguments.repeats} rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
