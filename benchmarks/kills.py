"""Can a command be killed at any moment, and taken up again? Random signals at random instants of all that writes.

    ./run bench kills [--kills 200] [--seconds N] [--seed 0] [--only COMMAND] [--signal "to all"] [--json FILE]
                      [--folder FOLDER]

Each command is a real process in a session of its own. It gets SIGKILL, SIGTERM, SIGINT or SIGHUP; then nothing of it
may be alive after 10 seconds, and the same command, or the way that its help names, has to succeed and to make what an
undisturbed one makes, without anything half-written beside it. Exit code 1 where a kill did harm.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bad_days.chores import CHORES, BrokenError, Chore, go_on, partial_files, undisturbed
from bad_days.running import Outcome, warm
from bad_days.world import Room, open_room

MARK = "VOLUMEN_BENCH_KILL"
GRACE_SECONDS = 10.0
DEAF_SECONDS = 3.0
SIGNALS = ("SIGKILL", "SIGTERM", "SIGTERM to all", "SIGINT", "SIGINT to all", "SIGHUP", "SIGHUP to all")
"""`to all`: to every process of the group, as a terminal and some schedulers do."""
FINE, EARLY = "fine", "finished before"
BAD = {
    "ALIVE": "a process of it was alive 10 seconds later",
    "SLOW": "SIGTERM, SIGINT or SIGHUP did not end it within 10 seconds",
    "DEAF": "it worked on after SIGTERM, SIGINT or SIGHUP, to its usual end",
    "NOISY": "it said a traceback, or more than one line",
    "STUCK": "it could not be taken up: refused, or no end",
    "FAILED": "taken up, it failed",
    "DIFFERENT": "taken up, it made something else than an undisturbed one",
    "PARTIAL": "something half-written was left after that",
    "BROKEN": "it fails where nothing disturbs it",
}


@dataclass(frozen=True)
class Usual:
    """An undisturbed command."""

    outcome: Outcome
    first: float
    """Seconds until it first changed anything."""
    seconds: float
    error: str


@dataclass(frozen=True)
class Kill:
    """What came of a kill."""

    number: int
    command: str
    signal: str
    after: float
    outcome: str
    detail: str


class Bench:
    """A room, and how commands go in it undisturbed."""

    def __init__(self, folder: Path) -> None:
        self.run = warm()
        self.room: Room = open_room(folder, 0, self.run)
        self.usual: dict[str, Usual] = {}

    def usually(self, name: str) -> Usual:
        """Result and times of a command, measured once."""
        if name not in self.usual:
            chore = CHORES[name]
            outcome = undisturbed(self.run, chore, self.room)
            process, began = self.start(chore, "undisturbed"), time.monotonic()
            first = self.wait_for_change(process, began)
            error = process.communicate()[1]
            self.usual[name] = Usual(outcome, first, time.monotonic() - began, error)
            self.room.restore()
        return self.usual[name]

    def start(self, chore: Chore, mark: str) -> subprocess.Popen[str]:
        """The command as a shell would start it, findable by a mark in its environment."""
        environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "volumen", *shlex.split(chore.line)],
            cwd=self.room.world,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_change(self, process: subprocess.Popen[str], began: float) -> float:
        """Seconds until the command changed a file, or ended."""
        while process.poll() is None and self.room.now() == self.room.marks:
            time.sleep(0.01)
        return time.monotonic() - began

    def kill(self, number: int, seed: int, only: str, signals: Sequence[str] = SIGNALS) -> Kill:
        """The kill of a number by one of some signals, and what came of it."""
        import numpy as np

        random = np.random.default_rng([seed, number])
        names = [name for name in CHORES if only in name]
        name = names[int(random.integers(len(names)))]
        sent = signals[int(random.integers(len(signals)))]
        try:
            usual = self.usually(name)
        except BrokenError as error:
            return Kill(number, name, "undisturbed", 0.0, "BROKEN", str(error))
        process, began = self.start(CHORES[name], f"{os.getpid()}-{number}"), time.monotonic()
        if random.random() < 0.6:  # the instants at which something is being written are few
            self.wait_for_change(process, began)
            pause = random.random() * max(0.05, usual.seconds - usual.first)
        else:
            pause = (0.3 + 0.7 * random.random()) * usual.seconds
        with suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        after = time.monotonic() - began
        found = self.aftermath(name, usual, process, sent, f"{os.getpid()}-{number}")
        end_all(f"{os.getpid()}-{number}")
        self.room.restore()
        return Kill(number, name, sent, after, *found)

    def aftermath(
        self, name: str, usual: Usual, process: subprocess.Popen[str], sent: str, mark: str
    ) -> tuple[str, str]:
        """Send the signal, look at what is left, take the command up again."""
        early, began = process.poll() is not None, time.monotonic()
        if not early:
            send(process, sent)
        try:
            _, error = process.communicate(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return ("SLOW" if process.poll() is None else "ALIVE"), f"{sent}: no end after {GRACE_SECONDS:.0f} s"
        seconds = time.monotonic() - began
        if not early and process.returncode == 0 and seconds > DEAF_SECONDS:
            return "DEAF", f"{sent}: {seconds:.1f} s later it ended with exit code 0"
        left = alive(mark, GRACE_SECONDS)
        if left:
            return "ALIVE", "; ".join(left)
        new = [line for line in error.splitlines() if line.strip() and line not in usual.error]
        if "Traceback (most recent" in error or len(new) > 1:
            return "NOISY", f"{len(new)} lines, such as: {new[-1] if new else ''}"
        if early or process.returncode == 0:
            return EARLY, ""
        return self.taken_up(CHORES[name], usual)

    def taken_up(self, chore: Chore, usual: Usual) -> tuple[str, str]:
        """Go on, and hold the result against the undisturbed one."""
        line, outcome = go_on(self.run, chore, self.room, 60 + 10 * usual.outcome.seconds)
        if outcome.code == 2 or outcome.ended_by == "hang":
            return "STUCK", f"volumen {line}: {outcome.error.strip()[-300:] or 'no end'}"
        if outcome.code != 0:
            return (
                "FAILED",
                f"volumen {line}: exit code {outcome.code} {outcome.ended_by}: {outcome.error.strip()[-300:]}",
            )
        if outcome.result != usual.outcome.result:
            return "DIFFERENT", f"after volumen {line}"
        left = partial_files(self.room)
        return ("PARTIAL", ", ".join(left)) if left else (FINE, "")


def send(process: subprocess.Popen[str], name: str) -> None:
    """A signal to a process, or to its group."""
    number = getattr(signal, name.split()[0])
    with suppress(ProcessLookupError):
        if name.endswith("to all"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def marked(mark: str) -> list[int]:
    """Living processes with a mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and f"{MARK}={mark}\0".encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


