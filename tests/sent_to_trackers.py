"""What tests send to each tracker, and a process that sends it.

python tests/sent_to_trackers.py wandb FOLDER      prints how to see it, and what the library gives back as JSON
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from volumen.trackers.choice import TRACKERS
from volumen.trackers.tracker import TrackedRun, Tracker

SCALARS = [(4, {"loss/total": 0.5, "val/dice": 0.25}), (8, {"loss/total": 0.125})]
CURVE = [(4, 0.5), (8, 0.125)]
"""Of the loss."""
PICTURE = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)
TEXT = "R6 warn: nothing is predicted"
SETTINGS: dict[str, Any] = {"seed": 7, "data": {"fold": 1}}


def run_in(folder: Path) -> TrackedRun:
    """A run without a training."""
    return TrackedRun(folder, "project", "0123456789abcdef", SETTINGS)


def send(name: str, run: TrackedRun) -> Tracker:
    """Everything that can be sent, closed."""
    tracker = TRACKERS[name](run)
    for step, values in SCALARS:
        tracker.scalars(step, values)
    tracker.image(8, "slices/case", PICTURE)
    tracker.text(8, "signs/R6", TEXT)
    tracker.close()
    return tracker


def kept_by_trackio() -> list[Any]:
    """Name, rows and settings of its only run, as it gives them back."""
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("project")
    return [name, SQLiteStorage.get_logs("project", name), SQLiteStorage.get_run_config("project", name)]


if __name__ == "__main__":
    print(send(sys.argv[1], run_in(Path(sys.argv[2]))).hint)
    if sys.argv[1] == "trackio":
        print(json.dumps(kept_by_trackio()))
