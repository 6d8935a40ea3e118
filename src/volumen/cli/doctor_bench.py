"""`volumen doctor-bench`: trainings with known faults and healthy ones, and what examiners say to their records."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from volumen.cli.progress import progress_bar
from volumen.system.output import say

Out = Annotated[Path, typer.Option(help="Folder in which everything is kept; the same command goes on in it.")]
Seconds = Annotated[float, typer.Option(min=0, help="Begin no more runs after this; 0 examines what is there.")]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="Trainings at a time, of one thread each.")]
HalfOption = Annotated[
    Literal["tune", "report", "both"],
    typer.Option("--half", help="Thresholds are tuned on one half and reported on the other."),
]
Seed = Annotated[int, typer.Option(min=0, max=10**6, help="Other seeds are other runs.")]
Only = Annotated[str | None, typer.Option(help="One kind of fault or control, and the healthy runs beside it.")]
Source = Annotated[
    list[Path] | None,
    typer.Option(
        "--dataset", help="Data set in the competition's layout, for crops of real geometry. Repeatable with --audit."
    ),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="Measure repair instead: the tournament against other arms at equal steps.")
]
Audit = Annotated[
    bool, typer.Option("--audit", help="Measure the audit instead: drawn faults and healthy set-ups before a run.")
]
Draws = Annotated[int, typer.Option(min=1, max=10**6, help="With --audit: how many draws.")]
OneDraw = Annotated[int | None, typer.Option("--draw", min=0, help="With --audit: make this one draw again, show it.")]
Full = Annotated[bool, typer.Option("--full/--quick", help="With --audit: also the checks that take minutes.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of the tables.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="doctor-bench")(doctor_bench)


def doctor_bench(
    out: Out = Path("doctor-bench"),
    seconds: Seconds = 3 * 3600.0,
    jobs: Jobs = 2,
    half: HalfOption = "both",
    seed: Seed = 0,
    only: Only = None,
    dataset: Source = None,
    repair: Repair = False,
    audit: Audit = False,
    draws: Draws = 300,
    draw: OneDraw = None,
    full: Full = False,
    as_json: Json = False,
) -> int:
    """Measure examiners of training runs on faults that are known, with --repair what is done against faults, with
    --audit what the audit says before a run.

    Each run is stored once; a bench that was stopped goes on. Tables of what is there are printed and written as
    HALF.md and HALF.json, of repair as repair.md and repair.json, of the audit as audit-HALF.md and audit-HALF.json.
    Exit code 1 if a run could not be made.
    """
    from volumen.errors import EXIT_FAILURE, UserError

    if audit or draw is not None:
        if repair:
            raise UserError("--repair and --audit are two benches: leave one out")
        sources = tuple(dataset or ())
        how = {"sources": sources, "full": full, "jobs": jobs, "seconds": seconds}
        if draw is not None:
            return _one_draw(out, draw, sources, full=full, as_json=as_json)
        page, plain, failures = _audited(out, half, seed, only, draws, **how)
    else:
        if len(dataset or ()) > 1:
            raise UserError("several --dataset need --audit: give one")
        make = _repaired if repair else _examined
        source = dataset[0] if dataset else None
        page, plain, failures = make(out, half, seed, only, seconds=seconds, jobs=jobs, source=source)
    say(plain if as_json else page)
    for name, reason in failures.items():
        say(f"error: {name}: {reason}", aside=True)
    return EXIT_FAILURE if failures else 0


Made = tuple[str, str, dict[str, str]]
"""A page, the same as JSON, and why runs could not be made."""


def _examined(out: Path, half: str, seed: int, only: str | None, **how: Any) -> Made:
    """What examiners say to the runs."""
    from volumen.doctor.benchmark.bench import read_results, run_bench
    from volumen.doctor.benchmark.drawing import checked_kind, plan
    from volumen.doctor.benchmark.examiners import examiners
    from volumen.doctor.benchmark.page import page_of
    from volumen.doctor.benchmark.scoring import scores_of, table_of, to_json

    draws = [one for one in plan(seed, checked_kind(only)) if half in ("both", one.half)]
    results, failures = read_results(out), dict[str, str]()
    if how["seconds"] > 0:
        with progress_bar("trainings", "runs", plain=True) as show:
            results, failures = run_bench(out, draws, **how, progress=show)
    table = table_of({one.name: results[one.name] for one in draws if one.name in results}, half)
    scores = scores_of(examiners(), table, out)
    return *_written(out, half, page_of(table, scores), to_json(table, scores)), failures


def _repaired(out: Path, half: str, seed: int, only: str | None, **how: Any) -> Made:
    """What arms do against faults."""
    from volumen.doctor.benchmark.arm_page import repair_page
    from volumen.doctor.benchmark.arm_running import read_arms, run_repair
    from volumen.doctor.benchmark.arm_scoring import repair_json, repair_table
    from volumen.doctor.benchmark.arms import checked_repairable, plan_repair

    draws = plan_repair(seed, checked_repairable(only), half)
    results, failures = read_arms(out), dict[str, str]()
    if how["seconds"] > 0:
        with progress_bar("trainings", "runs", plain=True) as show:
            results, failures = run_repair(out, draws, **how, progress=show)
    mine = {one.name: results[one.name] for one in draws if one.name in results}
    table = repair_table(mine)
    return *_written(out, "repair", repair_page(table), repair_json(table, mine)), failures


def _audited(out: Path, half: str, seed: int, only: str | None, count: int, **how: Any) -> Made:
    """What the audit says of drawn set-ups."""
    from itertools import islice

    from volumen.doctor.benchmark.faultgen.draws import checked_kind, draws
    from volumen.doctor.benchmark.faultgen.figures import figures_of, to_json
    from volumen.doctor.benchmark.faultgen.page import audit_page
    from volumen.doctor.benchmark.faultgen.running import run_audit_bench

    chosen = list(islice(draws(seed, half, checked_kind(only)), count))
    with progress_bar("draws", "draws", plain=True) as show:
        seen, failures = run_audit_bench(out, chosen, **how, progress=show)
    figures = figures_of(seen, half)
    page = audit_page(figures, _remade(out, how["sources"]))
    return *_written(out, f"audit-{half}", page, to_json(figures, seen)), failures


def _remade(out: Path, sources: tuple[Path, ...]) -> str:
    """The command that the number of a draw completes."""
    import shlex

    more = [word for source in sources for word in ("--dataset", str(source))]
    return shlex.join(["volumen", "doctor-bench", "--out", str(out), *more, "--draw"])


def _one_draw(out: Path, number: int, sources: tuple[Path, ...], *, full: bool, as_json: bool) -> int:
    """Make a draw again, and say what the audit says of it."""
    import json
    from dataclasses import asdict

    from volumen.doctor.benchmark.faultgen.auditing import CONFIGS, audit_draw
    from volumen.doctor.benchmark.faultgen.draws import draw_of

    draw = draw_of(number)
    said = audit_draw(draw, out, sources, full)
    config = out / CONFIGS / f"{draw.name}.yaml"
    if as_json:
        say(json.dumps({**asdict(said), "config": str(config)}, indent=1))
        return 0
    say(f"draw {number}: {draw.kind} ({draw.part}), severity {draw.severity:g}, {draw.subset}, {draw.scene}")
    for one in said.findings:
        known = " (of the healthy twin as well)" if one in said.twin else ""
        say(f"{one['code']} {one['severity']}: {one['title']}{known}")
    if not said.findings:
        say("the audit says nothing")
    own = ", but for the parts of its own code" if draw.part == "code" else ""
    say(f"as a file: volumen audit {config}{own}")
    return 0


def _written(out: Path, name: str, page: str, values: dict[str, Any]) -> tuple[str, str]:
    import json

    from volumen.files import strict_json, write_atomically
    from volumen.system.places import writable_folder

    plain = json.dumps(strict_json(values), indent=1)
    writable_folder(out)
    write_atomically(out / f"{name}.md", page)
    write_atomically(out / f"{name}.json", plain + "\n")
    return page, plain
