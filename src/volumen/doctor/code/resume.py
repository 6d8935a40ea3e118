"""Does what was saved bring everything back that the training had changed?"""

import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import torch

from volumen.doctor.code.kept import GENERATOR, Kept, Path, random_state, same_bits, seed_all
from volumen.doctor.code.learning import stepper
from volumen.doctor.code.subject import Subject, finding, parameters_of
from volumen.doctor.findings import Finding, Severity

STEPS = 3
FLEETING = ("grad", "loss", "history", "log", "time", "_step_count", "_last_lr", "_opt_called", "_get_lr_called")
"""Names of what may be lost."""
RATE = ("lr", "initial_lr", "max_lr", "last_epoch", "base_lrs")
CURSOR = (
    "epoch",
    "step",
    "iter",
    "iteration",
    "global_step",
    "cursor",
    "position",
    "index",
    "batch",
    "seen",
    "done",
    "at",
)
MEMORY = (
    "best",
    "best_metric",
    "best_score",
    "best_loss",
    "patience",
    "wait",
    "bad_epochs",
    "num_bad_epochs",
    "plateau",
)
WHAT = {
    "weights": "the network's weights or statistics",
    "optimiser": "the optimiser's state (momentum)",
    "rate": "the learning rate or its schedule",
    "averages": "averaged weights",
    "scaler": "the loss scale",
    "cursor": "how far the training is",
    "memory": "the best validation so far",
    "random": "random states",
}


def check_resume(subject: Subject) -> Iterator[Finding]:
    """P8: train, save, go back to before, load, and look for what did not come back."""
    run = stepper(subject)
    if run is None or subject.save is None:
        return
    start = Kept(subject.roots)
    draws = _draws(subject, run)
    for number in range(STEPS):
        run(number)
    with tempfile.TemporaryDirectory() as folder:
        saved = _save(subject, File(folder))
        there = Kept(subject.roots)
        expected, expected_random = there.leaves(), random_state()
        seed_all(subject.seed + 1)
        for number in range(2):  # what was saved by reference goes on with the training
            run(STEPS + number)
        start.restore()
        seed_all(subject.seed + 2)
        began = Kept(subject.roots).leaves()
        _load(subject, saved)
        got, got_random = Kept(subject.roots).leaves(), random_state()
    kinds = _kinds(subject, there)
    lost: dict[str, list[str]] = {}
    for path, value in expected.items():
        if path in began and same_bits(began[path], value):
            continue
        if path in got and same_bits(got[path], value):
            continue
        kind = kinds(path)
        if kind is not None:
            lost.setdefault(kind, []).append(".".join(path))
    if draws and any(not same_bits(expected_random[name], got_random[name]) for name in draws):
        lost.setdefault("random", []).append(", ".join(draws))
    start.restore()
    if not lost:
        return
    first = next(kind for kind in WHAT if kind in lost)
    names = "; ".join(f"{WHAT[kind]}: {', '.join(lost[kind][:2])}" for kind in WHAT if kind in lost)
    grave = Severity.stop if first in ("weights", "optimiser") else Severity.warn
    yield finding(
        "P8",
        Severity.note if lost == {"random": [", ".join(draws)]} else grave,
        f"a resumed training has lost {WHAT[first]}",
        f"after {STEPS} steps, save, and load into the state before them, these differ from what was saved: {names}",
        "it is not in what is saved, is saved by reference, or is not given back",
        "put its state_dict() or value into what is saved, copied, and load it again",
        "save",
    )


def _draws(subject: Subject, run: Any) -> list[str]:
    """The process's generators that a step draws from."""
    kept = Kept(subject.roots)
    before = random_state()
    run(0)
    after = random_state()
    kept.restore()
    return [name for name in before if not same_bits(before[name], after[name])]


def _save(subject: Subject, folder: File) -> Any:
    assert subject.save is not None
    path = folder / "saved.pt"
    found = subject.save(str(path)) if parameters_of(subject.save)[0] else subject.save()
    return str(path) if found is None and path.exists() else found


def _load(subject: Subject, saved: Any) -> None:
    assert subject.load is not None
    signature = inspect.signature(subject.load)
    if signature.parameters and (parameters_of(subject.load)[0] or saved is not None):
        subject.load(saved)
    else:
        subject.load()


def _kinds(subject: Subject, kept: Kept) -> Any:
    """What a place in the state is, by where it was found; None for what may be lost."""
    shapes = set() if subject.model is None else {tuple(one.shape) for one in subject.model.parameters()}
    leaves = kept.leaves()

    def kind(path: Path) -> str | None:
        value, name = leaves[path], path[-1].strip("_").lower()
        words = [part.strip("_").lower() for part in path]
        if any(part in FLEETING for part in path) or "grad" in words[-1:]:
            return None
        if path[-1] == GENERATOR:
            return "random"
        if isinstance(value, torch.Tensor):
            if words[0] == "model":
                return "weights"
            if "scale" in name or "growth" in name:
                return "scaler"
            if words[0] == "optimiser" or ("state" in words[1:-1] and "param" not in name):
                return "optimiser"
            return "averages" if tuple(value.shape) in shapes and value.numel() > 1 else None
        if isinstance(value, bool | str) or value is None:
            return None
        if name in RATE or words[0] == "schedule":
            return "rate"
        if isinstance(value, int | float):
            if any(name.startswith(one) or name.endswith(one) for one in MEMORY):
                return "memory"
            if "optimiser" in words and name == "step":
                return "optimiser"
            return "cursor" if any(name == one or name.endswith(f"_{one}") for one in CURSOR) else None
        return None

    return kind
