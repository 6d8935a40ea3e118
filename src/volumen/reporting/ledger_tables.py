"""Experiments on a terminal: the list, one of them, the family, how good the probabilities were."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console

from volumen.criteria import State
from volumen.ledger.calibration import Calibration
from volumen.ledger.picture import NOT_THERE, JudgedRun, Picture
from volumen.system.output import counted

STYLES = {State.met: "green", State.failed: "red", State.unreachable: "red", State.undecidable: "yellow"}
MARKS = {State.met: "+", State.failed: "-", State.unreachable: "x", State.not_yet: ".", State.undecidable: "?"}
LEGEND = "+ met  - failed  x unreachable  . not yet  ? undecidable"
_MOST_CHANGES = 6


def print_list(pictures: Sequence[Picture], calibration: Calibration, console: Console) -> None:
    """One line an experiment, and the calibration."""
    width = max((len(one.entry.name) for one in pictures), default=0)
    for one in pictures:
        head = f"{one.entry.name:{width}}  {one.entry.status:6}  {one.mark:12}"
        console.print(f"{head}{_brief(one)}", style=_style(one), soft_wrap=True)
    if calibration.experiments:
        console.print("")
        for line in _calibration(calibration):
            console.print(line, soft_wrap=True)


def print_tree(pictures: Sequence[Picture], console: Console) -> None:
    """The family: parents, their children below them, what each changed and how it stands."""
    children: dict[str | None, list[Picture]] = {}
    for one in pictures:
        children.setdefault(one.entry.parent, []).append(one)

    def show(one: Picture, first: str, rest: str) -> None:
        marks = " ".join(filter(None, map(_marks, one.runs))) or one.mark
        console.print(f"{first}{one.entry.name}  [{marks}]  {_difference(one)}", style=_style(one), soft_wrap=True)
        below = children.get(one.entry.name, [])
        for place, child in enumerate(below, 1):
            last = place == len(below)
            show(child, f"{rest}{'`- ' if last else '|- '}", f"{rest}{'   ' if last else '|  '}")

    for one in children.get(None, []):
        show(one, "", "")
    console.print(f"\n{LEGEND}", style="dim")


def print_picture(one: Picture, console: Console) -> None:
    """An experiment: question, difference, expectations, verdicts, notes, next step."""
    entry = one.entry
    console.print(f"{entry.name}: {one.mark}, {entry.status}", style=_style(one) or "bold", soft_wrap=True)
    lines = [("hypothesis", entry.hypothesis or "none was written down"), *_from_parent(one)]
    held = _held(one.runs, len(entry.outcomes))
    for place, outcome in enumerate(entry.outcomes, 1):
        likely = "" if outcome.probability is None else f" ({outcome.probability:.0%})"
        when = "" if outcome.criterion is None else f", if {outcome.criterion}"
        came = ": came true" if entry.came_true == place else f": {held[place - 1]}" if held[place - 1] else ""
        lines.append((f"outcome {place}", f"{outcome.what}{likely}{when}{came}"))
    if entry.came_true == 0:
        lines.append(("outcome", "none of them came true"))
    lines += [("fallback", text) for text in one.fallback]
    for name, text in lines:
        console.print(f"  {name:11}{text}", soft_wrap=True)
    for run in one.runs:
        console.print(f"\n  {run.place}", soft_wrap=True)
        if run.fault:
            said = run.fault if run.fault == NOT_THERE else f"cannot be read: {run.fault}"
            console.print(f"    {said}", style="yellow", soft_wrap=True)
        for text, verdict in run.verdicts:
            console.print(f"    {verdict.state:12} {text} ({verdict.sentence})", style=STYLES.get(verdict.state),
                          soft_wrap=True)  # fmt: skip
    if not one.runs and one.criteria:
        console.print("\n  criteria, without a run yet")
        for text in one.criteria:
            console.print(f"    {text}", soft_wrap=True)
    for note in entry.notes:
        console.print(f"\n  {note.date}  {note.text}", soft_wrap=True)
    if entry.status == "closed":
        console.print(f"\n  closed {entry.closed or ''}: {entry.conclusion or 'without a conclusion'}", soft_wrap=True)
    if one.next_step:
        console.print(f"\nnext: {one.next_step}", soft_wrap=True)


def _from_parent(one: Picture) -> Iterator[tuple[str, str]]:
    parent = one.entry.parent
    if parent is None:
        yield "parent", "none"
    elif one.factors is None:
        yield "parent", f"{parent}; the difference is not known: {one.why_unknown}"
    elif not one.factors:
        yield "parent", f"{parent}; no difference but names and places"
    else:
        yield "parent", parent
        for factor, changes in one.factors.items():
            more = len(changes) - _MOST_CHANGES
            told = [*changes[:_MOST_CHANGES], *([f"{more} more"] if more > 0 else [])]
            yield "", f"{factor}: {', '.join(told)}"
    if one.warning:
        yield "", one.warning


def _difference(one: Picture) -> str:
    """The difference from the parent, briefly."""
    if one.entry.parent is None or one.factors is None:
        return ""
    if not one.factors:
        return "no difference"
    if len(one.factors) == 1:
        ((factor, changes),) = one.factors.items()
        return f"{factor} ({changes[0] if len(changes) == 1 else f'{len(changes)} settings'})"
    return f"{len(one.factors)} factors: {', '.join(one.factors)}"


def _brief(one: Picture) -> str:
    """What a line of the list says of an experiment."""
    text = one.entry.conclusion if one.entry.status == "closed" else one.entry.hypothesis
    return text if len(text) <= 100 else f"{text[:97]}..."


def _held(runs: Sequence[JudgedRun], outcomes: int) -> list[str]:
    """Of each outcome: how its own criterion stands in the last run that tells."""
    found = [""] * outcomes
    for run in runs:
        for place, verdict in enumerate(run.outcomes):
            if verdict is not None:
                found[place] = f"{verdict.state} ({verdict.sentence})"
    return found


def _marks(run: JudgedRun) -> str:
    return "".join(MARKS[verdict.state] for _, verdict in run.verdicts)


def _style(one: Picture) -> str | None:
    return None if one.state is None else STYLES.get(one.state)


def _calibration(found: Calibration) -> Iterator[str]:
    yield (
        f"probabilities of {counted(found.experiments, 'closed experiment')}: Brier score {_said(found.brier)} (base "
        f"rate alone {_said(found.base_brier)}), log score {_said(found.log_score)} ({_said(found.base_log_score)}); "
        "less is better"
    )
    yield found.remark
    for one in found.bins:
        yield f"  said {one.said:4.0%}  came true {one.came_true:4.0%}  of {one.forecasts}"


def _said(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
