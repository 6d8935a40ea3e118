"""Plans of sweeps for tests of their machinery, with an objective that takes milliseconds in place of a training."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from volumen.config.load import load_config
from volumen.experiments.sweep_desk import Job, Reached, Refused
from volumen.experiments.sweep_halving import Entry, Value
from volumen.experiments.sweep_plan import SweepPlan
from volumen.experiments.sweep_space import Factor, Space

SPACE = Space(
    (
        Factor("optimiser.learning_rate", "here:1", low=1e-4, high=1e-1, log=True),
        Factor("model.depth", "here:2", low=1, high=3, whole=True),
        Factor("training.gradient_clip", "here:3", choices={"none": None, "12.0": 12.0}),
    )
)


def plan_of(**changes: object) -> SweepPlan:
    """A plan with these settings in place of usual ones."""
    config = load_config("preset:default", ["data.dataset=nowhere", "data.patch=[16, 16, 16]"]).config
    settings = {
        "config": config, "space": SPACE, "metric": "dice", "rungs": (1, 3, 9), "reduction": 3, "trials": 30,
        "sampler": "random", "seed": 0,
    }  # fmt: skip
    return SweepPlan(**{**settings, **changes})  # type: ignore[arg-type]


def worth(parameters: dict[str, Value], epochs: int, seed: int = 0) -> float:
    """What a trial is worth after so many epochs; its own rate and depth for none."""
    rate, depth = float(parameters.get("optimiser.learning_rate", 5e-3)), float(parameters.get("model.depth", 4))
    return 1 - 1 / (1 + epochs) - abs(rate - 0.01) - 0.01 * depth + 1e-4 * seed


@dataclass(frozen=True)
class Quick:
    """Saves each epoch in the trial's folder, as a training does, and says where two work on one trial at a time."""

    out: Path
    seconds: float = 0.002

    def prepare(self, workers: int) -> None:
        """Nothing."""

    def saved(self, folder: Path) -> int:
        """Epochs."""
        try:
            return int((folder / "epochs").read_text() or 0)
        except FileNotFoundError:
            return 0

    def advance(self, job: Job) -> Reached | Refused | None:
        """An epoch after the other."""
        job.folder.mkdir(parents=True, exist_ok=True)
        busy = job.folder / "busy"
        other = int(busy.read_text() or 0) if busy.exists() else 0
        if other and other != os.getpid() and lives(other):
            with (self.out / "violations").open("a") as file:
                file.write(f"{job.folder}: {other} and {os.getpid()}\n")
        busy.write_text(str(os.getpid()))
        for epoch in range(self.saved(job.folder) + 1, job.epochs + 1):
            time.sleep(self.seconds)
            partial = job.folder / f"epochs-{os.getpid()}"
            partial.write_text(str(epoch))
            os.replace(partial, job.folder / "epochs")
        busy.unlink()
        return Reached(worth(dict(job.entry.parameters), job.epochs, job.entry.seed), 0.001)


def lives(process: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def right(entries: tuple[Entry, ...], rungs: tuple[int, ...]) -> bool:
    """Whether every trial has the values that its own parameters give, at the rungs that it reached."""
    return all(
        one.values == tuple(worth(dict(one.parameters), epochs, one.seed) for epochs in rungs[: len(one.values)])
        for one in entries
    )
