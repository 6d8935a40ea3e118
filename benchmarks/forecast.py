"""How right `volumen plan` is: tiny runs of drawn shapes are forecast, then trained, and both times are compared.

    ./run bench forecast [--draws 10] [--seed 0] [--dataset PREPARED] [--out FILE]

Each draw has a batch, a patch, a network, workers, an epoch's length and validations of its own. The ratio of measured
to forecast seconds is given for the whole run, an epoch's steps (the median), a validation (the mean), and for a step's
processor seconds, on which other programs have little influence. After half of its epochs the run folder is forecast
again, from its own records.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from volumen.config.load import LoadedConfig, load_config
from volumen.config.schema import Config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds, save_folds
from volumen.data.prepare import prepare
from volumen.doctor.context import open_context
from volumen.doctor.forecast_batches import plan_run
from volumen.doctor.forecast_run import plan_of_run
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.records import read_metrics
from volumen.runtime import cpu_description, tune_allocator
from volumen.training.loop import run_training
from volumen.training.state import TrainingState

AIM = 0.2


@dataclass
class Watch(SilentDisplay):
    """Notes when a training begins, when its epochs end, and its processor seconds."""

    moments: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    half: float | None = None
    spent: float = 0.0

    def started(self, run: Path, config: Config, facts: Mapping[str, Any]) -> None:
        """Before the first step."""
        self._run, self._epochs = run, config.training.epochs
        self.moments.append(time.perf_counter())
        self._used = self._cpu_began = time.process_time()

    def stepped(self, state: TrainingState, result: object, steps_per_epoch: int) -> None:
        """A step's processor seconds, the first ones of an epoch left out."""
        now = time.process_time()
        if state.cursor.batch > 1:
            self.steps.append(now - self._used)
        self._used = now

    def epoch_ended(self, state: TrainingState, record: object, validation: object) -> None:
        """The moment; the half of the run is forecast at the next one, when its status is written."""
        if self.half is None and len(self.moments) > self._epochs // 2 + 1:
            began = time.perf_counter()
            self.half = plan_of_run(self._run).run.total.middle
            self.half_moment = self.moments[-1]
            self.spent = time.perf_counter() - began
        self.moments.append(time.perf_counter())
        self.cpu_seconds = time.process_time() - self._cpu_began


def drawn(random: np.random.Generator) -> list[str]:
    """Overrides of a tiny run."""
    batch, workers = int(random.choice([1, 2, 4])), int(random.choice([0, 1, 2]))
    side, depth = int(random.choice([16, 24, 32, 48])), int(random.choice([1, 2, 3]))
    patch = [side, side, int(random.choice([16, side]))]
    return [
        f"data.batch={batch}",
        f"data.patch={patch}",
        f"data.workers={workers}",
        f"model.depth={depth}",
        f"model.filters={int(random.choice([2, 4]))}",
        f"data.sampling.patches_per_epoch={batch * int(random.choice([6, 12, 24]))}",
        f"training.epochs={int(random.integers(4, 8))}",
        f"training.validate_every_epochs={int(random.choice([1, 2, 3]))}",
        f"training.monitoring={random.choice(['null', '{probe_every_steps: 20}'])}",
        f"training.selection_metric={random.choice(['dice', 'surface_dice'])}",
    ]


def compared(loaded: LoadedConfig[Config], out: Path) -> dict[str, Any]:
    """The ratios of a run."""
    context = open_context(loaded, needs_folds=True)
    plan = plan_run(context, [loaded.config.data.batch])
    run = plan.own.run
    assert run is not None
    watch = Watch()
    run_training(loaded.config, out, watch)
    records = read_metrics(out)
    took = {
        kind: [record["seconds"] for record in records if record["kind"] == kind] for kind in ("train", "validation")
    }
    own = plan.own
    cpu = own.cpu_step * run.steps + own.cpu_validation * len(took["validation"])
    total = watch.moments[-1] - watch.moments[0] - watch.spent
    per_epoch = run.epoch_seconds.middle - run.pace.save.middle
    left = watch.moments[-1] - watch.half_moment - watch.spent if watch.half else float("nan")
    return {
        "seconds": total,
        "total": total / run.total.middle,
        "within_range": run.total.low <= total <= run.total.high,
        "epoch": statistics.median(took["train"]) / per_epoch,
        "validation": statistics.fmean(took["validation"]) / run.pace.validation.middle,
        "cpu_step": statistics.median(watch.steps) / plan.own.cpu_step,
        "cpu_total": watch.cpu_seconds / cpu,
        "half": left / watch.half if watch.half else None,
    }


def main() -> int:
    """Draw, forecast, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dataset", type=Path, help="a prepared data set with folds; phantoms otherwise")
    parser.add_argument("--out", type=Path, help="ratios as JSON")
    options = parser.parse_args()
    tune_allocator()
    random, rows = np.random.default_rng(options.seed), []
    print(cpu_description())
    with tempfile.TemporaryDirectory(prefix="volumen-bench-") as place:
        dataset = options.dataset or _phantoms(Path(place))
        for number in range(options.draws):
            settings = drawn(random)
            loaded = load_config("preset:default", [f"data.dataset={dataset}", *settings])
            found = compared(loaded, Path(place) / f"run-{number}")
            rows.append({"settings": settings, **found})
            said = " ".join(f"{name} {value:.2f}" for name, value in found.items() if isinstance(value, float))
            print(f"{said} within {found['within_range']} | {' '.join(settings)}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for name in ("total", "epoch", "validation", "cpu_step", "cpu_total", "half"):
        ratios = [row[name] for row in rows if row[name] is not None]
        right = sum(1 / (1 + AIM) <= ratio <= 1 + AIM for ratio in ratios)
        print(
            f"{name}: measured / forecast {statistics.median(ratios):.2f} (median; {min(ratios):.2f} to "
            f"{max(ratios):.2f}), within 20 % in {right} of {len(ratios)}"
        )
    print(f"total within the range that was said: {sum(row['within_range'] for row in rows)} of {len(rows)}")
    return 0


def _phantoms(place: Path) -> Path:
    write_phantom_dataset(place / "raw", volumes=4, shape=(80, 80, 80), scrolls=2, seed=3)
    prepare(place / "raw", place / "prepared")
    dataset = PreparedDataset.open(place / "prepared")
    save_folds(make_folds(dataset)[0], place / "prepared" / "folds.json")
    return place / "prepared"


if __name__ == "__main__":
    sys.exit(main())
