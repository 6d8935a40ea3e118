"""The proof of repair in Markdown."""

from volumen.doctor.benchmark.arm_scoring import GAP, TRIED, ArmScore, Duel, HarmDone, RepairTable, Row
from volumen.doctor.benchmark.arms import MAXIMUM_SHARE


def repair_page(table: RepairTable) -> str:
    """The page of a table."""
    broken = sum(bool(one.repair) for one in table.rows)
    parts = [
        f"{table.runs} runs; {len(table.rows)} variants of faults, of which {broken} cost at least {GAP:g} Dice. "
        f"Budget of every arm: {1 + MAXIMUM_SHARE:g} times the planned steps, trials included.",
        "",
        "| arm | repaired | 95 % | median repair | steps of the budget |",
        "| --- " * 5 + "|",
        *map(_score, table.scores),
        "",
        "| tournament against | pairs | better | worse | mean gain in Dice | p, sign test | p, Wilcoxon |",
        "| --- " * 7 + "|",
        *map(_duel, table.duels),
        "",
        *_harm(table.harm),
        "",
        "| fault | set-up | onset | seeds | healthy | nothing |" + "".join(f" {arm} |" for arm in TRIED) + " kept |",
        "| --- " * (7 + len(TRIED)) + "|",
        *map(_row, table.rows),
        "",
        "*Healthy* and *nothing* are Dice on unseen volumes; the arms show (arm - nothing) / (healthy - nothing).",
    ]
    return "\n".join(parts) + "\n"


def _score(one: ArmScore) -> str:
    low, high = one.interval
    return (
        f"| {one.arm} | {one.repaired} of {one.cases} | {_percent(low)} to {_percent(high)} | "
        f"{_number(one.median_repair)} | {_percent(one.steps)} |"
    )


def _duel(one: Duel) -> str:
    return (
        f"| {one.other} | {one.pairs} | {one.better} | {one.worse} | {_number(one.mean_gain, 3)} | "
        f"{one.p_sign:.2g} | {one.p_wilcoxon:.2g} |"
    )


def _harm(one: HarmDone) -> list[str]:
    said = (
        f"Harm: {one.pairs} healthy runs and controls with the tournament against the same without: {one.changed} "
        f"differ, {one.worse} are worse by more than two sigma of the seed ({one.sigma:.4f}; at most "
        f"{_percent(one.worse_bound)}, one-sided 95 %), {one.better} better; the worst lost {one.worst:.3f}; "
        f"{one.tournaments} tournaments, {one.cut_short} ended as sick; trials took {_percent(one.cost)} of the "
        "planned steps."
    )
    return [said, *(["", "Made worse: " + ", ".join(one.names) + "."] if one.names else [])]


def _row(one: Row) -> str:
    cells = [
        f"{one.kind} {one.strength:g}", one.setup, f"{one.onset:.0%}".replace("%", " %"), str(one.seeds),
        f"{one.healthy:.3f}", f"{one.nothing:.3f}", *(_number(one.repair.get(arm)) for arm in TRIED),
        "; ".join(one.done),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else ""


def _number(value: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if value is not None and value == value else ""
