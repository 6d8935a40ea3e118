"""What bad luck and vandals do to a file: each damage is drawn from a generator and done to a file of the world."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

from bad_days.commands import kind_of
from bad_days.containers import CONTAINERS
from bad_days.world import CANARIES, Room

TEXTS = (".json", ".jsonl", ".yaml", ".csv", ".log", ".html")


@dataclass(frozen=True)
class Target:
    """A file to be damaged."""

    room: Room
    path: str

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.room.world / self.path

    def content(self) -> bytes:
        """What is in it before."""
        return (self.room.pristine / self.path).read_bytes()

    def write(self, content: bytes) -> None:
        """Put something else in its place: a file of its own, whatever links there were."""
        self.file.unlink()
        self.file.write_bytes(content)

    def others(self) -> list[str]:
        """Files of the same kind."""
        return [path for path in self.room.files() if path != self.path and kind_of(path) == kind_of(self.path)]


Damage = Callable[[Target, Generator], bool]
"""Does it, or returns False where it cannot be done to that file."""


def flips(target: Target, random: Generator) -> bool:
    """One to eight bits."""
    content = bytearray(target.content())
    if not content:
        return False
    for _ in range(int(random.integers(1, 9))):
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
    target.write(bytes(content))
    return True


def run_of_bytes(target: Target, random: Generator) -> bool:
    """A stretch of zeros, of ones, or of noise."""
    content = bytearray(target.content())
    if len(content) < 2:
        return False
    length = int(random.integers(1, min(len(content), 512)))
    start = int(random.integers(len(content) - length + 1))
    filling = (bytes(length), b"\xff" * length, random.bytes(length))[random.integers(3)]
    content[start : start + length] = filling
    target.write(bytes(content))
    return True


def cut(target: Target, random: Generator) -> bool:
    """The end is missing, from any place on."""
    content = target.content()
    if len(content) < 2:
        return False
    target.write(content[: random.integers(1, len(content))])
    return True


def lines_of(target: Target) -> list[bytes]:
    """Of a text; none of anything else."""
    return target.content().splitlines(keepends=True) if target.file.suffix in TEXTS else []


def cut_at_line(target: Target, random: Generator) -> bool:
    """The end is missing, from the end of a line on."""
    lines = lines_of(target)
    if len(lines) < 2:
        return False
    target.write(b"".join(lines[: random.integers(1, len(lines))]))
    return True


def line_deleted(target: Target, random: Generator) -> bool:
    """A line is missing."""
    lines = lines_of(target)
    if len(lines) < 2:
        return False
    del lines[random.integers(len(lines))]
    target.write(b"".join(lines))
    return True


def line_duplicated(target: Target, random: Generator) -> bool:
    """A line is there twice."""
    lines = lines_of(target)
    if not lines:
        return False
    number = int(random.integers(len(lines)))
    target.write(b"".join([*lines[: number + 1], *lines[number:]]))
    return True


def lines_swapped(target: Target, random: Generator) -> bool:
    """Two lines stand in each other's place."""
    lines = lines_of(target)
    if len(set(lines)) < 2:
        return False
    one, other = random.choice(len(lines), 2, replace=False)
    lines[one], lines[other] = lines[other], lines[one]
    target.write(b"".join(lines))
    return True


def of_another(target: Target, random: Generator) -> bool:
    """The file of another case, step or run."""
    others = [path for path in target.others() if (target.room.pristine / path).read_bytes() != target.content()]
    if not others:
        return False
    target.write((target.room.pristine / others[random.integers(len(others))]).read_bytes())
    return True


def emptied(target: Target, random: Generator) -> bool:
    """Nothing is in it."""
    target.write(b"")
    return True


def removed(target: Target, random: Generator) -> bool:
    """It is not there."""
    target.file.unlink()
    return True


def of_another_kind(target: Target, random: Generator) -> bool:
    """Another kind of file, a folder, a link to nowhere, a pipe that nobody writes to."""
    choice = int(random.integers(5))
    target.file.unlink()
    if choice == 0:
        target.file.mkdir()
    elif choice == 1:
        target.file.symlink_to("nowhere-at-all")
    elif choice == 2:
        os.mkfifo(target.file)
    else:
        files = target.room.files()
        shutil.copy(target.room.pristine / files[random.integers(len(files))], target.file)
    return True


def digit_edited(target: Target, random: Generator) -> bool:
    """Somebody changed a digit by hand."""
    content = bytearray(target.content())
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57] if lines_of(target) else []
    if not places:
        return False
    place = places[random.integers(len(places))]
    content[place] = 48 + (content[place] - 48 + int(random.integers(1, 10))) % 10
    target.write(bytes(content))
    return True


