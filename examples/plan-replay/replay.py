"""The training plan as a tree of experiments: each configuration trained small, judged by its own criteria, compared.

    python examples/plan-replay/replay.py --dataset PATH [--folder plan-replay] [--jobs 2]

`--dataset` is a data set as for `volumen prepare`, with scrolls. Every command is printed before it runs and works in
the folder, so that each can be repeated there. A second call does only what is missing. On two cores it takes under two
hours for fourteen volumes of 160^3.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from page import page_of

from volumen.errors import EXIT_INTERRUPTED
from volumen.files import write_atomically
from volumen.ledger.entry import read_ledger

HERE = Path(__file__).resolve().parent
ACCEPTED = ("P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11")
"""Findings that would stop a run: he started all the same."""
ENDED = ('"finished"', '"early_stopping"', '"sick"')

_speaking = threading.Lock()


def main() -> int:
    """Do what is missing; 0 where every experiment has its run and the page of comparison is written."""
    options = _options()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("configurations", "experiments"):
        if not (folder / part).exists():
            shutil.copytree(HERE / part, folder / part)
    if not (folder / "prepared").exists():
        dataset = str(options.dataset.resolve())
        if code := _volumen(folder, "prepare", dataset, "--out", "prepared", "--accept-proposal"):
            return code
    if not (folder / "folds.json").exists() and (
        code := _volumen(folder, "folds", "prepared", "--by", "scroll", "--out", "folds.json")
    ):
        return code
    names = list(read_ledger(folder / "experiments"))
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(pool.map(lambda name: _train(folder, name, options.jobs), names))
    if EXIT_INTERRUPTED in codes:
        print("stopped: the same command goes on")
        return EXIT_INTERRUPTED
    if any(codes):
        print("some did not end well: what is above says why")
        return 1
    runs = [f"runs/{name}" for name in names]
    compare = ["compare", *runs, "--reference", "runs/default", "--html", "comparison.html"]
    if code := _volumen(folder, *compare) or _volumen(folder, "experiment", "tree"):
        return code
    page = options.page or folder / "page.md"
    experiments = json.loads(_said(folder, "experiment", "list", "--json"))
    comparison = json.loads(_said(folder, *compare[:-2], "--json"))
    write_atomically(page, page_of(_said(folder, "experiment", "tree"), experiments, comparison))
    print(f"written: {page}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a data set as for `volumen prepare`")
    parser.add_argument("--folder", type=Path, default=Path("plan-replay"), help="everything goes here")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--page", type=Path, help="Markdown page of what came of it; otherwise page.md in the folder")
    return parser.parse_args()


def _train(folder: Path, name: str, jobs: int) -> int:
    """Train an experiment's configuration to its end, from its start or from where it stopped."""
    run = folder / "runs" / name
    status = run / "status.json"
    if status.exists() and any(word in status.read_text() for word in ENDED):
        return 0
    if (run / "checkpoints").exists() and any((run / "checkpoints").iterdir()):
        command = ["train", f"runs/{name}", "--resume"]
    else:
        shutil.rmtree(run, ignore_errors=True)  # killed before its first checkpoint
        command = ["train", f"configurations/{name}.yaml", "--dataset", "prepared", "-o", "data.folds=folds.json"]
        command += ["--out", f"runs/{name}", *(part for code in ACCEPTED for part in ("--accept", code))]
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return _volumen(folder, *command, "--quiet", environment={"OMP_NUM_THREADS": str(threads)})


def _volumen(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> int:
    """Run a command in the folder, and show it."""
    with _speaking:
        print(f"\n$ volumen {shlex.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "volumen", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **(environment or {})}, check=False).returncode


def _said(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "volumen", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
