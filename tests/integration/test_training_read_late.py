"""Whole runs whose steps are read late, as on a card: what they leave is that of reading each step."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.losses.terms import SoftDice
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.reporting.terminal import SilentDisplay
from volumen.runs.folder import open_run
from volumen.runs.records import read_run_logs
from volumen.training import session, state
from volumen.training.loop import run_training
from volumen.training.readings import Readings

SMALL = [
    "data.patch=[16, 16, 16]", "data.sampling.patches_per_epoch=14", "data.workers=0", "model.filters=2",
    "model.depth=2", "training.epochs=3", "training.validate_every_epochs=1", "training.average=null",
    "training.monitoring={probe_every_steps: 3}", "postprocessing.steps=[{kind: threshold}]", "precision=fp32",
]  # fmt: skip
TIMES = {"time", "seconds", "loader_seconds", "memory_gb", "machine", "run", "config", "trusted", "data", "check"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(32, 32, 40), scrolls=2, seed=1)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    assert volumen(["folds", str(folder / "prepared"), "--folds", "2", "--by", "volume"]) == 0
    return folder / "prepared"


class Steps(SilentDisplay):
    """Where the run was, at each step that it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int, float]] = []

    def stepped(self, state: Any, result: Any, steps_per_epoch: int) -> None:
        cursor = state.cursor
        self.told.append((cursor.epoch, cursor.step, cursor.batch, result.total))


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return value.tolist() if isinstance(value, torch.Tensor) else value


def ended(prepared: Path, run: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, **reading: Any) -> Any:
    """All that a run leaves, but times."""
    monkeypatch.setattr(state, "build_optimiser", partial(state.build_optimiser, fused=True))
    monkeypatch.setattr(session, "Readings", lambda *arguments, **_: Readings(*arguments, **reading))
    config = load_config("preset:default", [f"data.dataset={prepared}", *SMALL, *overrides]).config
    shown = Steps()
    outcome = run_training(config, run, shown)
    logs = read_run_logs(run)
    checkpoint = open_run(run).checkpoints.load_latest(pytest.fail)
    return (
        outcome.state, shown.told, [without_times(one) for one in (*logs.metrics, *logs.events)],
        {name: without_times(checkpoint[name]) for name in ("model", "optimiser", "cursor", "totals", "rate", "watch")},
    )  # fmt: skip


def test_a_run_that_is_read_late_leaves_the_same_records(prepared, tmp_path, monkeypatch):
    late = ended(prepared, tmp_path / "late", monkeypatch, every=3)
    at_once = ended(prepared, tmp_path / "at_once", monkeypatch, at_once=True)
    assert late[0] == at_once[0] == "finished"
    assert [step for _, step, _, _ in late[1]] == list(range(1, 22))
    for one, other in zip(late, at_once, strict=True):
        assert one == other


def test_a_run_that_is_read_late_goes_back_as_one_that_stopped_at_once(prepared, tmp_path, monkeypatch):
    real, calls = SoftDice.compute, []

    def breaks(self: SoftDice, inputs: Any) -> torch.Tensor:
        value = real(self, inputs)
        calls.append(value.requires_grad)
        return value * float("nan") if calls.count(True) == 10 and value.requires_grad else value

    monkeypatch.setattr(SoftDice, "compute", breaks)
    options = ("training.intervention={kind: tournament}", "training.monitoring=null")
    late = ended(prepared, tmp_path / "late", monkeypatch, *options, every=3)
    calls.clear()
    at_once = ended(prepared, tmp_path / "at_once", monkeypatch, *options, at_once=True)
    assert [one["kind"] for one in late[2]].count("non_finite") == 1
    said = next(one["message"] for one in late[2] if one["kind"] == "non_finite")
    assert said.startswith("the loss is not finite: term soft_dice; patches of ")
    for one, other in zip(late[2:], at_once[2:], strict=True):
        assert one == other
