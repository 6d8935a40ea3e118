"""A small world of every file that volumen reads, made by its commands, and restored after each damage.

A room is a folder with the world in it, canaries around it and at every level (`victim.*`), and a copy of all that,
which nobody touches. What a command changed is found by the files' ctime, which no program can set back.
"""

import hashlib
import os
import shlex
import shutil
import signal
import stat
import threading
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bad_days.commands import BASE, BUILD, TINY, TRAIN_STOPPED, Run

CANARIES = tuple(f"victim{ending}" for ending in ("", ".json", ".tif", ".npy", ".pt", ".png", ".yaml", ".csv"))
Mark = tuple[int, int, int]


@dataclass
class Room:
    """A world with its surroundings, and the means to put both back as they were."""

    root: Path
    marks: dict[str, Mark] = field(default_factory=dict)

    @property
    def world(self) -> Path:
        """The folder that commands run in."""
        return self.root / "room" / "around" / "world"

    @property
    def pristine(self) -> Path:
        """The untouched copy of the world."""
        return self.root / "pristine" / "around" / "world"

    def files(self) -> list[str]:
        """The world's files, relative, without canaries."""
        found = (path for path in self.pristine.rglob("*") if path.is_file() and path.name not in CANARIES)
        return sorted(str(path.relative_to(self.pristine)) for path in found)

    def now(self) -> dict[str, Mark]:
        """Marks of the room as it is."""
        return marks_of(self.root / "room")

    def changes(self, since: dict[str, Mark]) -> dict[str, str]:
        """What was made, changed or removed since then, relative to the room."""
        now = self.now()
        changed = {name: "changed" if name in since else "made" for name in now if since.get(name) != now[name]}
        return changed | {name: "removed" for name in since if name not in now}

    def harmed(self, since: dict[str, Mark]) -> dict[str, str]:
        """Those of the changes that are more than a hard link or another mode."""
        return {
            name: what for name, what in self.changes(since).items() if what != "changed" or not self._is_whole(name)
        }

    def _is_whole(self, name: str) -> bool:
        """A hard link to a file, or its mode, changes its ctime and not its content."""
        file, copy = self.root / "room" / name, self.root / "pristine" / name
        regular = stat.S_ISREG(file.lstat().st_mode) and copy.is_file()
        return (
            regular and file.lstat().st_mtime_ns == copy.stat().st_mtime_ns and file.read_bytes() == copy.read_bytes()
        )

    def restore(self) -> None:
        """Put back what was changed."""
        room, copy = self.root / "room", self.root / "pristine"
        changes = self.changes(self.marks)
        for name in sorted(changes, reverse=True):  # what is inside a folder before the folder
            if os.path.lexists(room / name):
                remove(room / name)
        for name in sorted(changes):
            source, target = copy / name, room / name
            if source.is_dir():
                target.mkdir(exist_ok=True)
            elif source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        for name in changes:
            if os.path.lexists(room / name):
                self.marks[name] = mark_of(room / name)
            else:
                self.marks.pop(name, None)

    def suspect(self, path: str) -> None:
        """Have a file of the world restored, whatever its marks say: ctime goes in steps of some milliseconds."""
        self.marks[f"around/world/{path}"] = (-2, -2, -2)

    def begin(self) -> None:
        """Lay the room out anew from the copy."""
        shutil.rmtree(self.root / "room", ignore_errors=True)
        shutil.copytree(self.root / "pristine", self.root / "room")
        self.marks = marks_of(self.root / "room")


def mark_of(path: Path) -> Mark:
    """What changes when a file is written, replaced, or given other times; of a folder, that it is there."""
    found = path.lstat()
    return (-1, -1, -1) if path.is_dir() and not path.is_symlink() else (found.st_ino, found.st_size, found.st_ctime_ns)


def marks_of(folder: Path) -> dict[str, Mark]:
    """Marks of all that is below a folder."""
    marks = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            with suppress(FileNotFoundError):  # a command that runs renames and removes
                marks[str(path.relative_to(folder))] = mark_of(path)
    return marks


