"""What does a full disk do? Every command that writes, with almost no room left, and again after room was made.

    ./run bench full_disk [--only COMMAND] [--kilobytes 0,4,8,20,60,100,300,1000] [--json FILE] [--folder FOLDER]

The world lies on a tmpfs of just that size. A command has to end with exit code 1 and the one sentence about a full
disk, or to succeed where its files fit; nothing half-written may be left, and a training's status must not say that it
is running. With room, the same command, or the way that its help names, has to make what it makes on an empty disk.
Exit code 1 where something is bad, 77 where no tmpfs can be mounted.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bad_days.chores import CHORES, BrokenError, Chore, go_on, partial_files, status_of, undisturbed
from bad_days.running import Outcome, run_forked, warm
from bad_days.world import Room, open_room

if TYPE_CHECKING:
    from collections.abc import Iterator

KILOBYTES = (0, 4, 8, 20, 60, 100, 300, 1000)
NO_TMPFS = 77
LARGE = 2**29
UNSHARED = "VOLUMEN_BENCH_UNSHARED"
FULL, FITTED = "full", "fitted"
BAD = {
    "WRONG": "it ended neither well nor with exit code 1 and the one sentence about a full disk",
    "PARTIAL": "something half-written was left",
    "STATUS": "a training's status says that it is still running",
    "STUCK": "with room again it was refused, or did not end",
    "FAILED": "with room again it failed",
    "DIFFERENT": "with room again it made something else than on an empty disk",
    "BROKEN": "it fails where there is room",
}
SENTENCE = "failed: the disk is full"


@dataclass(frozen=True)
class Try:
    """A command with so much room."""

    command: str
    kilobytes: int
    outcome: str
    detail: str


class Disk:
    """A tmpfs whose size is changed as it is used."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def resize(self, size: int) -> None:
        """Make it so many bytes large."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def leave(self, kilobytes: int) -> None:
        """Leave so much room beyond what is used."""
        found = os.statvfs(self.place)
        self.resize((found.f_blocks - found.f_bfree) * found.f_frsize + kilobytes * 1024 or 4096)

    def free(self) -> int:
        """Bytes of room."""
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize


@contextmanager
def mounted(place: Path) -> "Iterator[Disk]":
    """A tmpfs at a folder, gone afterwards."""
    place.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(place)], check=True)
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        place.rmdir()


def obstacle(folder: Path) -> str:
    """Why no tmpfs can be mounted here; empty where one can."""
    if not shutil.which("mount"):
        return "there is no mount command"
    place = folder / f"trial-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, text=True)
    if found.returncode:
        return found.stderr.strip()
    subprocess.run(["umount", str(place)], check=False)
    place.rmdir()
    return ""


class Bench:
    """A world on a small disk."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.run = warm()
        self.disk = disk
        self.scratch = folder / "scratch"
        pristine = open_room(folder, 0, self.run).root / "pristine"
        self.room = Room(disk.place)
        (disk.place / "pristine").symlink_to(pristine)  # the copy takes no room
        self.room.begin()
        self.usual: dict[str, Outcome] = {}

    def usually(self, name: str) -> Outcome:
        """What a command makes where there is room."""
        if name not in self.usual:
            self.usual[name] = undisturbed(self.run, CHORES[name], self.room, self.scratch)
        return self.usual[name]

    def trial(self, name: str, kilobytes: int) -> Try:
        """A command with so much room, and again with plenty."""
        chore = CHORES[name]
        try:
            usual = self.usually(name)
        except BrokenError as error:
            return Try(name, kilobytes, "BROKEN", str(error))
        limit = 60 + 10 * usual.seconds
        self.disk.leave(kilobytes)
        outcome = run_forked(self.run, chore.command(), self.room.world, limit, self.scratch)
        found = self.judged(chore, usual, outcome)
        self.disk.resize(LARGE)
        if found[0] in (FULL, "PARTIAL", "STATUS"):
            after = self.with_room(chore, usual, limit)
            found = after if after[0] else found
        self.room.restore()
        return Try(name, kilobytes, *found)

    def judged(self, chore: Chore, usual: Outcome, outcome: Outcome) -> tuple[str, str]:
        """What a command did with little room."""
        left = partial_files(self.room)
        if left:
            return "PARTIAL", ", ".join(left)
        if outcome.code == 0:
            same = outcome.result == usual.result
            return (FITTED, "") if same else ("DIFFERENT", "it succeeded, with another result")
        lines = [line for line in outcome.error.splitlines() if line.strip() and line not in usual.error]
        full = [line for line in lines if SENTENCE in line]
        if outcome.code != 1 or len(full) != 1 or len(lines) != 1:
            return (
                "WRONG",
                f"exit code {outcome.code} {outcome.ended_by}: {outcome.error.strip()[-400:] or 'nothing said'}",
            )
        state = status_of(self.room.world / chore.training) if chore.training else ""
        if state not in ("", "failed", "stopped") and self.disk.free() >= 8192:
            return "STATUS", f"{chore.training}/status.json says {state}"
        return FULL, ""

    def with_room(self, chore: Chore, usual: Outcome, limit: float) -> tuple[str, str]:
        """Go on with room; empty where all is as it should be."""
        line, outcome = go_on(self.run, chore, self.room, limit, self.scratch)
        said = outcome.error.strip()[-300:]
        if outcome.code == 2 or outcome.ended_by == "hang":
            return "STUCK", f"volumen {line}: {said or 'no end'}"
        if outcome.code != 0:
            return "FAILED", f"volumen {line}: exit code {outcome.code} {outcome.ended_by}: {said}"
        if outcome.result != usual.result:
            return "DIFFERENT", f"after volumen {line}"
        return "", ""


