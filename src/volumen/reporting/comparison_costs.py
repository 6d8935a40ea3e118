"""What runs cost: time, steps, parameters, memory; times are ranked on one machine only."""

from collections.abc import Sequence

from volumen.experiments.comparing_results import Comparison, Entry
from volumen.reporting.comparison_model import NOTHING, Line, Table, number_cell, text_cell


def cost_table(found: Comparison) -> Table:
    """Cost of training and of prediction, means over the runs of a row."""
    lines = []
    for one in found.entries:
        runs, scores = one.row.runs, list(one.scores.values())
        lines.append(
            Line(
                one.label,
                (
                    number_cell(_mean([run.epochs for run in runs]), ".4g"),
                    number_cell(_mean([run.steps for run in runs]), ".6g"),
                    number_cell(_mean([run.epoch_seconds for run in runs]), ".1f"),
                    number_cell(_mean([run.seconds for run in runs]), ".1f"),
                    number_cell(_mean([run.memory_gb for run in runs]), ".2f"),
                    number_cell(_mean([one.parameters for one in scores]), ",.0f"),
                    number_cell(_mean([one.predict_seconds for one in scores]), ".2f"),
                    text_cell(", ".join(_machines(one)) or NOTHING),
                ),
            )
        )
    headings = ("row", "epochs", "steps", "s an epoch", "s in all", "GB", "parameters", "s a volume", "machine")
    return Table("cost", "Cost", headings, tuple(lines), (_on_times(found), *_on_prediction(found)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _machines(entry: Entry) -> list[str]:
    return sorted({run.machine or "not recorded" for run in entry.row.runs})


def _on_times(found: Comparison) -> str:
    machines = {name for one in found.entries for name in _machines(one)}
    if "not recorded" in machines:
        return "times of training are not ranked: the machine of some runs was not recorded"
    if len(machines) > 1:
        return "times of training are not ranked: the runs were trained on different machines"
    times = [(_mean([run.epoch_seconds for run in one.row.runs]), one.label) for one in found.entries]
    known = sorted((seconds, label) for seconds, label in times if seconds is not None)
    if len(known) < 2:
        return "s an epoch: the median over the epochs of a run"
    return f"one machine; by s an epoch, the fastest first: {', '.join(label for _, label in known)}"


def _on_prediction(found: Comparison) -> tuple[str, ...]:
    machines = {one.machine for entry in found.scored for one in entry.scores.values()}
    if found.quick or not machines:
        return ()
    if len(machines) > 1 or "" in machines:
        return ("s a volume: prediction, measured on different machines, and not ranked",)
    return (f"s a volume: prediction of a held-out volume, on {machines.pop()}",)
