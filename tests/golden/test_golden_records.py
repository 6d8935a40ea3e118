"""A training, a prediction, an evaluation and an audit in small, held against their records number by number.

The records answer for a rearrangement of the code: it may not change them. Exact on the kind of machine that made them
(first line of each). Elsewhere sums are taken in another order: a step's numbers lie within 2e-5, and an eighth more at
each step; within 1e-2 what a maximum or a count may tip (gradient norms, shares, all that is said of masks). The
training is gentle on purpose: at the rates that learn, rounding grows twentyfold a step. Measured between processors
with and without bfloat16: nothing beyond 1e-5 in seven steps, 1.5e-4 after thirty.

    python tests/golden/test_golden_records.py      makes the records anew, for a change of numbers that is meant
"""

import contextlib
import hashlib
import io
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from volumen.cli.main import run as volumen
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.runtime import cpu_description

RECORDS = Path(__file__).parent / "records"
NAMES = ("curve", "prediction", "evaluation", "audit")
CLOSE, GROWTH, LOOSE = 2e-5, 1.125, 1e-2
COUNTED = 30
"""Voxels, components and the like that masks of one network may differ by, and a hundredth."""
TIPS = ("gradient", "share", "clipped", "metrics", "cases", "summary", "leaderboard")
VOLATILE = ("seconds", "loader_seconds", "memory_gb", "check", "line")
WEIGHTS = {
    "soft_dice": 1.0, "focal": 0.5, "cross_entropy": 0.5, "variance": 0.05, "entropy": 0.05, "boundary": 0.2,
    "cldice": 0.2, "connectivity": 0.1, "medial_recall": 0.2, "signed_distance": 0.2, "merge_penalty": 0.05,
}  # fmt: skip
TERMS = ", ".join(f"{name}: {{weight: {weight}}}" for name, weight in WEIGHTS.items())
OVERRIDES = (
    "data.patch=[32, 32, 32]", "data.sampling.patches_per_epoch=2", "data.workers=0", "model={filters: 8, depth: 3}",
    f"loss.terms={{{TERMS}}}", "optimiser.learning_rate=1e-4", "schedule.warmup_epochs=2", "training.epochs=30",
    "training.average.decay=0.9", "training.validate_every_epochs=10", "precision=fp32", "device=cpu", "seed=7",
    "inference={tile: [32, 32, 32], overlap: 0.25, engine: torch}",
    "postprocessing.steps=[{kind: threshold, level: 0.196}, {kind: remove_small_components, minimum_voxels: 20}]",
)  # fmt: skip
AUDITED = ("P1", "P2", "P3", "P4", "P5", "P7", "P8", "P9", "P10")  # what measures no time


def machine() -> str:
    """What rounding depends on."""
    return f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {cpu_description()}"


def make_records(folder: Path) -> dict[str, str]:
    """The four records as text, by name."""
    raw, prepared, trained = folder / "raw", folder / "prepared", folder / "run"
    write_phantom_dataset(raw, volumes=4, shape=(40, 40, 40), scrolls=2, seed=3)
    overrides = [part for one in (f"data.dataset={prepared}", *OVERRIDES) for part in ("-o", one)]
    accepted = [part for code in AUDITED for part in ("--accept", code)]
    said("prepare", raw, "--out", prepared)
    said("folds", prepared, "--by", "scroll", "--seed", "0")
    plan = ("preset:v5_variance_focused", *overrides[:8], "-o", "model={filters: 4, depth: 3}", "-o", "device=cpu")
    audit = [json.loads(said("audit", *plan, "--json", "--only", code)) for code in AUDITED]
    audit.append(json.loads(said("audit", "loss", "preset:default", *overrides, "--json")))
    said("train", "preset:default", "--out", trained, *overrides, *accepted, "--accept", "P6", "--accept", "P11")
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    lines = [line for line in lines if json.loads(line)["kind"] in ("train", "validation", "validation_swa")]
    evaluation = json.loads(said("evaluate", trained, "--json"))
    images = raw / "train_images"
    said("predict", trained, images, folder / "masks", "--probabilities")
    return {
        "curve": "\n".join(text_of(json.loads(line)) for line in lines),
        "prediction": "\n".join(text_of(described(folder / "masks", image.name)) for image in sorted(images.iterdir())),
        "evaluation": text_of(evaluation).replace(str(folder), "FOLDER"),
        "audit": "\n".join(text_of(found) for found in audit).replace(str(folder), "FOLDER"),
    }


