"""Replay the training that took five weeks, and write what the audit says to it: docs/case-study.md.

    ./run bench case_study [--dataset ../shared/data/semi] [--write docs/case-study.md] [--during]

Every row's mistake is made alone in the healthy default on the data set; the row shows the gravest finding and the
healthy run beside it. Then the plan's twelve configurations are audited as they stand, and the first one with the
label meaning that he used. What happened during and after training is made again in short trainings on invented
volumes; `--during` makes only these anew. Nothing in the tables is written by hand.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from case_study_during import Trainings, late_rows
from case_study_rows import ROWS, HealthyRun
from volumen.config.load import load_config
from volumen.doctor.audit import open_context, run_audit
from volumen.doctor.findings import Finding, Severity
from volumen.files import write_atomically

PLAN = (
    "v1_balanced", "v2_precision", "v3_aggressive_precision", "v2_optimized", "v4_aggressive_focal",
    "v5_variance_focused", "gpu_batch8", "aggressive_escape", "conservative", "combo", "dice_only", "curriculum",
)  # fmt: skip
WRONG = "{0: background, 1: surface, 2: surface}"

DURING = "## During and after training"
"""Heading of what `--during` makes anew, up to the next one."""

PAGE = """# The run that would not learn

*Made by `./run bench case_study` on `{dataset}`; do not edit.*

A competitor trained a topology-aware 3-D U-Net on the surfaces of Herculaneum scrolls for five weeks. His plan is a
diary of ten configurations, each with a theory, an expected result and a disappointment. Reading his code and logs
afterwards shows that almost none of the theories could have been right. This page makes his mistakes again, one at a
time, and shows what is said of them: by `volumen audit` before the first step, or by what watches a training.

## Every mistake alone

Each one is made in the otherwise healthy default configuration. *Caught by* is the gravest finding, *beside it* what
the same audit says of the run without the mistake.

{rows}

{heading}

Five of his mistakes no audit can see before the start. Each is made again in a short training on small invented
volumes; *beside it* is the same training without it.

{during}

## His configurations

As the plan wrote them (`volumen audit preset:NAME`), with the right meaning of the labels: {presets_note}

{presets}

## With his labels

`volumen audit preset:v1_balanced` where the unlabelled value 2 is declared to be surface, as his code took it:

{labels}
"""


def main() -> int:
    """Audit everything; exit code 1 if a row is not caught or a healthy run not left in peace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("../shared/data/semi"))
    parser.add_argument("--write", type=Path, help="the page; printed if not given")
    parser.add_argument("--during", action="store_true", help="make only that table of the page anew")
    options = parser.parse_args()
    if options.during and options.write is None:
        parser.error("--during needs the page that it changes: --write docs/case-study.md")
    with tempfile.TemporaryDirectory() as temporary:
        during = _during(Trainings(Path(temporary)))
    if options.during:
        before, rest = options.write.read_text().split(DURING)
        explained, after = rest.split("| row |")[0], rest[rest.index("\n## ") :]
        write_atomically(options.write, f"{before}{DURING}{explained}{during}\n{after}")
        print(f"written: {options.write}")
        return int("NOT CAUGHT" in during or "NOT SILENT" in during)
    with tempfile.TemporaryDirectory() as temporary:
        bench = HealthyRun(options.dataset, Path(temporary))
        rows = list(_rows(bench))
        presets = list(_presets(bench))
        labels = list(_with_his_labels(bench))
    page = PAGE.format(
        dataset=options.dataset.name,
        rows="\n".join(["| row | what happened | caught by | evidence | beside it |", "| --- " * 5 + "|", *rows]),
        heading=DURING,
        during=during,
        presets="\n".join(["| preset | stop | warn | what stops it |", "| --- " * 4 + "|", *presets]),
        presets_note="*stop* and *warn* count findings.",
        labels="\n".join(labels),
    )
    if options.write:
        write_atomically(options.write, page)
        print(f"written: {options.write}")
    else:
        print(page)
    return int(any("NOT CAUGHT" in row or "NOT SILENT" in row for row in (*rows, during)))


def _during(bench: Trainings) -> str:
    lines = [_line(*cells) for cells in late_rows(bench)]
    return "\n".join(["| row | what happened | caught by | beside it |", "| --- " * 4 + "|", *lines])


def _rows(bench: HealthyRun) -> Iterator[str]:
    silent: dict[tuple[tuple[str, ...], bool], str] = {}
    for row in ROWS:
        print(f"row {row.number}: {row.mistake}", file=sys.stderr, flush=True)
        first = next(iter(run_audit(row.make(bench), full=row.full).findings), None)
        caught = first is not None and (first.code, first.severity) == (row.code, row.severity)
        control = (row.overrides, row.full)
        if control not in silent:
            found = run_audit(bench.context(*row.overrides), full=row.full).findings
            grave = [one for one in found if one.severity != Severity.note]
            silent[control] = f"NOT SILENT: {grave[0].title}" if grave else "silent"
        said = f"{first.code} {first.severity}: {first.title}" if first else "nothing"
        cells = (str(row.number), row.mistake, said if caught else f"NOT CAUGHT: {said}")
        yield _line(*cells, first.evidence if first else "", silent[control])


def _presets(bench: HealthyRun) -> Iterator[str]:
    for name in PLAN:
        print(f"preset {name}", file=sys.stderr, flush=True)
        found = run_audit(open_context(load_config(f"preset:{name}", [f"data.dataset={bench.prepared()}"]))).findings
        counts = [str(sum(one.severity == severity for one in found)) for severity in (Severity.stop, Severity.warn)]
        stops = "; ".join(f"{one.code} {one.title}" for one in found if one.severity == Severity.stop)
        yield _line(f"`{name}`", *counts, stops)


def _with_his_labels(bench: HealthyRun) -> Iterator[str]:
    context = open_context(load_config("preset:v1_balanced", [f"data.dataset={bench.prepared(WRONG)}"]))
    for finding in run_audit(context).findings:
        if finding.severity != Severity.note:
            yield f"- **{finding.code} {finding.severity}: {finding.title}.** {_plain(finding)}"


def _plain(finding: Finding) -> str:
    return finding.evidence.replace("|", "/")


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