def hostile_names(target: Target, random: Generator) -> bool:
    """A text of a record is a path, a formula, a program of a page, very long, or not to be printed."""
    victim = str(target.room.world.parent / CANARIES[random.integers(len(CANARIES))])
    names = ("../../victim", "../victim.tif", "../../../victim", victim, "=cmd|' /C calc'!A0", "x" * 5000, "a\\u0000b")
    names += ("<script>alert(1)</script>", "..", ".", "", "CON", "a\\nb\\u001b[31m", "\\ud800")
    return _text_replaced(target, random, names[random.integers(len(names))])


def huge_numbers(target: Target, random: Generator) -> bool:
    """A number that no machine holds, or that asks for more memory than there is."""
    numbers = ("1000000000000000000", "-1", "1e999", "NaN", "9" * 5000, "-1000000000000000000", "0", "null", "1e-400")
    return _number_replaced(target, random, numbers[random.integers(len(numbers))])


def huge_shapes(target: Target, random: Generator) -> bool:
    """Lists of numbers ask for 10^18 voxels."""
    content = target.content()
    lists = list(re.finditer(rb"\[\s*\d+(,\s*\d+)+\s*\]", content)) if lines_of(target) else []
    if not lists:
        return False
    found = lists[random.integers(len(lists))]
    shape = b"[1000000, 1000000, 1000000]"
    return _write_text(target, random, content[: found.start()] + shape + content[found.end() :])


def nested(target: Target, random: Generator) -> bool:
    """Brackets within brackets, deeper than any reader goes."""
    depth = int((100, 2000, 200_000)[random.integers(3)])
    one, other = (("[", "]"), ('{"a":', "}"))[random.integers(2)]
    inner = one * depth + "1" + other * depth
    if random.integers(2):
        return _number_replaced(target, random, inner)
    if not lines_of(target):
        return False
    target.write(inner.encode())
    return True


def _text_replaced(target: Target, random: Generator, text: str) -> bool:
    """Put a text in the place of one, or of a key, of JSON, YAML or CSV."""
    content = target.content().decode(errors="surrogateescape") if lines_of(target) else ""
    pattern = r"[^,\n]+" if target.file.suffix == ".csv" else r'"([^"\\\n]*)"|(?<=: )\w[^\n,\]}]*|\b\w+(?=: )'
    found = list(re.finditer(pattern, content))
    if not found:
        return False
    place = found[random.integers(len(found))]
    quoted = f'"{text}"' if place.group().startswith('"') else text
    return _write_text(
        target, random, (content[: place.start()] + quoted + content[place.end() :]).encode(errors="surrogateescape")
    )


def _number_replaced(target: Target, random: Generator, text: str) -> bool:
    content = target.content() if lines_of(target) else b""
    found = list(re.finditer(rb"(?<![\w.\"])-?\d+(\.\d+)?(e-?\d+)?(?![\w.\"])", content))
    if not found:
        return False
    place = found[random.integers(len(found))]
    return _write_text(target, random, content[: place.start()] + text.encode() + content[place.end() :])


FORGED: set[str] = set()
"""Paths whose last damage came with a check that fits; emptied by `do`."""


def _write_text(target: Target, random: Generator, content: bytes) -> bool:
    """Write a changed text; every other time with its check made anew, where it has one that we know how to make."""
    if random.integers(2) and target.file.suffix == ".json":
        made = _with_check(target.content(), content)
        if made is not None:
            content = made
            FORGED.add(target.path)
    target.write(content)
    return True


def _with_check(before: bytes, content: bytes) -> bytes | None:
    try:
        from volumen.system.records import CHECK, check_of

        old, new = json.loads(before), json.loads(content)
        if old.pop(CHECK) != check_of(old):
            return None  # it belongs to an owner that we do not know
        new.pop(CHECK, None)
        return json.dumps({**new, CHECK: check_of(new)}, indent=1).encode()
    except (ImportError, KeyError, ValueError, AttributeError, TypeError, RecursionError):
        return None


DAMAGES: dict[str, Damage] = {
    "flips": flips,
    "run of bytes": run_of_bytes,
    "cut": cut,
    "cut at a line": cut_at_line,
    "line deleted": line_deleted,
    "line duplicated": line_duplicated,
    "lines swapped": lines_swapped,
    "of another": of_another,
    "emptied": emptied,
    "removed": removed,
    "of another kind": of_another_kind,
    "digit edited": digit_edited,
    "hostile names": hostile_names,
    "huge numbers": huge_numbers,
    "huge shapes": huge_shapes,
    "nested": nested,
    **CONTAINERS,
}


def do(name: str, target: Target, random: Generator) -> str:
    """Do a damage; in three of ten the file's time is set back to what it was.

    Returns:
        The damage in words; empty where it cannot be done to that file.
    """
    FORGED.discard(target.path)
    target.room.suspect(target.path)
    times = target.file.stat()
    keep = random.random() < 0.3
    if not DAMAGES[name](target, random):
        return ""
    if target.path in FORGED:
        name += " with a new check"
    if keep and target.file.is_file():
        os.utime(target.file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return f"{name}, time kept"
    return name