def print_report(tries: list[Try]) -> int:
    """The table, and every fault with what does it again; the number of faults."""
    sizes = sorted({one.kilobytes for one in tries})
    cells: dict[str, dict[int, str]] = defaultdict(dict)
    for one in tries:
        cells[one.command][one.kilobytes] = one.outcome
    print(
        f"\n{len(tries)} tries; {FULL}: told in one sentence, and made good with room; {FITTED}: there was room enough"
    )
    print("\n".join(f"{name}: {meaning}" for name, meaning in BAD.items()))
    print(f"\n| command | {' | '.join(f'{size} KB' for size in sizes)} |\n" + "| --- " * (len(sizes) + 1) + "|")
    for name, row in cells.items():
        print(f"| {name} | {' | '.join(row.get(size, '') for size in sizes)} |")
    print()
    bad = [one for one in tries if one.outcome in BAD]
    for one in bad:
        print(f"{one.outcome}  {one.command} with {one.kilobytes} KB: volumen {CHORES[one.command].line}")
        print(f"    {one.detail}")
        print(f"    ./run bench full_disk --only '{one.command}' --kilobytes {one.kilobytes}")
    print(f"{len(bad)} faults in {len(tries)} tries")
    return len(bad)


def main() -> int:
    """Fill disks, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a command's name in the table")
    parser.add_argument("--kilobytes", default=",".join(map(str, KILOBYTES)), help="room, separated by commas")
    parser.add_argument("--json", type=Path, help="write everything that was found")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"bad-days-{os.getuid()}")
    options = parser.parse_args()
    folder = options.folder.resolve()
    reason = obstacle(folder)
    if reason and UNSHARED not in os.environ and shutil.which("unshare"):
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, __file__, *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, UNSHARED: "1"}).returncode
    if reason:
        print(f"no tmpfs can be mounted here ({reason}): run it as root, or where users have name spaces of their own")
        return NO_TMPFS
    names = [name for name in CHORES if options.only in name]
    tries = []
    with mounted(folder / f"disk-{os.getpid()}") as disk:
        bench = Bench(folder, disk)
        for name in names:
            for size in options.kilobytes.split(","):
                tries.append(bench.trial(name, int(size)))
                print(f"{tries[-1].outcome:<10}{name}, {size} KB", file=sys.stderr, flush=True)
    bad = print_report(tries)
    if options.json:
        found: list[dict[str, Any]] = [asdict(one) for one in tries]
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
