"""The mistakes of the case study, each alone in a healthy run: its code comes first, the run beside it is silent."""

import sys
from pathlib import Path

import pytest

from volumen.doctor.audit import CHECKS, Context, run_audit
from volumen.doctor.findings import Finding, Severity
from volumen.phantoms.scrolls import write_phantom_dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from case_study_rows import ROWS, HealthyRun

SMALL = ("data.patch=[32, 32, 32]", "model={filters: 8, depth: 2}")
WITHOUT_COST = tuple(code for code in CHECKS if code != "P11")  # whose full part times what no fault here changes
CONTROLS = sorted({(row.overrides, row.full) for row in ROWS}, key=str)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> HealthyRun:
    folder = tmp_path_factory.mktemp("case-study")
    write_phantom_dataset(folder / "raw", volumes=4, shape=(64, 64, 64), scrolls=2, seed=5)
    return HealthyRun(folder / "raw", folder, SMALL, crop=32)


def audited(context: Context, *, full: bool) -> tuple[Finding, ...]:
    return run_audit(context, full=full, only=WITHOUT_COST if full else ()).findings


def test_every_row_that_an_audit_can_see_is_there() -> None:
    assert [row.number for row in ROWS] == [*range(1, 13), 16, 17, 19, 20, 21]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_the_right_code_comes_first(bench, row) -> None:
    first = audited(row.make(bench), full=row.full)[0]
    assert (first.code, first.severity) == (row.code, row.severity), first.title


@pytest.mark.parametrize(("overrides", "full"), CONTROLS, ids=str)
def test_the_run_beside_it_is_left_in_peace(bench, overrides, full) -> None:
    found = audited(bench.context(*overrides), full=full)
    assert [one.title for one in found if one.severity != Severity.note] == []
