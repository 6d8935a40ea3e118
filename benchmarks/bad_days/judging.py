"""What came of a damage: the sentence that a table counts."""

import re
from dataclasses import dataclass
from pathlib import Path

from bad_days.commands import Command
from bad_days.running import Outcome, is_remark

SAME, TOLD, VAGUE, REPAIRED = "ok-same", "told", "told-vaguely", "repaired"
UNKNOWING, ABSENT, FORGED = "stranger", "absent", "forged"
SILENT, TRACEBACK, HANG, MEMORY, ESCAPE = "SILENT", "TRACEBACK", "HANG", "MEMORY", "ESCAPE"
BROKEN = "BROKEN"
GOOD = (SAME, TOLD, VAGUE, REPAIRED, UNKNOWING, ABSENT, FORGED)
BAD = (SILENT, TRACEBACK, HANG, MEMORY, ESCAPE, BROKEN)
EXPLAINED = f"""{SAME}: nothing changed, nothing said
{TOLD}: exit code 2, or a warning, that names the file; {VAGUE}: exit code 2 that does not name it
{REPAIRED}: the same numbers, and something said
{UNKNOWING}: other numbers from a file that has no record anywhere (a stranger's image, a text that a person writes)
{ABSENT}: a file removed whole, and a report without what was in it
{FORGED}: other numbers from a file whose check was made anew after the change
{SILENT}: other numbers, nothing said; {TRACEBACK}: an error that no user made; {HANG}, {MEMORY}: past the limits
{ESCAPE}: something outside of the command's folders was made, changed or removed
{BROKEN}: a command that fails in the undamaged world"""
_SAYS = re.compile(
    r"(?i)damaged|missing|is gone|cannot be read|left out|passed over|not what was written|(has|have|was|were) changed"
)
_ENDED = re.compile(r"failed: (\w+): ?(.*)")


@dataclass(frozen=True)
class Case:
    """What is known of a case beside its outcome."""

    path: str
    """Of the damaged file, in the world."""
    damage: str
    unknowing: bool
    """The command cannot know what the file was."""
    forged: bool
    """The damage came with a check that fits."""


def judge(case: Case, command: Command, before: Outcome, after: Outcome, changes: dict[str, str]) -> tuple[str, str]:
    """The outcome's name and a line about it."""
    escaped = escapes(command, case.path, changes)
    if escaped:
        return ESCAPE, escaped
    if after.ended_by == "hang":
        return HANG, f"no end after {after.seconds:.0f} s"
    if (
        re.search(r"MemoryError|can't allocate memory|Unable to allocate|Cannot allocate", after.error)
        and after.code != 2
    ):
        return MEMORY, last_line(after.error)
    if after.ended_by:
        return (MEMORY if after.ended_by == "SIGKILL" else TRACEBACK), f"killed by {after.ended_by}"
    if after.code == 2 and "Traceback (most recent" not in after.error:
        told = names_file(after.error, case.path)
        return (TOLD if told else VAGUE), last_line(after.error)
    if after.code != 0 or "Traceback (most recent" in after.error:
        return TRACEBACK, f"exit code {after.code}: {last_line(after.error)}"
    return _of_success(case, command, before, after)


def _of_success(case: Case, command: Command, before: Outcome, after: Outcome) -> tuple[str, str]:
    said = said_newly(before, after, case.path)
    if after.result == before.result:
        return (REPAIRED, said) if said else (SAME, "")
    if said:
        return TOLD, said
    if case.unknowing:
        return UNKNOWING, ""
    if case.forged:
        return FORGED, ""
    if case.damage.startswith("removed") and command.line.startswith("report"):
        return ABSENT, ""
    parts = [part for part in before.result if after.result.get(part) != before.result[part]]
    return SILENT, f"{', '.join(parts)}: {difference(before.text, after.text)}"


def escapes(command: Command, damaged: str, changes: dict[str, str]) -> str:
    """What a command changed outside of its folders; empty where it did not."""
    inside = tuple(f"around/world/{place}" for place in command.writes)
    for name, what in sorted(changes.items()):
        if name in inside or name.startswith(tuple(f"{place}/" for place in inside)):
            if Path(name).name.startswith("victim") and what != "made":
                return f"{name} was {what}"
            continue
        if name == f"around/world/{damaged}" or name.startswith(f"around/world/{damaged}/"):
            continue  # the damage itself
        return f"{name} was {what}"
    return ""


def names_file(text: str, path: str) -> bool:
    """Whether a message says which file it is about: by its name, its case, or the folder that it is of."""
    parts = Path(path)
    inner = [name for name in parts.parts[1:] if name.endswith(".zarr")]
    names = [parts.name, parts.stem, *(str(parent) for parent in parts.parents if str(parent) != "."), *inner]
    return any(name in text for name in names)


def said_newly(before: Outcome, after: Outcome, path: str) -> str:
    """A line that was not said of the whole world and that is about a fault or the file."""
    known = set(before.text.splitlines())
    for line in after.text.splitlines():
        if line in known or len(line) > 100_000:
            continue
        for piece in _pieces(line):
            about = is_remark(piece) or Path(path).name in piece or _SAYS.search(piece)
            if about and not any(piece in other for other in known):
                return piece.strip()[:200]
    return ""


def _pieces(line: str) -> list[str]:
    """A line of text, or the texts of a line of a page."""
    return [piece for piece in re.split(r"<[^>]*>", line) if piece.strip()] if "<" in line else [line]


def last_line(text: str) -> str:
    """Of an error, what is worth a line in a list."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    ended = [line for line in lines if _ENDED.search(line) or line.startswith("error:")]
    return (ended or lines or [""])[-1][:240]


def difference(before: str, after: str) -> str:
    """The first place where two texts differ."""
    for old, new in zip(before.splitlines(), after.splitlines(), strict=False):
        if old != new:
            start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            begin = max(0, start - 30)
            return f"{old[begin : start + 30]!r} -> {new[begin : start + 30]!r}"
    return "files differ, the text does not"
