"""P11 on a term that takes the step's time for nothing, on healthy runs, and what `volumen audit cost` says."""

import json
from pathlib import Path

import pytest

from volumen.cli.main import run as volumen
from volumen.config.load import load_config
from volumen.doctor.context import open_context
from volumen.doctor.cost.check import check_terms, objective_shares
from volumen.doctor.findings import Severity
from volumen.doctor.objective.check import autopsies
from volumen.phantoms.scrolls import write_phantom_dataset

MISERLY = "loss.terms.cldice={weight: 1e-7, iterations: 50}"
SMALL = ("data.patch=[32, 32, 32]", "model.filters=2", "model.depth=2", "data.sampling.patches_per_epoch=8")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cost")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(64, 64, 64), scrolls=2, seed=5)
    out = folder / "prepared"
    assert volumen(["prepare", str(folder / "raw"), "--out", str(out)]) == 0
    assert volumen(["folds", str(out)]) == 0
    return out


def context_of(prepared: Path, *overrides: str):
    return open_context(load_config("preset:default", [f"data.dataset={prepared}", *overrides]))


def test_a_term_that_counts_for_nothing_and_takes_the_step_is_named(prepared) -> None:
    (found,) = check_terms(context_of(prepared, MISERLY))
    assert (found.code, found.severity) == ("P11", Severity.warn)
    assert found.title.startswith("cldice takes")
    assert found.where.startswith("loss.terms.cldice.weight")


def test_healthy_terms_are_left_in_peace(prepared) -> None:
    assert list(check_terms(context_of(prepared))) == []
    cheap = "loss.terms.focal={weight: 1e-7}"  # counts for nothing, but costs little beside the network
    assert list(check_terms(context_of(prepared, cheap))) == []


def test_shares_of_the_objective_add_up_and_follow_the_weights(prepared) -> None:
    shares = {}
    for weight in (0.5, 1.0):
        context = context_of(prepared, f"loss.terms.cross_entropy.weight={weight}")
        shares[weight] = objective_shares(autopsies(context)["start"].terms)
        assert sum(shares[weight].values()) == pytest.approx(1.0)
    assert shares[1.0]["cross_entropy"] > shares[0.5]["cross_entropy"]


def test_the_command_says_it_all(prepared, capsys) -> None:
    small = [part for one in SMALL for part in ("-o", one)]
    command = ["audit", "cost", "preset:default", "--data", str(prepared), *small, "--batch", "4"]
    assert volumen([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {"profile", "validation", "before", "after", "largest", "rate_rule", "available_bytes"} <= set(record)
    assert set(record["profile"]["terms"]) == {"soft_dice", "cross_entropy"}
    before, after = record["before"], record["after"]
    assert (before["batch"], before["steps_per_epoch"], after["batch"], after["steps_per_epoch"]) == (2, 4, 4, 2)
    assert after["learning_rate"] == pytest.approx(2**0.5 * before["learning_rate"])
    assert before["total_seconds"] == pytest.approx(record["epochs"] * before["epoch_seconds"])
    assert record["largest"]["batch"] == 8  # all patches of an epoch, which memory holds
    assert record["largest"]["capped"]
    assert volumen([*command[:-1], "9"]) == 2
