"""What do bad luck and vandals do? Seeded damages to every kind of file that volumen reads, and what its commands say.

    ./run bench damage [--seconds 600] [--cases N] [--seed 0] [--only KIND] [--json FILE] [--jobs 2] [--folder FOLDER]
    ./run bench damage --replay SEED:NUMBER

A small world of data set, runs, search, bundles, predictions and scores is built once by the public commands. Then
file, damage and commands are drawn; each command runs in a process of its own that may crash, hang or eat memory, and
its numbers are held against those of the whole world. Exit code 1 where a case is bad: a number changed in silence, an
error that no user made, a hang, more memory than a few gigabytes, or a file changed outside of the given folders.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bad_days import damages
from bad_days.commands import COMMANDS, kind_of, readers_of
from bad_days.judging import BAD, BROKEN, EXPLAINED, GOOD, Case, judge
from bad_days.running import SHORTEST_LIMIT, Outcome, run_forked, run_here, warm
from bad_days.world import Room, open_room

LOOKING_SHARE = 0.3
TRIES = 1000  # until a damage fits the file that was drawn


@dataclass(frozen=True)
class Found:
    """What a command made of a damage."""

    number: int
    kind: str
    path: str
    damage: str
    command: str
    outcome: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Drawn:
    """A damage that can be done again and again, always the same."""

    target: damages.Target
    name: str
    words: str
    state: Any
    commands: tuple[str, ...]

    def do(self) -> None:
        """Do it, in a room that is as it should be."""
        damages.do(self.name, self.target, generator_of(self.state))


def generator_of(state: Any) -> Any:
    """A generator that goes on from a state."""
    import numpy as np

    random = np.random.default_rng(0)
    random.bit_generator.state = state
    return random


class Lane:
    """A room, the results of the undamaged world in it, and the damages that are done to it."""

    def __init__(self, folder: Path, number: int, only: str) -> None:
        self.run = warm()
        self.room: Room = open_room(folder, number, self.run)
        self.only = only
        self.kinds: dict[str, list[str]] = {}
        for path in self.room.files():
            if any(readers_of(path)):
                self.kinds.setdefault(kind_of(path), []).append(path)
        self.before: dict[str, Outcome] = {}

    def whole(self, name: str) -> Outcome:
        """A command's outcome in the undamaged world."""
        if name not in self.before:
            run_here(self.run, COMMANDS[name], self.room.world)
            self.room.restore()
            outcome = run_forked(self.run, COMMANDS[name], self.room.world, 300)
            self.room.restore()
            self.before[name] = outcome
        return self.before[name]

    def learn(self) -> list[Found]:
        """Run every command in the undisturbed world; those that fail there, which are tried no more."""
        broken = []
        for name in COMMANDS:
            outcome = self.whole(name)
            if outcome.code != 0:
                said = f"exit code {outcome.code} {outcome.ended_by}: {outcome.error.strip()[-400:]}"
                broken.append(Found(-1, "undisturbed", "", "none", name, BROKEN, said, outcome.seconds))
                del self.before[name]
        self.kinds = {kind: paths for kind, paths in self.kinds.items() if self._known(paths[0])}
        return broken

    def _known(self, path: str) -> bool:
        return any(name in self.before for names in readers_of(path) for name in names)

    def draw(self, seed: int, number: int) -> Drawn:
        """The damage of a number."""
        import numpy as np

        random = np.random.default_rng([seed, number])
        kinds, names = sorted(self.kinds), sorted(damages.DAMAGES)
        if self.only:
            kinds = [kind for kind in kinds if self.only in kind] or kinds
            names = [name for name in names if self.only in name] or names
        for _ in range(TRIES):
            files = self.kinds[kinds[random.integers(len(kinds))]]
            target = damages.Target(self.room, files[random.integers(len(files))])
            name = names[random.integers(len(names))]
            state = random.bit_generator.state
            words = damages.do(name, target, random)
            self.room.restore()
            if words:
                return Drawn(target, name, words, state, self._commands(target.path, random))
        raise SystemExit(f"no damage fits --only {self.only}: name a kind of file or of damage")

    def _commands(self, path: str, random: Any) -> tuple[str, ...]:
        """All quick commands that open the file, one of the dear ones; at times one that may only look at it."""
        knowing, unknowing = readers_of(path)
        names = [name for name in (*knowing, *unknowing) if name in self.before]
        opening = [name for name in names if path in self.before[name].opened]
        looking = [name for name in names if name not in opening]
        quick = [name for name in opening if not COMMANDS[name].dear]
        dear = [name for name in opening if COMMANDS[name].dear]
        chosen = [*quick, *([dear[random.integers(len(dear))]] if dear else [])]
        if looking and (not chosen or random.random() < LOOKING_SHARE):
            chosen.append(looking[random.integers(len(looking))])
        return tuple(chosen)

    def case(self, seed: int, number: int) -> list[Found]:
        """Do a damage and see what every command that reads the file says of it."""
        drawn = self.draw(seed, number)
        return [self._one(number, drawn, name)[0] for name in drawn.commands]

    def _one(self, number: int, drawn: Drawn, name: str, *, leave: bool = False) -> tuple[Found, Outcome]:
        before, path = self.whole(name), drawn.target.path
        drawn.do()
        damaged = self.room.now()
        after = run_forked(self.run, COMMANDS[name], self.room.world, SHORTEST_LIMIT + 10 * before.seconds)
        changes = self.room.harmed(damaged)
        if not leave:
            self.room.restore()
        case = Case(path, drawn.words, name in readers_of(path)[1], path in damages.FORGED)
        outcome, detail = judge(case, COMMANDS[name], before, after, changes)
        return Found(number, kind_of(path), path, drawn.words, name, outcome, detail, after.seconds), after

    def replay(self, seed: int, number: int, command: str) -> None:
        """Do a damage again, say all that came of it, and leave the last command's room as it was then."""
        drawn = self.draw(seed, number)
        names = [name for name in drawn.commands if command in ("", name)]
        for name in names:
            self.room.restore()
            found, after = self._one(number, drawn, name, leave=True)
            print(f"{found.path}: {found.damage}\n$ volumen {COMMANDS[name].line}\n{after.out}{after.error}")
            print(f"exit code {after.code} {after.ended_by}\n{found.outcome}: {found.detail}\n")
        print(f"the damaged world: {self.room.world}\nas it should be:   {self.room.pristine}")


