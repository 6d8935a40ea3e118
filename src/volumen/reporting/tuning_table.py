"""What tuning found, for a terminal."""

from rich.console import Console
from rich.table import Table

from volumen.experiments.tuned_runs import TuningReport
from volumen.experiments.tuning import OWN, THRESHOLD, TUNED
from volumen.metrics.comparison import unproven
from volumen.postprocess import describe
from volumen.reporting.words import number
from volumen.system.output import counted

METHODS = {OWN: "the run's own", "raw": "threshold 0.5", THRESHOLD: "best threshold", TUNED: "tuned pipeline"}


def print_tuning(report: TuningReport, console: Console) -> None:
    """Scores on volumes that no search saw, by method and scroll, and what each step is worth."""
    scrolls = sorted({case.scroll_id for case in report.cases})
    table = Table(title="leaderboard score on volumes that the search did not see")
    table.add_column("")
    for name in METHODS.values():
        table.add_column(name, justify="right")
    for scroll in (*scrolls, None):
        count = sum(scroll in (None, case.scroll_id) for case in report.cases)
        name = f"all {counted(count, 'volume')}" if scroll is None else f"scroll {scroll} ({count})"
        table.add_row(name, *(_cell(report, method, scroll) for method in METHODS), end_section=scroll == scrolls[-1])
    console.print(table)
    console.print("gain over the run's own post-processing, plus or minus its standard error over the volumes")
    steps = Table(title="what each step is worth there")
    for name, justify in (("step", "left"), ("in searches", "right"), ("gain", "right"), ("", "left")):
        steps.add_column(name, justify="left" if justify == "left" else "right")
    for one in report.steps:
        verdict = "lowers the score" if one.harmful else ""
        if one.within_noise:
            verdict += f"{', ' if verdict else ''}{unproven(one.volumes)}"
        searches = f"{one.searches} of {len(report.tuned.nested)}"
        steps.add_row(one.step, searches, f"{one.gain:+.4f} ± {number(one.noise, '.4f')}", verdict)
    console.print(steps)
    tuned = report.tuned
    if tuned.advised == OWN:
        said = f"keep what you have: {describe(tuned.own)}; nothing gains on it beyond twice the noise"
    else:
        said = f"to use: {describe(tuned.to_use)} ({METHODS[tuned.advised]})"
    console.print(said, markup=False, soft_wrap=True)


def _cell(report: TuningReport, method: str, scroll: str | None) -> str:
    mean, gain, noise = report.gain(method, scroll)
    return f"{mean:.4f}" if method == OWN else f"{mean:.4f} ({gain:+.4f} ± {number(noise, '.4f')})"
