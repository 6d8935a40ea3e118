"""The audit bench's tables in Markdown."""

from collections.abc import Sequence

from volumen.doctor.benchmark.faultgen.figures import Figures, Share, news
from volumen.doctor.benchmark.faultgen.running import Seen


def audit_page(figures: Figures, remake: str) -> str:
    """The page: recall by part, kind and severity, false alarms, and each miss with the command that makes it again.

    Args:
        figures: What was found.
        remake: A command that a draw's number completes.
    """
    lines = [
        f"Half: {figures.half}. Recall is of faults that do harm; {figures.opened} faults are not qualified yet. "
        f"An audit took {figures.seconds:.1f} s (median). Intervals are exact, at 95 %.",
        "",
        *_table("harmful faults", figures.recall),
        *_table("all faults, harmful or not", figures.unqualified),
        *_table("severity of harmful faults", figures.severities),
        *_table("kind", figures.kinds),
        "| false alarms | draws | share | interval |",
        "| --- | --- | --- | --- |",
        _false("stops", figures.false_stops),
        _false("warnings", figures.false_warnings),
        _false("of these on healthy set-ups and neutral changes", figures.healthy),
        "",
    ]
    lines += _listed("Missed", figures.missed, remake) + _listed("False alarms", figures.alarms, remake)
    return "\n".join(lines) + "\n"


def _table(title: str, shares: Sequence[Share]) -> list[str]:
    head = [f"| {title} | found | of | recall | interval | right check first |", "| --- " * 6 + "|"]
    return [*head, *(_row(one) for one in shares), ""]


def _row(share: Share) -> str:
    named = _percent(share.named / share.of) if share.of else ""
    return f"| {share.name} | {share.hits} | {share.of} | {_percent(share.share)} | {_interval(share)} | {named} |"


def _false(name: str, share: Share) -> str:
    return f"| {name}: {share.hits} | {share.of} | {_percent(share.share)} | {_interval(share)} |"


def _interval(share: Share) -> str:
    low, high = share.interval
    return f"{_percent(low)} to {_percent(high)}"


def _listed(title: str, seen: Sequence[Seen], remake: str) -> list[str]:
    if not seen:
        return [f"{title}: none.", ""]
    rows = [f"| {_said(one)} | `{remake} {one.draw.number}` |" for one in seen]
    return [f"| {title.lower()} | made again by |", "| --- | --- |", *rows, ""]


def _said(one: Seen) -> str:
    draw = one.draw
    cost = "" if one.harm.drop is None else f", costs {one.harm.drop:.3f} Dice"
    shown = one.said.findings if draw.group == "healthy" else news(one)
    words = "; ".join(f"{found['code']} {found['severity']}: {found['title']}" for found in shown[:2])
    return f"{draw.kind} {draw.severity:g}, {draw.subset}, {draw.scene}{cost}{': ' + words if words else ''}".replace(
        "|", "/"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share == share else ""
