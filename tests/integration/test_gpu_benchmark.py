"""The benchmark of a card: every section works on a CPU, and where the network is wrong nothing is measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.gpu_sections import correctness, layers, runs, steps
from benchmarks.gpu_sections.peers import PlainUNet
from benchmarks.gpu_sections.plan import tiny
from benchmarks.gpu_sections.report import Report

from volumen.models import UNet, count_parameters

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path, {"device": "none"})


def test_what_is_done_is_written_and_the_rest_is_asked_for_by_name(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path / "out")]
    done = subprocess.run([*script, "--device", "cpu", "--tiny", "--sections", "norm,step"], check=False)
    assert done.returncode == 0
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert list(found["sections"]) == ["step", "norm"]
    assert all(row["ms"] > 0 for rows in found["sections"].values() for row in rows)
    assert "| variant |" in (tmp_path / "out" / "gpu.md").read_text()
    refused = subprocess.run([*script, "--sections", "stepp"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "stepp" in refused.stderr
    absent = subprocess.run(script, check=False, capture_output=True, text=True)  # the card is hidden
    assert absent.returncode == 2
    assert len(absent.stderr.splitlines()) == 1


def test_a_network_that_computes_something_else_is_found(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny(CPU, report.folder)
    assert correctness.measure(plan, report)
    honest = correctness.outcome

    def doubtful(*arguments, plain=False):
        found = honest(*arguments, plain=plain)
        wrong = arguments[-1] is not None and not plain
        return correctness.Found(found.logits, found.loss, found.gradient * 1.01 if wrong else found.gradient)

    monkeypatch.setattr(correctness, "outcome", doubtful)
    assert not correctness.measure(plan, report)


def test_the_plain_network_is_ours() -> None:
    ours, plain = UNet(filters=3, depth=2), PlainUNet(3, 2)
    assert count_parameters(plain) == count_parameters(ours)
    parts = ("encoders", "bottom", "upsamplers", "decoders", "output")
    given = [value for part in parts for name, value in ours.state_dict().items() if name.startswith(part)]
    plain.load_state_dict(dict(zip(plain.state_dict(), given, strict=True)))
    image = torch.randn(1, 1, 16, 8, 12)
    torch.testing.assert_close(plain(image), ours(image), rtol=1e-4, atol=1e-4)


def test_layers_prediction_and_learning_are_measured(report: Report) -> None:
    plan = tiny(CPU, report.folder)
    layers.measure_convolutions(plan, report)
    layers.measure_profile(plan, report)
    runs.measure_prediction(plan, report)
    runs.measure_accuracy(plan, report)
    assert report.notes
    assert all("left out" not in note for note in report.notes)
    assert {"convolutions", "profile", "prediction", "accuracy"} == set(report.sections)
    assert all(row["share"] > 0 for row in report.sections["prediction"])


def test_a_part_that_cannot_be_done_is_named(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room\nfor it")

    monkeypatch.setattr(steps, "step_of", fails)
    steps.measure(tiny(CPU, report.folder), report)
    assert len(report.notes) >= 3
    assert all("left out: OutOfMemoryError: no room" in note for note in report.notes)
