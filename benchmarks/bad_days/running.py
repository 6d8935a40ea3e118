"""A command in a process of its own that may crash, hang or eat memory: forked from one that has imported everything.

Torch works with one thread, so that a fork is safe; nothing of the command survives it.
"""

import hashlib
import json
import os
import re
import resource
import shlex
import signal
import sys
import time
import zipfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bad_days.commands import Command, Run

SHORTEST_LIMIT = 12.0
"""Seconds; ten times what the command usually takes are added."""
NO_RESULT = ("victim", ".partial-", ".lock-")
"""Beginnings of the names of files that are no result: canaries, what is looked for on its own, locks."""
MEMORY_BYTES = 3 * 2**30
"""Of addresses, beyond what the process has before the command."""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int | None
    """Exit code; None where it did not end by itself."""
    ended_by: str
    """`""`, `hang`, or the signal that killed it."""
    out: str
    error: str
    seconds: float
    result: dict[str, str] = field(default_factory=dict)
    """Hash by name of what counts as a number."""
    text: str = ""
    """All that a person reads of it, normalised: what it printed, and the pages it made."""
    opened: frozenset[str] = frozenset()
    """Files of the world that its Python code opened, copied or linked; not those that its workers did."""


def warm() -> Run:
    """Import what commands import, with one thread; returns `volumen.cli.main.run`.

    SIGTERM ends this process by an exception from now on, so that it leaves nothing behind.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    let_children_hear()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["COLUMNS"] = "200"
    import torch

    torch.set_num_threads(1)
    from volumen.cli.main import run

    return run


def let_children_hear() -> None:
    """Start commands that hear every signal, also where this process was started to ignore some (`nohup`, `&`).

    What is ignored stays so in every child; what has a handler, if one that does nothing, begins anew there.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP, signal.SIGTERM))


def run_here(run: Run, command: Command, world: Path) -> None:
    """Run a command in this process, so that those that are forked from it find all imported and compiled."""
    before = Path.cwd()
    os.chdir(world)
    try:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            exit_code_of(run, command)
    finally:
        os.chdir(before)


def run_forked(run: Run, command: Command, world: Path, limit: float, scratch: Path | None = None) -> Outcome:
    """Run a command in the world and look at what it left there; whatever it started is ended.

    Args:
        run: `volumen.cli.main.run`.
        command: What to run.
        world: Where.
        limit: Seconds.
        scratch: Folder for what it prints; beside the room otherwise.
    """
    scratch = scratch or world.parent.parent.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        _be_the_command(run, command, world, scratch)
    try:
        status = _wait(process, began + limit)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)
    seconds = time.monotonic() - began
    out, error = ((scratch / name).read_text(errors="replace") for name in ("out", "error"))
    if status is None:
        return Outcome(None, "hang", out, error, seconds)
    if os.WIFSIGNALED(status):
        return Outcome(None, signal.Signals(os.WTERMSIG(status)).name, out, error, seconds)
    found = json.loads((scratch / "result").read_text())
    text = "\n".join((normalised(out, world), normalised(error, world), *found["texts"]))
    code, opened = os.waitstatus_to_exitcode(status), frozenset(found["opened"])
    return Outcome(code, "", out, error, seconds, found["result"], text, opened)


