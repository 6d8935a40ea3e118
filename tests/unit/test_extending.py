"""docs/extending.md, done: a stranger adds one of each, from outside of the package."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import volumen
from volumen.config.base import Section
from volumen.config.postprocessing import Postprocessing, Threshold
from volumen.data import arrays
from volumen.doctor.audit import CHECKS, run_audit
from volumen.doctor.check import Check
from volumen.doctor.findings import Finding, Severity
from volumen.experiments import scoring
from volumen.losses.composite import CompositeLoss
from volumen.losses.inputs import LossInputs
from volumen.losses.terms import TERMS, Term
from volumen.metrics import table
from volumen.postprocess import pipeline
from volumen.postprocess.pipeline import apply_pipeline, report_pipeline

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


def test_a_loss_term_as_the_page_shows_it(monkeypatch):
    code = re.search(r"```python\n(@dataclass.*?)```", PAGE, re.S)[1]
    names: dict[str, Any] = {"dataclass": dataclass, "Term": Term, "LossInputs": LossInputs, "Tensor": Tensor}
    exec(code, names)
    monkeypatch.setitem(TERMS, "brier", names["Brier"])
    objective = CompositeLoss({"brier": (2.0, TERMS["brier"]()), "soft_dice": (1.0, TERMS["soft_dice"]())})
    target = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    target[:, :2] = 1
    valid = torch.ones(1, 4, 4, 4, dtype=torch.bool)
    valid[:, :, 0] = False
    found = []
    for ignored in (0.0, float("nan")):
        logits = torch.zeros(1, 1, 4, 4, 4)
        logits[:, :, :, 0] = ignored
        logits.requires_grad_()
        breakdown = objective(logits, target, valid)
        breakdown.total.backward()
        found.append((breakdown.raw["brier"].item(), breakdown.weighted["brier"].item(), logits.grad))
    assert found[0][:2] == found[1][:2] == pytest.approx((0.25, 0.5))
    assert torch.equal(found[0][2], found[1][2])


class Rim(Section):
    """The outermost planes along z become background."""

    kind: Literal["rim"] = "rim"
    planes: int = 1


def without_rim(mask: NDArray[np.uint8], planes: int) -> NDArray[np.uint8]:
    result = mask.copy()
    result[:planes] = result[-planes:] = 0
    return result


def test_a_post_processing_step(monkeypatch):
    monkeypatch.setitem(pipeline.ON_MASKS, "rim", lambda mask, _, step: without_rim(mask, step.planes))
    settings = Postprocessing.model_construct(steps=(Threshold(), Rim(planes=2)))
    mask = apply_pipeline(np.ones((8, 8, 8), np.float32), settings)
    assert mask.sum() == 4 * 64
    again, reports = report_pipeline(np.ones((8, 8, 8), np.float32), settings)
    np.testing.assert_array_equal(mask, again)
    assert (reports[-1].name, reports[-1].voxels_removed) == ("rim", 4 * 64)


def check_name(context: Any) -> Iterator[Finding]:
    """P99."""
    if context == "nameless":
        yield Finding("P99", Severity.stop, "no name", "", ("haste",), ("give it one",), "name")


def test_a_check_of_the_audit(monkeypatch):
    monkeypatch.setitem(CHECKS, "P99", Check(code="P99", title="Name", run=check_name))
    found = run_audit("nameless", only=("P99",))
    assert [finding.title for finding in found.refusals()] == ["no name"]
    assert not found.refusals(accepted=("P99",))
    assert not run_audit("called something", only=("P99",)).findings


def test_a_metric(monkeypatch):
    metric = table.Metric("missed_voxels", lambda found: found.fn)
    for names in (table.OVERLAP_METRICS, table.METRICS):
        monkeypatch.setitem(names, metric.name, metric)
    label = np.zeros((16, 16, 16), np.uint8)
    label[8:10] = 1
    case = scoring.LabelledCase("one", "scroll", label)
    evaluation = scoring.evaluate_masks([case], {"one": (label == 1).astype(np.uint8)})
    assert evaluation.mean["missed_voxels"] == 0
    evaluation = scoring.evaluate_masks([case], {"one": np.zeros_like(label)})
    assert evaluation.mean["missed_voxels"] == evaluation.by_scroll["scroll"]["missed_voxels"] == 2 * 16 * 16


def test_a_reader(tmp_path, monkeypatch):
    def my_reader(path: Path, name: str | None, missing_is_empty: bool) -> NDArray[np.uint8]:
        return np.array([list(plane) for plane in path.read_text().split("\n\n")]).reshape(2, 2, 2).astype(np.uint8)

    path = tmp_path / "mask.xyz"
    path.write_text("1100\n\n0011")
    with pytest.raises(volumen.UserError, match="no known kind"):
        arrays.read_array(path)
    monkeypatch.setitem(arrays.READERS, ".xyz", my_reader)
    assert arrays.find_arrays(tmp_path) == {"mask": path}
    assert volumen.overlap(arrays.read_array(path), my_reader(path, None, False)).dice == 1
