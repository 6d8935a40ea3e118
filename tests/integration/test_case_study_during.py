"""The mistakes of the case study that happen during and after training: each is caught, the run beside it is silent."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from case_study_during import LATE_ROWS, Trainings
from case_study_rows import ROWS

EVIDENCE = {
    13: ("R6 identical_cases: 3 different volumes", "identical surface share", "surface everywhere has"),
    14: ("rate_scale factor 30", "control stays", "R10 rate_writers", "weight noise"),
    15: ("30 times the rate", "without cross_entropy"),
    18: ("data.batch 2 -> 8", "optimiser.learning_rate", "soft_dice.weight", "cannot be credited"),
    22: ("rate_too_high", "multiplied by 30", "0.6633"),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("during"))


def test_all_rows_of_the_case_study_are_there() -> None:
    assert sorted([*(row.number for row in ROWS), *(row.number for row in LATE_ROWS)]) == [*range(1, 23)]


@pytest.mark.parametrize("row", LATE_ROWS, ids=lambda row: row.number)
def test_the_mistake_is_caught_and_the_healthy_run_left_in_peace(bench, row) -> None:
    seen = row.look(bench)
    assert [text for text in EVIDENCE[row.number] if text not in seen.caught] == [], seen
    assert seen.beside == ""