def _wait(process: int, until: float) -> int | None:
    """The status of a process, or None where it had to be killed."""
    pause = 0.001
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _be_the_command(run: Run, command: Command, world: Path, scratch: Path) -> None:
    """Never returns: the rest of a forked process."""
    code = 99
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number, name in ((0, os.devnull), (1, scratch / "out"), (2, scratch / "error")):
            flags = os.O_RDONLY if number == 0 else os.O_CREAT | os.O_TRUNC | os.O_WRONLY
            os.dup2(os.open(name, flags, 0o644), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        (scratch / "result").write_text('{"result": {}, "texts": [], "opened": []}')
        os.chdir(world)
        limit_memory()
        opened = note_opened(world)
        code = exit_code_of(run, command)
        sys.stdout.flush()
        read = sorted(opened)
        found = result_of(command, world, (scratch / "out").read_text(errors="replace")) if code == 0 else ({}, [])
        (scratch / "result").write_text(json.dumps({"result": found[0], "texts": found[1], "opened": read}))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def note_opened(world: Path) -> set[str]:
    """From now on, the paths below the world that this process opens, copies or links."""
    opened: set[str] = set()
    root = os.path.realpath(world) + os.sep

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.link", "shutil.copyfile") and isinstance(arguments[0], str | os.PathLike):
            path = os.path.realpath(os.fspath(arguments[0]))
            if isinstance(path, str) and path.startswith(root):
                opened.add(path.removeprefix(root))

    sys.addaudithook(note)
    return opened


def exit_code_of(run: Run, command: Command) -> int:
    """The exit code that a shell would see."""
    try:
        return run(shlex.split(command.line)) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def limit_memory() -> None:
    """Let the process have no more than a few gigabytes beyond what it has."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def result_of(command: Command, world: Path, out: str) -> tuple[dict[str, str], list[str]]:
    """Hashes of a command's numbers, and the pages that a person would read."""
    result, texts = {}, []
    for part in command.result:
        kind, _, place = part.partition(":")
        if kind == "out":
            result[part] = _hash("\n".join(line for line in normalised(out, world).splitlines() if not is_remark(line)))
        elif kind == "text":
            texts.append(normalised((world / place).read_text(errors="replace"), world))
            result[part] = _hash(texts[-1])
        elif kind == "weights":
            result[part] = _weights(world / place)
        elif kind == "identity":
            result[part] = _identity(world / place)
        elif kind == "zip":
            with zipfile.ZipFile(world / place) as archive:
                result[part] = _hash("".join(f"{name} {_hash(archive.read(name))}\n" for name in archive.namelist()))
        else:
            result[part] = _hash("".join(_tree(world, world / place, masks=kind == "masks")))
    return result, texts


def is_remark(line: str) -> bool:
    """Whether a line says something of the numbers and is none of them."""
    return line.lstrip().startswith(("note:", "warning:"))


def _tree(world: Path, folder: Path, *, masks: bool) -> list[str]:
    """Name and hash of each file in a folder; of masks, their voxels alone."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(NO_RESULT)):
        name = path.relative_to(folder)
        if masks:
            if path.suffix == ".tif":
                lines.append(f"{name} {_voxels(path)}\n")
        elif path.suffix in (".json", ".csv", ".yaml", ".jsonl"):
            lines.append(f"{name} {_hash(normalised(path.read_text(errors='replace'), world))}\n")
        else:
            lines.append(f"{name} {_hash(path.read_bytes())}\n")
    return lines


def _voxels(path: Path) -> str:
    import tifffile

    try:
        return _hash(tifffile.imread(path).tobytes())
    except Exception:  # a mask that nobody can read is another one than before
        return _hash(path.read_bytes())


def _identity(bundle: Path) -> str:
    from volumen.inference.bundle import read_bundle

    return str(read_bundle(bundle).identity)


def _weights(run: Path) -> str:
    from volumen.runs.run import load_for_inference

    model, _ = load_for_inference(run, "last")
    state: dict[str, Any] = model.state_dict()
    return _hash("".join(f"{name} {_hash(state[name].numpy().tobytes())}\n" for name in sorted(state)))


def _hash(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


_TIMES = (
    (re.compile(r"\b\d+(\.\d+)?(e-?\d+)? ?(s|ms|min|h|seconds|minutes|MB|GB|kB|MB/s)\b"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?Z?"), "DATE"),
    (re.compile(r'("[^"]*(seconds|time|memory|process|since|pid|check|peak)[^"]*": ?)[^,}\n\]]+'), r"\1X"),
)


def normalised(text: str, world: Path) -> str:
    """Text without what differs from one time to the next: places, times, memory."""
    for place in (world.resolve(), world):
        text = text.replace(str(place), "WORLD")
    for pattern, instead in _TIMES:
        text = pattern.sub(instead, text)
    return text