def alive(mark: str, seconds: float) -> list[str]:
    """Command lines of the processes that are still there after some time."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    lines = []
    for process in left:
        with suppress(OSError):
            lines.append(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
    return lines


def end_all(mark: str) -> None:
    """Leave nothing of a command behind."""
    for process in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def print_report(kills: list[Kill], seed: int, only: str, signals: str = "") -> int:
    """The table, and every harm with what does it again; the number of harms."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for kill in kills:
        counts[kill.command][kill.outcome] += 1
        counts["all"][kill.outcome] += 1
    columns = (FINE, EARLY, *BAD)
    print(f"\n{len(kills)} kills, seed {seed}\n")
    print("\n".join(f"{name}: {meaning}" for name, meaning in BAD.items()))
    print(f"\n| command | kills | {' | '.join(columns)} |\n" + "| --- " * (len(columns) + 2) + "|")
    for name in [*(name for name in CHORES if name in counts), "all"]:
        row = counts[name]
        print(f"| {name} | {row.total()} | {' | '.join(str(row[column] or '') for column in columns)} |")
    print()
    bad = [kill for kill in kills if kill.outcome in BAD]
    for kill in bad:
        line = CHORES[kill.command].line
        print(f"{kill.outcome}  {kill.command}: {kill.signal} after {kill.after:.2f} s: volumen {line}")
        print(f"    {kill.detail}")
        drawn = "".join(f" --{name} '{part}'" for name, part in (("only", only), ("signal", signals)) if part)
        print(f"    ./run bench kills --seed {seed} --number {kill.number}{drawn}")
    print(f"{len(bad)} harms in {len(kills)} kills")
    return len(bad)


def main() -> int:
    """Kill, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after this time with what there is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a command's name in the table")
    parser.add_argument("--signal", default="", help="part of a signal's name, such as 'to all'")
    parser.add_argument("--number", type=int, help="of one kill; the instant differs by what the machine does")
    parser.add_argument("--json", type=Path, help="write everything that was found")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"bad-days-{os.getuid()}")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    signals = [name for name in SIGNALS if options.signal in name]
    if not signals:
        parser.error(f"no signal's name has {options.signal} in it: they are {', '.join(SIGNALS)}")
    bench, kills, began = Bench(options.folder.resolve()), [], time.monotonic()
    for number in [options.number] if options.number is not None else range(options.kills):
        if time.monotonic() - began > options.seconds:
            break
        kills.append(bench.kill(number, options.seed, options.only, signals))
        print(f"{kills[-1].outcome:<16}{kills[-1].command}, {kills[-1].signal}", file=sys.stderr, flush=True)
    bad = print_report(kills, options.seed, options.only, options.signal)
    if options.json:
        found: list[dict[str, Any]] = [asdict(kill) for kill in kills]
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
