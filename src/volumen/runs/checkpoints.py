"""Checkpoint files: written whole or not at all, verified when read, and named by nobody but us.

A checkpoint holds tensors and primitives only and is read with `weights_only=True`, so that opening one never runs
code. It is made in memory, hashed, written beside its place, flushed and renamed; `manifest.json` then lists it. At no
instant does the manifest name a file that is not whole: the best one is a file of its own under a new name, and what
the manifest no longer lists is removed last. A manifest that is damaged or gone is made anew from the checkpoints.
"""

import hashlib
import io
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from volumen.errors import DamagedError, UserError
from volumen.files import write_atomically
from volumen.system.names import checked_name
from volumen.system.output import Warn, unheard
from volumen.system.records import read_bounded, read_record, write_record

KEEP_LATEST = 2
MANIFEST = "manifest.json"
LATEST, BEST, BEST_LOSS = "step", "best", "best_loss"
_FILE = re.compile(r"(step|best|best_loss)-(\d{8,18})\.pt")
_MOST_BYTES = 2**40
_REMOVED = "train again, or restore the file"


@dataclass(frozen=True)
class Entry:
    """A checkpoint file as the manifest knows it."""

    file: str
    sha256: str
    step: int
    epoch: int
    trusted: bool = True
    """Whether every file of the data had been verified when it was written."""


@dataclass(frozen=True)
class Manifest:
    """The last checkpoints, oldest first, and the best ones."""

    latest: tuple[Entry, ...] = ()
    best: Entry | None = None
    best_loss: Entry | None = None

    @property
    def files(self) -> set[str]:
        """Names of all that is listed."""
        return {entry.file for entry in (*self.latest, self.best, self.best_loss) if entry is not None}