def work(options: argparse.Namespace, number: int) -> int:
    """A lane's cases, one line of JSON for each that is judged."""
    lane = Lane(options.folder, number, options.only)
    broken = lane.learn()
    if options.replay:
        seed, _, case = options.replay.partition(":")
        lane.replay(int(seed), int(case), options.command)
        return 0
    began, case, before = time.monotonic(), number, sum(os.times()[2:4])
    with (options.folder / f"found-{number}.jsonl").open("w") as stream:
        for found in broken if number == 0 else ():
            stream.write(json.dumps(asdict(found)) + "\n")
        while case < options.cases and time.monotonic() - began < options.seconds:
            for found in lane.case(options.seed, case):
                stream.write(json.dumps(asdict(found)) + "\n")
            stream.flush()
            case += options.jobs
    seconds, done = time.monotonic() - began, len(range(number, case, options.jobs))
    used = sum(os.times()[2:4]) - before  # by the commands; other lanes and programs want processors as well
    print(f"lane {number}: {done} damages in {seconds:.0f} s, {used:.0f} s of a processor", flush=True)
    return 0


def table(found: list[dict[str, Any]]) -> str:
    """Kinds of files by outcomes, in numbers of commands."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        counts[one["kind"]][one["outcome"]] += 1
        counts["all"][one["outcome"]] += 1
    columns = [name for name in (*GOOD, *BAD) if counts["all"][name] or name in BAD]
    lines = [f"| file | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for kind in [*sorted(set(counts) - {"all"}), "all"]:
        lines.append(f"| {kind} | {' | '.join(str(counts[kind][name] or '') for name in columns)} |")
    return "\n".join(lines)


def print_report(found: list[dict[str, Any]], options: argparse.Namespace) -> int:
    """The table, and every bad case with a command that does it again; the number of bad cases."""
    damaged = len({one["number"] for one in found} - {-1})
    print(f"\n{damaged} damages, {len(found)} commands, seed {options.seed}\n\n{EXPLAINED}\n\n{table(found)}\n")
    bad = [one for one in found if one["outcome"] in BAD]
    for one in bad:
        if one["outcome"] == BROKEN:
            print(f"{BROKEN}  volumen {COMMANDS[one['command']].line}\n    {one['detail']}")
    replayed = [one for one in bad if one["outcome"] != BROKEN]
    for one in sorted(replayed, key=lambda one: (BAD.index(one["outcome"]), one["kind"], one["number"])):
        print(f"{one['outcome']}  {one['path']}: {one['damage']}; volumen {COMMANDS[one['command']].line}")
        print(f"    {one['detail']}")
        jobs = f" --jobs {options.jobs}" if options.jobs != 2 else ""
        only = f" --only '{options.only}'" if options.only else ""
        again = f"{options.seed}:{one['number']}{jobs}{only} --command '{one['command']}'"
        print(f"    ./run bench damage --replay {again}")
    print(f"{len(bad)} bad of {len(found)}")
    return len(bad)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for the damages; building the world comes before")
    parser.add_argument("--cases", type=int, default=10**9, help="at most this many damages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a kind of file or of a damage's name")
    parser.add_argument("--json", type=Path, help="write everything that was found")
    parser.add_argument("--jobs", type=int, default=2, help="damages at a time, each in a world of its own")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / f"bad-days-{os.getuid()}")
    parser.add_argument("--replay", default="", help="SEED:NUMBER of a case, with the --jobs and --only it was found")
    parser.add_argument("--command", default="", help="of a replayed case, only this command")
    parser.add_argument("--lane", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    return options


def main() -> int:
    """Work in lanes, gather, print; 1 where something is bad."""
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.replay:
        return work(options, int(options.replay.partition(":")[2]) % options.jobs)
    if options.lane is not None:
        return work(options, options.lane)
    for old in options.folder.glob("found-*.jsonl"):
        old.unlink()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(options.folder)}
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(options.folder)]
    lanes = [subprocess.Popen([*command, "--lane", str(lane)], env=environment) for lane in range(options.jobs)]
    try:
        codes = [lane.wait() for lane in lanes]
    finally:
        for lane in lanes:
            lane.terminate()
    found = []
    for path in sorted(options.folder.glob("found-*.jsonl")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    bad = print_report(sorted(found, key=lambda one: one["number"]), options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if not found:
        print("nothing was tried: that is no result", file=sys.stderr)
    return 1 if bad or any(codes) or not found else 0


if __name__ == "__main__":
    sys.exit(main())
