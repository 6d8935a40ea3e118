"""Criteria on any metric, held against constants, labels and what a run records."""

from types import SimpleNamespace

import pytest

from volumen.config.load import load_config
from volumen.doctor.findings import Severity
from volumen.doctor.objective.goals import check_judged, check_met_by_constants, check_within_reach

CASE = SimpleNamespace(id="a", surface_voxels=100, valid_voxels=1000, shape=(32, 32, 32))
"""A tenth is surface."""


def context(*criteria: str, **values: object) -> SimpleNamespace:
    chosen = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    text = "experiment.criteria=[" + ", ".join(f'"{one}"' for one in criteria) + "]"
    return SimpleNamespace(
        config=load_config("preset:default", ["training.epochs=50", text, *chosen]).config,
        budget=None,
        dataset=SimpleNamespace(case=lambda name: CASE),
        training=("a",),
        validation=("a",),
        objectives={"start": SimpleNamespace(terms={"soft_dice": (1.0, None)})},
        where=lambda key: key,
    )


@pytest.mark.parametrize(
    "criterion",
    ["val.accuracy > 0.85", "val.recall > 0.9", "val.dice > 0.1", "surface_share < 50%", "val.dice < 0.3",
     "score.iou >= 0.05", "val.precision >= 9%"],
)  # fmt: skip
def test_what_a_constant_meets_stops(criterion) -> None:
    (found,) = check_met_by_constants(context(criterion))
    assert (found.code, found.severity) == ("P4", Severity.stop)


@pytest.mark.parametrize(
    "criteria",
    [("val.accuracy > 0.95",), ("val.dice > 0.3",), ("val.precision > 0.5 and val.recall > 0.9",),
     ("surface_share within 5%..20%", "val.dice > 0.4"), ("val.loss < 0.5",)],
)  # fmt: skip
def test_what_no_constant_meets_is_left_in_peace(criteria) -> None:
    assert list(check_met_by_constants(context(*criteria))) == []
    assert list(check_within_reach(context(*criteria))) == []
    assert list(check_judged(context(*criteria))) == []


def test_a_part_that_a_constant_meets_beside_others_is_noted() -> None:
    found = list(check_met_by_constants(context("val.recall > 0.9", "val.precision > 0.5")))
    assert [one.severity for one in found] == [Severity.note]


@pytest.mark.parametrize(
    ("criterion", "severity"),
    [("val.dice > 1.1", Severity.stop), ("score > 1", Severity.stop), ("surface_share within 55%..65%", Severity.stop),
     ("true_share > 30%", Severity.stop), ("val.dice > 0.99", Severity.warn)],
)  # fmt: skip
def test_what_the_labels_do_not_have_is_out_of_reach(criterion, severity) -> None:
    (found,) = check_within_reach(context(criterion))
    assert (found.code, found.severity) == ("P5", severity)


@pytest.mark.parametrize(
    "criterion",
    ["term.focal < 0.1", "val.dice > 0.5 at epoch 51", "val.dice > 0.5 from epoch 60", "val.leaderboard > 0.4",
     "val.dice > 0.5 in epochs 40..60", "val.dice > parent + 0.02", "val.dice > 0.5 by epoch 2",
     "no val.dice drop > 0.1 in epochs 60..70", "val.loss improves by 0.1 over 60 epochs"],
)  # fmt: skip
def test_what_can_never_be_judged_is_named(criterion) -> None:
    (found,) = check_judged(context(criterion))
    assert (found.code, found.severity) == ("P6", Severity.warn)


def test_what_the_run_does_record_is_judged() -> None:
    exact = {"training__selection_metric": "leaderboard"}
    assert list(check_judged(context("val.leaderboard > 0.4", **exact))) == []
    assert [one.severity for one in check_judged(context("val.dice > 0.5 by epoch 90"))] == [Severity.note]
