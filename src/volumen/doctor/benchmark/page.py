"""The benchmark's tables in Markdown."""

from collections.abc import Sequence

from volumen.doctor.benchmark.scoring import Score, Table, Variant

_HEAD = (
    "| examiner | recall | of grave ones | faults found | false alarms | at most | Youden's J | cause right | delay |"
)
_ROW_HEAD = "| fault | set-up | onset | Dice lost | p |"


def page_of(table: Table, scores: Sequence[Score]) -> str:
    """The page of a table: figures of every examiner, then a row for each fault."""
    runs = sum(len(one.runs) for one in table.harmful)
    parts = [
        f"{len(table.harmful)} harmful faults in {runs} runs, {len(table.controls)} controls (healthy runs and faults "
        f"that do no harm), {len(table.undecided)} faults undecided, {len(table.set_aside)} controls set aside; "
        f"half: {table.half}.",
        "",
        _HEAD,
        "| --- " * 9 + "|",
        *map(_figures, scores),
        "",
        "Recall is of runs, with its exact 95 % interval; *at most* is the one-sided 95 % bound of the false alarms; "
        "*delay* is the median share of the run from the fault to the first alarm.",
        "",
        *_faults(table, scores),
    ]
    if table.neutral:
        parts += ["", "No harm, and so controls: " + ", ".join(one.name for one in table.neutral) + "."]
    if table.set_aside:
        parts += ["", "Set aside, since they did not learn: " + ", ".join(table.set_aside) + "."]
    return "\n".join(parts) + "\n"


def _figures(score: Score) -> str:
    low, high = score.recall_interval
    cells = (
        score.examiner,
        f"{_percent(score.recall)} ({_percent(low)} to {_percent(high)})",
        _percent(score.grave_recall),
        f"{score.faults_found} of {score.faults}",
        f"{score.false_alarms} of {score.controls} ({_percent(score.false_alarm_rate)})",
        _percent(score.false_alarm_bound),
        f"{score.youden:.2f}" if score.youden == score.youden else "",
        _percent(score.named_share),
        "" if score.delay is None else _percent(score.delay),
    )
    return "| " + " | ".join(cells) + " |"


def _faults(table: Table, scores: Sequence[Score]) -> list[str]:
    names = [score.examiner for score in scores]
    lines = [_ROW_HEAD + "".join(f" {name} |" for name in names), "| --- " * (5 + len(names)) + "|"]
    rows = {score.examiner: {row.variant: row for row in score.rows} for score in scores}
    for variant in table.harmful:
        found = []
        for name in names:
            row = rows[name][variant.name]
            found.append(f"{row.found}/{row.runs}{', ' + row.said if row.said else ''}")
        lines.append("| " + " | ".join([*_said(variant), *found]) + " |")
    return lines


def _said(variant: Variant) -> list[str]:
    harm = variant.harm
    p = "< 0.001" if harm.p < 0.001 else f"{harm.p:.3f}"
    return [
        f"{variant.kind} {variant.strength:g}", variant.setup, f"{variant.onset:.0%}".replace("%", " %"),
        f"{harm.drop:.3f}", p,
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else ""
