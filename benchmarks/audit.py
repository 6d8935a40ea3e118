"""What does an audit cost, and how does it grow with the number of volumes?

    ./run bench audit [--dataset ../shared/data/semi] [--full]
    ./run bench audit --healthy [--full]

First the audit of the default configuration on a data set, by check. Then on 50 to 800 synthetic volumes: the increase
from one number to the next is held against reading each of the added volumes once. With `--healthy` instead: what the
audit says to the healthy presets on three data sets with three seeds each, where it should not say anything.
"""

import argparse
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import tifffile

from volumen.config.load import load_config
from volumen.data.dataset import PreparedDataset
from volumen.data.folds import make_folds
from volumen.data.prepare import prepare
from volumen.doctor.audit import Context, open_context, run_audit
from volumen.doctor.findings import Severity
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runtime import cpu_description, tune_allocator

REAL = Path("../shared/data")
HEALTHY = ("default",)
"""The shipped presets that are not the training plan's."""
SIDE = 64
COUNTS = (50, 100, 200, 400, 800)


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/semi"))
    parser.add_argument("--full", action="store_true", help="also the full audit of the data set")
    parser.add_argument("--healthy", action="store_true", help="healthy runs instead")
    options = parser.parse_args()
    tune_allocator()
    print(cpu_description())
    if options.healthy:
        return _healthy(full=options.full)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.dataset.is_dir():
            prepare(options.dataset, folder / "real", accept_proposal=True)
            _one(folder / "real", "default", full=options.full)
        else:
            print(f"{options.dataset} is not there: left out")
        _growth(folder)
    return 0


def _one(prepared: Path, preset: str, *, full: bool) -> None:
    for thorough in (False, True) if full else (False,):
        began, cpu = time.perf_counter(), time.process_time()
        report = run_audit(open_context(load_config(f"preset:{preset}", [f"data.dataset={prepared}"])), full=thorough)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        name = "full" if thorough else "quick"
        print(f"\n{name} audit, preset:{preset}, {len(report.findings)} findings: {wall:.1f} s ({used:.1f} CPU s)")
        print(", ".join(f"{code} {seconds:.1f}" for code, seconds in report.seconds.items()))


def _healthy(*, full: bool) -> int:
    """Exit code 1 if any healthy run gets a warning or worse."""
    alarms = 0
    print("\n| data | preset | seed | seconds | stop | warn | note |\n| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantom_dataset(folder / "phantom-raw", volumes=4, shape=(96, 96, 96), scrolls=2, seed=5)
        for name, raw in (("phantom", folder / "phantom-raw"), *((one, REAL / one) for one in ("semi", "ovules"))):
            prepare(raw, folder / name, accept_proposal=True)
            for preset, seed in product(HEALTHY, range(3)):
                overrides = [f"data.dataset={folder / name}", f"seed={seed}"]
                began = time.perf_counter()
                report = run_audit(open_context(load_config(f"preset:{preset}", overrides)), full=full)
                counts = [len(report.of(severity)) for severity in (Severity.stop, Severity.warn, Severity.note)]
                alarms += counts[0] + counts[1]
                cells = (name, preset, seed, f"{time.perf_counter() - began:.1f}", *counts)
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
                for finding in (*report.of(Severity.stop), *report.of(Severity.warn)):
                    print(f"{finding.code} {finding.severity}: {finding.title}: {finding.evidence}", file=sys.stderr)
    return int(alarms > 0)


def _growth(folder: Path) -> None:
    raw, prepared = folder / "raw", folder / "prepared"
    _write_volumes(raw, max(COUNTS))
    dataset = prepare(raw, prepared, accept_proposal=True, workers=2)
    began = time.process_time()
    for case in dataset.cases:
        np.array(dataset.image(case.id))
        np.array(dataset.label(case.id))
    one_read = (time.process_time() - began) / len(dataset.cases)
    print(f"\nsynthetic volumes of {SIDE}^3; one read of image and label: {1e3 * one_read:.2f} CPU ms a volume\n")
    print("| volumes | audit, CPU s | per added volume, CPU ms | in reads of it |\n| --- | --- | --- | --- |")
    before: tuple[int, float] | None = None
    for count in COUNTS:
        cost = min(_audit_of(dataset, count) for _ in range(3))
        added = "" if before is None else f"{1e3 * (cost - before[1]) / (count - before[0]):.2f}"
        reads = "" if before is None else f"{(cost - before[1]) / (count - before[0]) / one_read:.1f}"
        print(f"| {count} | {cost:.2f} | {added} | {reads} |")
        before = (count, cost)


def _audit_of(dataset: PreparedDataset, count: int) -> float:
    """CPU seconds of the quick audit of a run on the first `count` volumes."""
    part = PreparedDataset(dataset.root, dataset.cases[:count], dataset.meanings, dataset.identity, dataset.source)
    fold = make_folds(part, 5, "volume")[0].fold(0)
    loaded = load_config("preset:default", [f"data.dataset={dataset.root}"])
    began = time.process_time()
    run_audit(Context(loaded.config, part, fold.train, fold.validation, loaded.origins))
    return time.process_time() - began


def _write_volumes(raw: Path, count: int) -> None:
    """Noise with flat sheets, every volume another one; a fifth of each is not labelled."""
    for part in ("train_images", "train_labels"):
        (raw / part).mkdir(parents=True)
    rows = ["id,scroll_id"]
    for number in range(count):
        random = np.random.default_rng(number)
        place = np.indices((SIDE,) * 3)
        across = place[1] * np.cos(number) + place[2] * np.sin(number)
        label = ((across + random.uniform(0, 16)) % 16 < 3).astype(np.uint8)
        image = (80 * label + random.integers(0, 120, label.shape)).astype(np.uint8)
        label[: SIDE // 5] = 2
        tifffile.imwrite(raw / "train_images" / f"{number}.tif", image)
        tifffile.imwrite(raw / "train_labels" / f"{number}.tif", label)
        rows.append(f"{number},1")
    (raw / "train.csv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    sys.exit(main())