def said(*arguments: object) -> str:
    """What a command prints; it has to succeed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = volumen([str(argument) for argument in arguments])
    assert code == 0 or (arguments[0] == "audit" and code == 2), (arguments, out.getvalue())
    return out.getvalue()


def described(masks: Path, name: str) -> dict[str, Any]:
    mask, probabilities = tifffile.imread(masks / name), tifffile.imread(masks / "probabilities" / name)
    return {
        "image": name,
        "mask": hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest(),
        "surface_share": float(mask.mean()),
        "share_quantiles": np.quantile(probabilities / 255, np.linspace(0, 1, 11)).tolist(),
    }


def text_of(record: Any) -> str:
    return json.dumps(without_volatile(record), sort_keys=True)


def without_volatile(record: Any) -> Any:
    if isinstance(record, dict):
        return {key: without_volatile(value) for key, value in record.items() if key not in VOLATILE}
    return [without_volatile(one) for one in record] if isinstance(record, list) else record


def differences(expected: Any, got: Any, close: float = CLOSE, counted: int = 0, where: str = "") -> Iterator[str]:
    """Where two records are further apart than another order of sums explains.

    Args:
        expected: The record.
        got: What there is now.
        close: By which numbers may differ that nothing tips, of 1 or relatively.
        counted: Where masks are described: by which their counts may differ; neither words without their numbers nor
            pictures are held against each other then.
        where: In the record.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        if expected.keys() != got.keys():
            yield f"{where}: {sorted(expected)} became {sorted(got)}"
        for key in expected.keys() & got.keys():
            yield from differences(expected[key], got[key], close, counted, f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for number, pair in enumerate(zip(expected, got, strict=True)):
            yield from differences(*pair, close, counted, f"{where}[{number}]")
    elif isinstance(expected, float) and isinstance(got, float):
        limit = LOOSE if counted or any(word in where for word in TIPS) else close
        mean_of_counts = counted if abs(expected) > 100 else 0
        if not math.isclose(expected, got, rel_tol=limit, abs_tol=max(limit, mean_of_counts)):
            yield f"{where}: {expected} became {got}"
    elif counted and isinstance(expected, int) and isinstance(got, int):
        if not math.isclose(expected, got, rel_tol=LOOSE, abs_tol=counted):
            yield f"{where}: {expected} became {got}"
    elif counted and isinstance(expected, str) and isinstance(got, str):
        if _words(expected) != _words(got) and "pictures" not in where:
            yield f"{where}: {expected} became {got}"
    elif expected != got and "mask" not in where:
        yield f"{where}: {expected} became {got}"


def _words(text: str) -> str:
    return re.sub(r"[0-9.,]+", "#", text)


def lines_differ(name: str, expected: list[str], got: list[str]) -> list[str]:
    """Differences of all lines of a record."""
    found: list[str] = []
    for pair in zip(expected, got, strict=True):
        before, now = map(json.loads, pair)
        step = before.get("step", 0) if name == "curve" else 0
        counted = COUNTED if name == "evaluation" else 0
        found += differences(before, now, CLOSE * GROWTH**step, counted)
    return found


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return make_records(tmp_path_factory.mktemp("golden"))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_the_record(records: dict[str, str], name: str) -> None:
    made_on, *expected = (RECORDS / f"{name}.txt").read_text().splitlines()
    got = records[name].splitlines()
    assert len(got) == len(expected)
    if made_on == machine():
        assert got == expected
    assert lines_differ(name, expected, got) == []


@pytest.mark.parametrize(
    ("name", "line", "changed"),
    [
        ("curve", {"step": 3, "total": 1.0}, {"step": 3, "total": 1.0002}),
        ("curve", {"step": 30, "total": 1.0}, {"step": 30, "total": 1.002}),
        ("curve", {"step": 3, "voxels": 400}, {"step": 3, "voxels": 401}),
        ("evaluation", {"dice": 0.5}, {"dice": 0.52}),
        ("evaluation", {"components": 4000}, {"components": 4100}),
        ("evaluation", {"verdict": "missed, 26.3 %"}, {"verdict": "met, 26.3 %"}),
        ("prediction", {"surface_share": 0.2}, {"surface_share": 0.22}),
    ],
)
def test_what_no_rounding_explains_is_a_difference(name, line, changed) -> None:
    assert lines_differ(name, [json.dumps(line)], [json.dumps(line)]) == []
    assert len(lines_differ(name, [json.dumps(line)], [json.dumps(changed)])) == 1


def test_the_records_hold_something() -> None:
    curve = [json.loads(line) for line in (RECORDS / "curve.txt").read_text().splitlines()[1:]]
    steps = [record for record in curve if record["kind"] == "train"]
    assert len(steps) == 30
    assert all(set(WEIGHTS) <= set(record["terms"]) for record in steps)
    assert len({record["total"] for record in steps}) == 30
    for line in (RECORDS / "prediction.txt").read_text().splitlines()[1:]:
        assert 0.01 < json.loads(line)["surface_share"] < 0.99


if __name__ == "__main__":
    torch.set_num_threads(1)
    RECORDS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for record, text in make_records(Path(place)).items():
            (RECORDS / f"{record}.txt").write_text(f"{machine()}\n{text}\n")