def remove(path: Path) -> None:
    """A file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def code_identity() -> str:
    """Changes with volumen's code and with the world's recipe: a world of other code is built anew."""
    import volumen

    digest = hashlib.sha256()
    own = Path(__file__).parent
    for path in (*sorted(Path(volumen.__file__).parent.rglob("*.py")), own / "world.py", own / "commands.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def open_room(folder: Path, number: int, run: Run) -> Room:
    """The room of a lane, built where there is none of this code yet.

    Args:
        folder: Where rooms are kept from one time to the next.
        number: Of the lane; each has a room of its own.
        run: `volumen.cli.main.run`.
    """
    room = Room(folder / f"world-{code_identity()}-{number}")
    if not (room.root / "whole").is_file():
        shutil.rmtree(room.root, ignore_errors=True)
        room.world.mkdir(parents=True)
        with (room.root / "log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
            build(room.world, run)
        plant_canaries(room)
        shutil.copytree(room.root / "room", room.root / "pristine")
        (room.root / "whole").write_text("")
    room.begin()
    return room


def build(world: Path, run: Run) -> None:
    """Make the world by the commands a person types, in this process.

    Raises:
        RuntimeError: A command failed.
    """
    before = Path.cwd()
    os.chdir(world)
    try:
        Path("config.yaml").write_text(TINY)
        Path("base.yaml").write_text(BASE)
        for line in BUILD:
            _run(run, line)
            if line.startswith("phantom"):
                _compress_differently()
        _train_and_stop(run)
        _write_scored()
        Path("submission.zip").unlink()  # the masks are kept; the zip would have to be overwritten
        Path("new").mkdir()
    finally:
        os.chdir(before)


def _run(run: Run, line: str) -> None:
    code = run(shlex.split(line))
    if code not in (0, None):
        log = Path.cwd().parents[2] / "log"  # beside the room
        raise RuntimeError(f"the small world cannot be built: `volumen {line}` ended with exit code {code}: see {log}")


def _compress_differently() -> None:
    """TIFF as people have them: uncompressed, LZW and deflate."""
    import tifffile

    kinds = ("lzw", "zlib", None)
    for folder in ("train_images", "train_labels", "test_images"):
        for number, path in enumerate(sorted(Path("raw", folder).glob("*.tif"))):
            array = tifffile.imread(path)
            tifffile.imwrite(path, array, compression=kinds[number % 3], photometric="minisblack")


def _train_and_stop(run: Run) -> None:
    """A training that was asked to stop after its first checkpoint."""
    finished = threading.Event()

    def stop() -> None:
        while not finished.is_set():
            if any(Path("stopped").glob("checkpoints/*.pt")):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.001)

    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        code = run([*shlex.split(TRAIN_STOPPED), "-o", "training.epochs=3"])
    finally:
        finished.set()
        watcher.join()
    if code != 75:
        raise RuntimeError(f"the training that was to be stopped ended with exit code {code}, expected 75")


def _write_scored() -> None:
    """The masks of `trained` as the kinds of files that `score` reads."""
    import numpy as np
    import tifffile
    import zarr

    Path("scored").mkdir()
    for number, path in enumerate(sorted(Path("trained").glob("*.tif"))):
        mask = tifffile.imread(path)
        target = Path("scored") / path.stem
        if number % 4 == 0:
            np.save(target.with_suffix(".npy"), mask)
        elif number % 4 == 1:
            np.savez_compressed(target.with_suffix(".npz"), mask=mask)
        elif number % 4 == 2:
            zarr.save_array(str(target.with_suffix(".zarr")), mask)
        else:
            shutil.copy(path, target.with_suffix(".tif"))


def plant_canaries(room: Room) -> None:
    """Files that no command was given, where hostile names would lead."""
    inside = [path for path in room.world.rglob("*") if path.is_dir() and len(path.relative_to(room.world).parts) < 2]
    for folder in (room.world.parent.parent, room.world.parent, room.world, *inside):
        if folder.name in ("scored", "new"):
            continue
        if folder.parent.name in ("raw", "Dataset001_Phantom", "scored") or folder.name in ("masks", "trained"):
            continue  # a command that is given a folder of volumes may well look at all of them
        for name in CANARIES:
            (folder / name).write_bytes(b"a victim\n")
