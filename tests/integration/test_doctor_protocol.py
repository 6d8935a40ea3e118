"""The noise of a validation protocol is measured, and thresholds below it are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.doctor.context import Context, open_context
from volumen.doctor.findings import Severity
from volumen.doctor.protocol import check_protocol, false_alarms, measure_noise, protocol_noise
from volumen.phantoms.scrolls import write_phantom_dataset
from volumen.training.regions import validation_regions

FRESH = "training.validation={kind: crops, per_volume: 1, crop: [32, 32, 32], fresh: true}"
PHASES = (("a", 0, "soft_dice"), ("b", 5, "cross_entropy"))
FIXED = "training.validation={kind: crops, per_volume: 2, crop: [32, 32, 32]}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("protocol")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(64, 64, 64), scrolls=2, seed=3)
    assert volumen(["prepare", str(folder / "raw"), "--out", str(folder / "prepared")]) == 0
    return folder / "prepared"


def context_of(prepared: Path, *overrides: str, source: str = "preset:default") -> Context:
    return open_context(load_config(source, [f"data.dataset={prepared}", *overrides]))


def said(context: Context) -> list[tuple[str, Severity, str]]:
    return [(found.code, found.severity, found.where.split(" ")[0]) for found in check_protocol(context)]


@pytest.mark.parametrize("protocol", ["training.validation={kind: full}", FIXED])
def test_fixed_voxels_have_no_noise(prepared, protocol) -> None:
    watchful = ("training.early_stopping={patience: 5}", "training.degradation.rollback=true")
    context = context_of(prepared, protocol, *watchful, "training.intervention={}")
    assert said(context) == []
    assert all(noise.protocol == 0 for noise in protocol_noise(context).quantities)
    assert all(noise.volumes > 0 for noise in protocol_noise(context).quantities)


def test_fresh_crops_are_named_and_thresholds_below_their_noise_refused(prepared) -> None:
    found = said(context_of(prepared, FRESH, "training.early_stopping={patience: 5, minimum_delta: 0.0001}"))
    assert found == [
        ("P9", Severity.warn, "training.validation"),
        ("P9", Severity.stop, "training.early_stopping.minimum_delta"),
    ]
    high = said(context_of(prepared, FRESH, "training.early_stopping={patience: 5, minimum_delta: 0.9}"))
    assert high == [("P9", Severity.warn, "training.validation")]
    plateau = said(context_of(prepared, FRESH, "schedule={kind: plateau, patience: 5}"))
    assert ("P9", Severity.stop, "schedule.threshold") in plateau


def test_the_measured_noise_is_that_of_many_validations(prepared) -> None:
    """The scatter from five validations lies near that from forty."""
    context = context_of(prepared, FRESH)
    few = measure_noise(context.config, context.dataset, context.validation, None).of("dice")
    assert few is not None
    values = []
    for seed in range(1, 9):
        config = context.config.model_copy(update={"seed": seed})
        found = measure_noise(config, context.dataset, context.validation, None).of("dice")
        assert found is not None
        values.append(found.protocol)
    assert few.protocol == pytest.approx(float(np.mean(values)), rel=0.8)
    assert few.between_epochs == pytest.approx(2 * 2**0.5 * few.protocol)


def test_degradation_by_noise_alone_is_refused(prepared) -> None:
    found = said(context_of(prepared, FRESH, "training.intervention={}"))
    assert ("P9", Severity.stop, "training.degradation") in found
    assert ("P9", Severity.stop, "training.degradation") not in said(context_of(prepared, FRESH))


def test_three_in_a_row_is_certain_with_noise_and_impossible_without(prepared) -> None:
    training = context_of(prepared, "training.intervention={}").config.training
    assert false_alarms(training, 0.7, 0.01, 50) > 0.95
    assert false_alarms(training, 0.7, 0.0, 50) == 0.0
    assert false_alarms(training, 0.7, 0.01, 3) == 0.0  # the first cannot lie above a best, so four are needed


def test_a_criterion_on_totals_of_another_objective_is_named(prepared, tmp_path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text(
        "base: preset:default\nname: child\nloss: {terms: {soft_dice: {weight: 0.5}}}\n"
        "experiment: {criteria: [{quantity: validation_loss, at_most: 0.5}]}\n"
    )
    found = list(check_protocol(context_of(prepared, source=str(child))))
    assert [(one.code, one.severity) for one in found] == [("P9", Severity.warn)]
    assert "default, on which it is based, has another objective (loss.terms.soft_dice" in found[0].evidence
    same = child.read_text().replace("0.5}}}", "1.0}}}")
    child.write_text(same)
    assert said(context_of(prepared, source=str(child))) == []
    one, other = (f"{{name: {name}, start_epoch: {start}, weights: {{{term}: 1.0}}}}" for name, start, term in PHASES)
    phases = f"loss.curriculum=[{one}, {other}]"
    changing = list(check_protocol(replace(context_of(prepared, phases, source=str(child)), parent=None)))
    assert "phases (a, b)" in changing[0].evidence


def test_crops_are_fixed_unless_fresh_and_hold_labelled_voxels(prepared) -> None:
    context = context_of(prepared, FIXED)
    label = np.asarray(context.dataset.label(context.validation[0]))
    first, later = (validation_regions(context.config, label, 0, epoch) for epoch in (0, 7))
    assert first == later
    assert len(first) == 2
    assert [side.stop - side.start for side in first[0]] == [32, 32, 32]
    fresh = context_of(prepared, FRESH).config
    assert validation_regions(fresh, label, 0, 0) != validation_regions(fresh, label, 0, 7)
    blind = np.full_like(label, 2)
    blind[0, 0, 0] = 1
    (whole,) = validation_regions(fresh, blind, 0, 1)
    assert np.any(blind[whole] != 2)
    (padded,) = validation_regions(fresh, label[:16, :16, :16], 0, 0)
    assert label[:16, :16, :16][padded].shape == (16, 16, 16)


def test_the_command_prints_what_is_real(prepared, capsys) -> None:
    assert volumen(["audit", "noise", "preset:default", "--data", str(prepared), "-o", FRESH]) == 0
    text = capsys.readouterr().out
    assert "two epochs" in text
    assert "leaderboard quick" in text
    assert volumen(["audit", "noise", "preset:default", "--data", str(prepared), "-o", FRESH, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {one["quantity"] for one in record["quantities"]} >= {"dice", "validation_loss"}
    assert record["quantities"][0]["protocol"] > 0