@dataclass
class CheckpointStore:
    """The checkpoints of one run: the last two, the best by the selection metric, and the best by validation loss.

    The last one is kept to be compared with (`volumen select`); nothing is ever chosen by it.
    """

    folder: Path
    """`checkpoints/` of the run; made when the first checkpoint is saved."""
    owner: str = ""
    """The run's name for itself, in the manifest's check."""

    def save(
        self,
        state: dict[str, Any],
        *,
        step: int,
        epoch: int,
        best: bool,
        best_loss: bool = False,
    ) -> Path:
        """Write a state, list it, and drop the oldest beyond the last two; the best ones are kept beside.

        The state's `trusted` says whether every file of the data had been verified.

        Raises:
            OSError: No room; what was listed before still is, and is whole.
        """
        self.folder.mkdir(exist_ok=True)  # a run folder that was removed is not made again
        content = _serialised(state)
        digest = hashlib.sha256(content).hexdigest()
        listed = self.manifest()

        def write(kind: str) -> Entry:
            entry = Entry(f"{kind}-{step:08d}.pt", digest, step, epoch, bool(state.get("trusted", True)))
            write_atomically(self.folder / entry.file, content)
            return entry

        newest = write(LATEST)
        latest = (*(other for other in listed.latest if other.file != newest.file), newest)[-KEEP_LATEST:]
        listed = Manifest(
            latest, write(BEST) if best else listed.best, write(BEST_LOSS) if best_loss else listed.best_loss
        )
        self._write(listed)
        return self.folder / newest.file

    def load_latest(self, warn: Warn) -> dict[str, Any]:
        """The newest whole checkpoint; `warn` is told about each damaged file that is passed over.

        Raises:
            UserError: There is no whole checkpoint.
        """
        listed = self.manifest(warn)
        for entry in (*reversed(listed.latest), *([listed.best] if listed.best else [])):
            state = self._read(entry, warn)
            if state is not None:
                return state
        raise UserError(
            f"{self.folder} holds no whole checkpoint to resume from: start the run anew in another folder with --out"
        )

    def load_best(self, warn: Warn, name: str = BEST) -> dict[str, Any]:
        """The checkpoint with the best selection metric, or with the least validation loss (`best_loss`).

        Raises:
            UserError: There is none yet, or it is damaged.
        """
        listed = self.manifest(warn)
        entry = listed.best if name == BEST else listed.best_loss
        reasons: list[str] = []
        state = self._read(entry, reasons.append) if entry else None
        if state is None:
            why = f" ({'; '.join(reasons)})" if reasons else ""
            raise UserError(f"{self.folder} holds no whole {name} checkpoint{why}: use --which last")
        return state

    def is_empty(self) -> bool:
        """Whether there is nothing that could be gone on with or predicted with."""
        return not self.manifest().files

    def distrust(self) -> tuple[str, ...]:
        """Strike out what was written before the data were verified, since they turned out damaged; names of it."""
        listed = self.manifest()
        kept = Manifest(
            tuple(entry for entry in listed.latest if entry.trusted),
            *(entry if entry is not None and entry.trusted else None for entry in (listed.best, listed.best_loss)),
        )
        if kept != listed:
            self._write(kept)
        return tuple(sorted(listed.files - kept.files))

    def manifest(self, warn: Warn = unheard) -> Manifest:
        """What is listed; made anew from the checkpoints where the list is damaged or gone."""
        path = self.folder / MANIFEST
        try:
            if path.is_file():
                listed: Manifest = read_record(path, Manifest, "it is made anew", owner=self.owner)
                for file in listed.files:
                    _checked_file(file, path)
                return listed
        except UserError as error:
            warn(str(error))
        return self._found(warn)

    def _found(self, warn: Warn) -> Manifest:
        """The list of what lies in the folder and is whole."""
        found: dict[str, list[Entry]] = {LATEST: [], BEST: [], BEST_LOSS: []}
        for path in sorted(self.folder.glob("*.pt")) if self.folder.is_dir() else ():
            match = _FILE.fullmatch(path.name)
            if match is None:
                continue
            try:
                content = read_bounded(path, _REMOVED, _MOST_BYTES)
                state = read_state(content, path, sums=True)
            except UserError as error:
                warn(str(error))
                continue
            epoch = state.get("cursor", {}).get("epoch", 0) if isinstance(state.get("cursor"), dict) else 0
            if self.owner and state.get("run") != self.owner:
                warn(f"{path} is of another run and is not used: {_REMOVED}")
                continue
            entry = Entry(
                path.name, hashlib.sha256(content).hexdigest(), int(match[2]), epoch, bool(state.get("trusted"))
            )
            found[match[1]].append(entry)
        newest = {kind: entries[-1] if entries else None for kind, entries in found.items()}
        return Manifest(tuple(found[LATEST][-KEEP_LATEST:]), newest[BEST], newest[BEST_LOSS])

    def _read(self, entry: Entry, warn: Warn) -> dict[str, Any] | None:
        path = self.folder / entry.file
        if not path.is_file():
            warn(f"checkpoint {path} is gone; trying the one before it")
            return None
        try:
            content = read_bounded(path, _REMOVED, _MOST_BYTES)
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                warn(f"checkpoint {path} is damaged (its SHA-256 is not the recorded one); trying the one before it")
                return None
            return read_state(content, path)
        except DamagedError as error:
            warn(str(error))
            return None

    def _write(self, listed: Manifest) -> None:
        """Replace the list, then remove what it no longer holds."""
        write_record(self.folder / MANIFEST, asdict(listed), owner=self.owner)
        for path in self.folder.glob("*.pt"):
            if _FILE.fullmatch(path.name) and path.name not in listed.files:
                path.unlink(missing_ok=True)


def _checked_file(file: str, where: Path) -> None:
    if not _FILE.fullmatch(checked_name(file, "checkpoint", where)):
        raise DamagedError(f"{where} names {file!r}, which is no checkpoint of ours: it is made anew")


def _serialised(state: dict[str, Any]) -> bytes:
    # In memory first: PyTorch's own writer takes a full disk for a fault of its own.
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def read_state(content: bytes, name: object, *, sums: bool = False) -> dict[str, Any]:
    """The state in a checkpoint's bytes; no code in it is run, and nothing larger than the bytes is made of it.

    Args:
        content: The file.
        name: What errors call it.
        sums: Also compare the checksums of all its parts, where nobody knows the file's hash.

    Raises:
        DamagedError: It is no checkpoint, or a damaged one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise ValueError("it is compressed, which ours are not")
            if sum(part.file_size for part in parts) > len(content):
                raise ValueError("its parts are larger than the file")
            broken = archive.testzip() if sums else None
            if broken is not None:
                raise ValueError(f"the checksum of {broken} does not hold")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler and the zip reader raise what they like on damaged bytes
        what = (str(error).splitlines() or [""])[0]
        raise DamagedError(
            f"{name} is no checkpoint, or a damaged one ({type(error).__name__}: {what:.120}): {_REMOVED}"
        ) from error
    if not isinstance(state, dict):
        raise DamagedError(f"{name} is no checkpoint: it holds {type(state).__name__}, expected a state: {_REMOVED}")
    return state
