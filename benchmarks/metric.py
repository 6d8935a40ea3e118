"""What the leaderboard score costs on a full 320^3 volume: CPU seconds, wall time and peak memory.

    python benchmarks/metric.py [--fixture ../shared/fixtures/metric/s320_medium.npz] [--repeats 3]

Every measurement runs in a process of its own, so that its peak memory is its own; compiling happens before the clock
starts (and once ever: the kernels are cached). The score is compared with the hosts' number, so that a fast wrong
answer cannot pass. Memory is the peak of the whole process, interpreter, libraries and both input volumes included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

FIXTURE = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "metric" / "s320_medium.npz"


def measure(fixture: Path, name: str, threads: int) -> dict[str, float]:
    """Score the fixture once in this process; returns the score and what it cost."""
    import numpy as np

    from volumen import metrics

    metric = {
        "leaderboard": metrics.leaderboard,
        "without matching tunnels": metrics.leaderboard_without_matching_tunnels,
    }[name]
    with np.load(fixture) as volumes:
        prediction, truth = volumes["pred"], volumes["gt"]
    random = np.random.default_rng(0)
    small = (random.random((24, 24, 24)) < 0.85).astype(np.uint8)  # reaches every kernel: it has cavities
    metric(small, small, threads=1)
    baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    score = metric(prediction, truth, threads=threads).score
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
    print(f"{'metric':26}{'threads':>8}{'CPU s':>8}{'wall s':>8}{'before MB':>11}{'peak MB':>9}")
    for name in ("leaderboard", "without matching tunnels"):
        for threads in (1, 2):
            runs = [in_subprocess(arguments.fixture, name, threads) for _ in range(arguments.repeats)]
            best = {key: min(run[key] for run in runs) for key in runs[0]}
            if name == "leaderboard" and any(abs(run["score"] - expected) > 1e-9 for run in runs):
                print(f"score {runs[0]['score']!r}, but the hosts' code gives {expected!r}")
                return 1
            cost = f"{best['cpu']:8.2f}{best['wall']:8.2f}{1024 * best['baseline']:11.0f}{1024 * best['peak']:9.0f}"
            print(f"{name:26}{threads:8}{cost}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
